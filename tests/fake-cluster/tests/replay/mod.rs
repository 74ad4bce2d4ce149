//! Plays the client side of a recording against the pretend cluster and compares what comes
//! back. The client's next frame is sent once everything has come that came before it in the
//! recording, so no time is measured and nothing sleeps.

pub mod peer;
pub mod recording;
pub mod screen;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fake_cluster::{Behaviour, Facts, FakeCluster, Mode, Options, Rights, Session};
use peer::{Peer, soon};
use recording::{Event, Recorded, Side};

/// Values that no two responses share.
const VARYING: [&str; 4] = ["Audit-Id", "Date", "Etag", "Sec-WebSocket-Accept"];

/// Replays `NAME`, or in API server mode `NAME.apiserver-mode`.
pub async fn replay(name: &str, mode: Mode) {
    let file = match mode {
        Mode::Kubelet => name.to_owned(),
        Mode::ApiServer => format!("{name}.apiserver-mode"),
    };
    let events = recording::read(&file);
    let kubelet_down = name == "new_session_while_kubelet_down";
    let behaviour = Behaviour { mode, kubelet_down, ..Behaviour::default() };
    let cluster = FakeCluster::start(Options { behaviour, ..Options::default() }).await.unwrap();
    match name {
        "rbac_get_only" => cluster.set_rights("nobody", Rights::of(&[("get", "pods/exec")])),
        "rbac_create_only" => cluster.set_rights("nobody", Rights::of(&[("create", "pods/exec")])),
        _ => {}
    }
    let replay = Replay {
        peer: Peer::connect(&cluster).await,
        cluster,
        user: user_of(name),
        tty: false,
        expected: Vec::new(),
        sizes: 0,
        totals: Vec::new(),
        left: None,
        aborted: false,
        sent: 0,
        said_close: false,
    };
    replay.run(&events).await;
}

/// Tokens are not in the recordings; whose they were, their names tell.
fn user_of(name: &str) -> &'static str {
    match name {
        "forbidden" | "forbidden_missing_pod" | "rbac_get_only" | "rbac_create_only" => "nobody",
        "execer_allowed" | "execer_missing_pod" => "execer",
        "unauthenticated_bad_token" => "",
        _ => "admin",
    }
}

struct Replay {
    cluster: FakeCluster,
    peer: Peer,
    user: &'static str,
    tty: bool,
    /// The server's frames in the recording so far.
    expected: Vec<Recorded>,
    /// How many sizes the terminal must have taken so far.
    sizes: usize,
    totals: Vec<(u8, u64)>,
    left: Option<Vec<String>>,
    aborted: bool,
    /// Frames sent, of which the last one may be a Close.
    sent: u64,
    said_close: bool,
}

impl Replay {
    async fn run(mut self, events: &[Event]) {
        let mut server_closed = false;
        let mut ended = false;
        for event in events {
            match event {
                Event::Request { line, headers } => self.request(line, headers).await,
                Event::Response { line, headers } => self.response(line, headers).await,
                Event::Body(body) => assert_eq!(&self.peer.body(body.len()).await, body),
                Event::Frame(Side::Server, frame) => {
                    server_closed |= frame.opcode == 8;
                    self.expected.push(frame.clone());
                }
                // A Close that came too late for the recorder's server is not sent.
                Event::Frame(Side::Client, _) if server_closed => {}
                Event::Frame(Side::Client, frame) => self.client(frame).await,
                Event::Disruption => {
                    self.catch_up().await;
                    self.cluster.cut();
                }
                Event::Abort => {
                    self.catch_up().await;
                    self.aborted = true;
                }
                Event::Eof(side) if !ended => {
                    ended = true;
                    self.end(*side).await;
                }
                Event::Totals(totals) => self.totals.clone_from(totals),
                Event::Left(names) => self.left = Some(names.clone()),
                Event::Eof(_) | Event::Reset => {}
            }
        }
        self.compare();
        self.processes().await;
    }

