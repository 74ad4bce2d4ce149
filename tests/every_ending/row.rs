//! One row of the table: how a session comes to its end, and everything that is told of it.

use fake_cluster::{Behaviour, FakeCluster, Script, misbehaviour};
use futures_util::future::join_all;
use podwire::proto::message::Dialect;

use crate::common::{Relay, Start, cluster, pipes, terminal, within};
use crate::page::{Page, Telling};

/// So that somebody can see the counters, and who is awaited.
pub const ADMIN: &[&str] = &["--admin-listen", "127.0.0.1:0", "--hangup-grace", "5s"];

/// A line of the contract's table (§5): kind, HTTP status, close code, and whether to try again.
pub type Line = (&'static str, Option<u16>, Option<u16>, bool);

/// The contract's table, and the two endings in which nobody is there to be told.
pub const CONTRACT: [Line; 21] = [
    ("exit", None, Some(1000), false),
    ("bad_request", Some(400), Some(4400), false),
    ("protocol_error", Some(400), Some(4400), false),
    ("unauthorized", Some(401), Some(4401), false),
    ("forbidden", Some(403), Some(4403), false),
    ("revoked", Some(403), Some(4403), false),
    ("not_found", Some(404), Some(4404), false),
    ("idle", None, Some(4408), true),
    ("max_session", None, Some(4408), true),
    ("slow_browser", None, Some(4408), true),
    ("no_shell", None, Some(4422), false),
    ("failed", None, Some(4422), false),
    ("limit", Some(503), Some(4429), true),
    ("internal", Some(500), Some(1011), true),
    ("cluster_unreachable", Some(502), Some(4502), true),
    ("cluster_lost", Some(502), Some(4502), true),
    ("cluster_protocol", Some(502), Some(4502), false),
    ("cluster_timeout", Some(504), Some(4504), true),
    ("drain", Some(503), Some(1012), true),
    ("browser_closed", None, None, true),
    ("browser_lost", None, None, true),
];

pub fn line(kind: &str) -> Line {
    CONTRACT.into_iter().find(|line| line.0 == kind).unwrap_or_else(|| panic!("no line {kind}"))
}

/// When a session ends, which decides who is told how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// After the cluster's 101: told inside the WebSocket.
    Open,
    /// Before it: pages are told inside a WebSocket, and others by an HTTP status.
    Opening,
    /// By what no page can mend: an HTTP status for everybody.
    Door,
}

/// What happens once a session has said everything that it has to say.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Nothing that this test does.
    Nothing,
    /// The page sends these bytes.
    Raw(Vec<u8>),
    /// An operator ends the session.
    Operator,
    /// The relay gets a SIGTERM.
    Signal,
    /// Every connection of the cluster's is cut.
    Cut,
    /// The page closes.
    Leave,
    /// The page is gone without a word.
    Abort,
}

/// The numbers of `seq 1 5000`, and a word behind them, are what most sessions say first: more
/// than one frame, so that it shows if something overtakes it.
pub const SAYS: &str = "seq 1 5000; echo up";

pub fn said() -> String {
    let numbers = (1..=5000).map(|number: u32| number.to_string());
    numbers.chain(["up".to_owned(), String::new()]).collect::<Vec<_>>().join("\n")
}

pub struct Row {
    pub id: &'static str,
    pub kind: &'static str,
    stage: Stage,
    auth: &'static str,
    flags: Vec<&'static str>,
    behaviour: Behaviour,
    kubeconfig: fn(&FakeCluster) -> String,
    headers: fn(&FakeCluster) -> String,
    /// Of the pages; the relay's own if there is none. Others send it, too, if there is one.
    origin: Option<&'static str>,
    target: String,
    /// Whether somebody else is there already.
    witness: bool,
    deed: Deed,
    output: String,
    notice: Option<&'static str>,
    exit_code: Option<u8>,
    close_code: Option<u16>,
    says: &'static str,
}

impl Row {
    /// A session that was opened and says [`SAYS`], and then waits.
    pub fn new(id: &'static str, kind: &'static str) -> Self {
        Self {
            id,
            kind,
            stage: Stage::Open,
            auth: "own",
            flags: Vec::new(),
            behaviour: Behaviour::default(),
            kubeconfig: FakeCluster::kubeconfig,
            headers: |_| String::new(),
            origin: None,
            target: pipes(&format!("{SAYS}; cat")),
            witness: false,
            deed: Deed::Nothing,
            output: said(),
            notice: None,
            exit_code: None,
            close_code: line(kind).2,
            says: "",
        }
    }

    /// A request that gets no session.
    pub fn refused(id: &'static str, kind: &'static str) -> Self {
        Self { stage: Stage::Opening, output: String::new(), ..Self::new(id, kind) }
    }

    /// A request that gets no session, and whose answer is the same for everybody.
    pub fn at_the_door(id: &'static str, kind: &'static str) -> Self {
        Self { stage: Stage::Door, ..Self::refused(id, kind) }
    }

    pub fn auth(self, auth: &'static str) -> Self {
        Self { auth, ..self }
    }

    pub fn flags(self, flags: &[&'static str]) -> Self {
        Self { flags: flags.to_vec(), ..self }
    }

    pub fn on(self, behaviour: Behaviour) -> Self {
        Self { behaviour, ..self }
    }

    pub fn scripted(self, script: Script) -> Self {
        self.on(Behaviour::scripted(script))
    }

    pub fn named(self, misbehaviour: &str) -> Self {
        self.scripted(misbehaviour::named(misbehaviour).unwrap())
    }

    pub fn kubeconfig(self, kubeconfig: fn(&FakeCluster) -> String) -> Self {
        Self { kubeconfig, ..self }
    }

    pub fn headers(self, headers: fn(&FakeCluster) -> String) -> Self {
        Self { headers, ..self }
    }

    pub fn origin(self, origin: &'static str) -> Self {
        Self { origin: Some(origin), ..self }
    }

    pub fn asks(self, target: impl Into<String>) -> Self {
        Self { target: target.into(), ..self }
    }

    /// Runs this, and says it all.
    pub fn runs(self, script: &str) -> Self {
        self.asks(pipes(script))
    }

    pub fn with_a_terminal(self, script: &str) -> Self {
        self.asks(terminal(script))
    }

    pub fn beside_a_witness(self) -> Self {
        Self { witness: true, ..self }
    }

    pub fn when(self, deed: Deed) -> Self {
        Self { deed, ..self }
    }

    pub fn output(self, output: &str) -> Self {
        Self { output: output.to_owned(), ..self }
    }

    pub fn notice(self, kind: &'static str) -> Self {
        Self { notice: Some(kind), ..self }
    }

    pub fn exits(self, code: u8) -> Self {
        Self { exit_code: Some(code), ..self }
    }

    pub fn closes(self, code: u16) -> Self {
        Self { close_code: Some(code), ..self }
    }

    pub fn says(self, words: &'static str) -> Self {
        Self { says: words, ..self }
    }

    /// Asserts the row: pages of both dialects and whoever is no page, the log and the counters.
    pub async fn check(self) {
        let cluster = cluster(self.behaviour.clone()).await;
        let start = Start {
            auth: self.auth,
            kubeconfig: Some((self.kubeconfig)(&cluster)),
            ..Start::flags(ADMIN)
        };
        let mut relay = start.and(&self.flags).before(&cluster).await;
        let headers = (self.headers)(&cluster);
        let witness = if self.witness {
            Page::open(&relay, Dialect::V1, &pipes("cat"), &headers).await.ok()
        } else {
            None
        };
        match self.stage {
            Stage::Open => self.check_open(&cluster, &relay, &headers).await,
            Stage::Opening => self.check_opening(&relay, &headers).await,
            Stage::Door => self.check_door(&relay, &headers).await,
        }
        if matches!(self.deed, Deed::Signal) {
            assert_eq!(relay.ended().await, Some(0), "{}", self.id);
            return;
        }
        drop(witness);
        relay.until_metric("podwire_sessions_active", 0.0).await;
    }

    async fn check_open(&self, cluster: &FakeCluster, relay: &Relay, headers: &str) {
        let id = self.id;
        // Somebody whose process does not go keeps a relay that is being stopped, and its
        // counters, for as long as the grace.
        let _stubborn = match self.deed {
            Deed::Signal => {
                let target = terminal("trap '' INT; echo up; while :; do sleep 1000; done");
                let mut page = Page::open(relay, Dialect::Seed, &target, headers).await.unwrap();
                page.until_output("up").await;
                Some(page)
            }
            _ => None,
        };
        let mut pages = Vec::new();
        for dialect in [Dialect::V1, Dialect::Seed] {
            let page = Page::open(relay, dialect, &self.target, headers).await;
            let mut page = page.unwrap_or_else(|answer| panic!("{id}: {answer:?}"));
            if !self.output.is_empty() {
                page.until_output(&self.output).await;
            }
            pages.push(page);
        }
        self.happens(cluster, relay, &mut pages).await;
        if let Some(close_code) = self.close_code {
            let endings = pages.into_iter().map(|page| async {
                let dialect = page.dialect;
                (dialect, page.ended(id).await)
            });
            for (dialect, ended) in join_all(endings).await {
                self.telling(close_code).assert_told(dialect, &ended, id);
            }
        } else {
            for page in pages {
                match self.deed {
                    Deed::Leave => page.leave().await,
                    _ => page.abort(),
                }
            }
        }
        self.assert_ended(relay, 2).await;
    }

    async fn happens(&self, cluster: &FakeCluster, relay: &Relay, pages: &mut [Page]) {
        match &self.deed {
            Deed::Nothing | Deed::Leave | Deed::Abort => {}
            Deed::Raw(bytes) => {
                for page in pages {
                    page.raw(bytes).await;
                }
            }
            Deed::Operator => {
                for session in relay.sessions().await {
                    let path = format!("/sessions/{}", session["id"].as_str().unwrap());
                    assert_eq!(relay.operate("DELETE", &path).await.status, 202, "{}", self.id);
                }
            }
            Deed::Signal => relay.signal().await,
            Deed::Cut => cluster.cut(),
        }
    }

    async fn check_opening(&self, relay: &Relay, headers: &str) {
        let id = self.id;
        for dialect in [Dialect::V1, Dialect::Seed] {
            let page = Page::open(relay, dialect, &self.target, headers).await;
            let ended = page.unwrap_or_else(|answer| panic!("{id}: {answer:?}")).ended(id).await;
            self.telling(self.close_code.unwrap()).assert_told(dialect, &ended, id);
        }
        self.check_caller(relay, headers).await;
        self.assert_refused(relay, 3).await;
        assert_eq!(relay.logged("session refused"), 3, "{id}");
        let lines = format!("kind={} ", self.kind);
        let log = relay.log();
        let refused = log.lines().filter(|line| line.contains("session refused"));
        assert!(refused.into_iter().all(|line| line.contains(&lines)), "{id}: {log}");
    }

    async fn check_door(&self, relay: &Relay, headers: &str) {
        let id = self.id;
        let status = line(self.kind).1.unwrap();
        let own = relay.url.trim_end_matches('/').to_owned();
        let origin = self.origin.unwrap_or(&own);
        for dialect in [Dialect::V1, Dialect::Seed] {
            let page = Page::open_at(relay.addr(), origin, dialect, &self.target, headers).await;
            let Err(answer) = page else { panic!("{id}: a WebSocket") };
            answer.assert_refusal(status, self.kind, id);
        }
        let headers = self.origin.map_or(headers.to_owned(), |it| format!("Origin: {it}\r\n"));
        self.check_caller(relay, &headers).await;
        self.assert_refused(relay, 3).await;
        assert_eq!(relay.logged("session refused"), 0, "{id}");
    }

    /// Whoever is no page gets a status.
    async fn check_caller(&self, relay: &Relay, headers: &str) {
        let (_, status, _, _) = line(self.kind);
        let answer = relay.ask(&self.target, headers).await;
        answer.assert_refusal(status.unwrap(), self.kind, self.id);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(self.says), "{}: {message}", self.id);
        let again = answer.header("retry-after").is_some_and(|it| it.parse::<u32>().is_ok());
        assert_eq!(again, status == Some(503), "{}: {answer:?}", self.id);
    }