    async fn request(&mut self, line: &str, headers: &[(String, String)]) {
        self.tty = line.contains("tty=true");
        let token = match self.user {
            "" => "wrong".to_owned(),
            user => self.cluster.token(user),
        };
        let mut head = format!("{line}\r\n");
        for (name, value) in headers {
            let value = match name.as_str() {
                "Host" => self.cluster.addr().to_string(),
                "Sec-WebSocket-Protocol" => {
                    value.replace("<redacted>", &URL_SAFE_NO_PAD.encode(&token))
                }
                _ => value.replace("<redacted>", &token),
            };
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.peer.send(format!("{head}\r\n").as_bytes()).await;
    }

    async fn response(&mut self, line: &str, headers: &[(String, String)]) {
        let (got_line, got_headers) = soon("the response", self.peer.head()).await;
        assert_eq!(got_line, line);
        let steady = |headers: &[(String, String)]| -> Vec<(String, String)> {
            let steady = |(name, value): &(String, String)| {
                let value = if VARYING.contains(&name.as_str()) { "*" } else { value };
                (name.clone(), value.to_owned())
            };
            let mut headers: Vec<_> = headers.iter().map(steady).collect();
            // The order says nothing.
            headers.sort();
            headers
        };
        assert_eq!(steady(&got_headers), steady(headers));
    }

    async fn client(&mut self, frame: &Recorded) {
        self.catch_up().await;
        let payload = frame.bytes();
        self.peer.frame(frame.opcode, frame.fin, frame.masked, &payload).await;
        self.sent += 1;
        self.said_close |= frame.opcode == 8;
        if self.tty && frame.opcode < 8 && payload.first() == Some(&4) {
            self.size(&payload[1..]).await;
        }
    }

    /// A size is applied beside the input, which may overtake it; wait as the recorder did.
    async fn size(&mut self, json: &[u8]) {
        let session = self.session().await;
        if session.facts().wedged || self.wedging(json) {
            return;
        }
        let Ok(size) = serde_json::from_slice::<serde_json::Value>(json) else { return };
        let side = |name: &str| size[name].as_u64().or(size[&name.to_lowercase()].as_u64());
        let fits = |side: Option<u64>| side.is_some_and(|side| (1..65536).contains(&side));
        if fits(side("Width")) && fits(side("Height")) {
            self.sizes += 1;
            let wanted = self.sizes;
            // A process that is over takes no size, and its session need not wait for one.
            let over = |facts: &Facts| facts.sizes.len() >= wanted || facts.exit_code.is_some();
            let applied = session.until(|facts| over(facts).then_some(()));
            soon("the size", applied).await;
        }
    }

    /// After a malformed size nothing is applied any more.
    fn wedging(&mut self, json: &[u8]) -> bool {
        let good = serde_json::from_slice::<serde_json::Value>(json)
            .is_ok_and(|size| size["Width"].as_u64().unwrap_or(0) < 65536);
        if !good {
            self.sizes = usize::MAX;
        }
        self.sizes == usize::MAX
    }

    async fn session(&self) -> Session {
        soon("the session", self.cluster.session(0)).await
    }

    /// Waits until everything has come that the recording has up to here.
    async fn catch_up(&mut self) {
        let (expected, tty) = (&self.expected, self.tty);
        let wanted: Vec<(u8, String)> =
            [1, 2, 3].map(|channel| (channel, text(&recorded(expected, channel), tty))).to_vec();
        let controls = expected.iter().filter(|frame| frame.opcode >= 8).count();
        let frames = usize::from(!expected.is_empty());
        let came = |peer: &Peer| {
            peer.frames.len() >= frames
                && peer.controls().len() >= controls
                && wanted
                    .iter()
                    .all(|(channel, wanted)| text(&peer.channel(*channel), tty) == *wanted)
        };
        // Long output is compared by its length at the end.
        if expected.iter().all(|frame| frame.payload.is_some()) {
            self.peer.until(&format!("{wanted:#?}"), came).await;
        }
    }

    async fn end(&mut self, side: Side) {
        if side == Side::Client && !self.expected.iter().any(|frame| frame.opcode == 8) {
            self.catch_up().await;
            if self.said_close {
                // A Close without an answer: the server had stopped reading for good.
                let session = self.session().await;
                soon("the wedge", session.until(|facts| facts.wedged.then_some(()))).await;
                assert!(session.facts().frames_total < self.sent);
            }
            return;
        }
        if !self.aborted {
            self.peer.until_end().await;
        }
    }

    fn compare(&self) {
        let first = |frames: &[u8]| frames.first().copied();
        if let Some(frame) = self.expected.first() {
            assert_eq!(Some(&self.peer.frames[0].payload), frame.payload.as_ref(), "first frame");
        }
        for frame in &self.peer.frames {
            assert!(frame.fin && !frame.masked && frame.payload.len() <= 32 * 1024 + 1);
        }
        let data = |opcode: u8| self.expected.iter().any(|frame| frame.opcode == opcode);
        assert!(self.peer.frames.iter().all(|frame| frame.opcode >= 8 || data(frame.opcode)));
        let got: Vec<_> =
            self.peer.controls().iter().map(|f| (f.opcode, f.payload.clone())).collect();
        let controls = self.expected.iter().filter(|frame| frame.opcode >= 8);
        let wanted: Vec<_> = controls.map(|f| (f.opcode, f.payload.clone().unwrap())).collect();
        assert_eq!(got, wanted, "control frames");
        if data(1) {
            // base64: the channels are digits and the frames text.
            for channel in [b'1', b'2', b'3'] {
                assert_eq!(self.peer.channel(channel), recorded(&self.expected, channel));
            }
            return;
        }
        let whole = self.expected.iter().all(|frame| frame.payload.is_some());
        for channel in [1, 2, 3] {
            let got = self.peer.channel(channel);
            let total = self.totals.iter().find(|(number, _)| *number == channel);
            if whole || channel == 3 {
                let wanted = recorded(&self.expected, channel);
                assert_eq!(text(&got, self.tty), text(&wanted, self.tty), "channel {channel}");
            } else {
                assert_eq!(got.len() as u64, total.map_or(0, |(_, bytes)| *bytes));
            }
        }
        // Output, status, Close: in this order, and nothing behind.
        let order = |frame: &peer::Frame| match (frame.opcode, first(&frame.payload)) {
            (8, _) => 3,
            (0..8, Some(3)) if frame.payload.len() > 1 => 2,
            (0..8, _) => 1,
            _ => 0,
        };
        let order: Vec<u8> = self.peer.frames.iter().map(order).filter(|rank| *rank > 0).collect();
        assert!(order.is_sorted(), "{order:?}");
    }

    /// Who has left does not take the process along, except where the recording says so.
    async fn processes(self) {
        let Some(left) = self.left.clone() else { return };
        let session = self.session().await;
        if self.aborted {
            self.peer.abort();
        } else {
            drop(self.peer);
        }
        soon("the end of the session", session.until(|facts| facts.closed.then_some(()))).await;
        if left.is_empty() {
            soon("the end of the process", session.until(|facts| facts.exit_code)).await;
            return;
        }
        let pid = session.facts().pid.expect("a process");
        let named = async {
            loop {
                // Between its birth and its program a process has no name.
                match std::fs::read(format!("/proc/{pid}/cmdline")).unwrap() {
                    none if none.is_empty() => tokio::task::yield_now().await,
                    words => break String::from_utf8(words).unwrap().replace('\0', " "),
                }
            }
        };
        let command = soon("the process's name", named).await;
        assert!(left.contains(&command.trim().to_owned()), "{command:?} is not among {left:?}");
        assert_eq!(session.facts().exit_code, None);
    }
}

fn recorded(frames: &[Recorded], channel: u8) -> Vec<u8> {
    let payloads =
        frames.iter().filter(|frame| frame.opcode < 8).filter_map(|f| f.payload.as_ref());
    let of_channel = payloads.filter(|payload| payload.first() == Some(&channel));
    of_channel.flat_map(|payload| payload[1..].iter().copied()).collect()
}

fn text(bytes: &[u8], tty: bool) -> String {
    if tty {
        return screen::shown(bytes);
    }
    screen::plain(&String::from_utf8_lossy(bytes))
}