    fn telling(&self, close_code: u16) -> Telling<'_> {
        Telling {
            is_open: self.stage == Stage::Open,
            output: &self.output,
            notice: self.notice,
            kind: self.kind,
            exit_code: self.exit_code,
            close_code,
            retry: line(self.kind).3,
            says: self.says,
        }
    }

    /// One line of the log for each, with the same facts, and one count.
    async fn assert_ended(&self, relay: &Relay, sessions: usize) {
        let id = self.id;
        assert_counted(relay, "podwire_sessions_ended_total", self.kind, sessions, id).await;
        assert_counted(relay, "podwire_rejected_total", self.kind, 0, id).await;
        relay.until_logged("session end", sessions).await;
        let log = relay.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("session end")).collect();
        assert_eq!(lines.len(), sessions, "{id}: {log}");
        let or_none = |number: Option<u16>| number.map_or("-".to_owned(), |it| it.to_string());
        for line in lines {
            for fact in [
                format!(" kind={} ", self.kind),
                format!(" exit_code={} ", or_none(self.exit_code.map(u16::from))),
                format!(" close_code={} ", or_none(self.close_code)),
            ] {
                assert!(line.contains(&fact), "{id}: no {fact:?} in {line}");
            }
        }
    }

    async fn assert_refused(&self, relay: &Relay, requests: usize) {
        assert_counted(relay, "podwire_rejected_total", self.kind, requests, self.id).await;
        assert_counted(relay, "podwire_sessions_ended_total", self.kind, 0, self.id).await;
    }
}

/// Waits until a family counts so many of this label, and asserts that it counts nothing else.
pub async fn assert_counted(relay: &Relay, family: &str, label: &str, count: usize, what: &str) {
    let wanted: Vec<(String, usize)> =
        (count > 0).then(|| (label.to_owned(), count)).into_iter().collect();
    let mut often = tokio::time::interval(std::time::Duration::from_millis(10));
    let counted = async {
        loop {
            let answer = relay.operate("GET", "/metrics").await;
            let now = counts(&String::from_utf8(answer.body).unwrap(), family);
            let total: usize = now.iter().map(|(_, count)| count).sum();
            if total >= count {
                return now;
            }
            often.tick().await;
        }
    };
    assert_eq!(within(&format!("{what}: {family}"), counted).await, wanted, "{what}: {family}");
}

/// The labels of a family that have counted something.
pub fn counts(metrics: &str, family: &str) -> Vec<(String, usize)> {
    let lines = metrics.lines().filter_map(|line| {
        let (_, rest) = line.strip_prefix(family)?.split_once("=\"")?;
        let (label, count) = rest.split_once("\"} ")?;
        Some((label.to_owned(), count.parse().unwrap()))
    });
    lines.filter(|(_, count)| *count > 0).collect()
}

/// How many rows are asserted at a time: most of them only wait.
const AT_ONCE: usize = 6;

/// Asserts all rows.
pub async fn check_all(rows: Vec<Row>) {
    use futures_util::StreamExt;
    futures_util::stream::iter(rows).for_each_concurrent(AT_ONCE, Row::check).await;
}
