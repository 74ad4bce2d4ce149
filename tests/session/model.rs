//! What a session should say and come to, kept by the simplest means: whole lists, no buffers, no
//! frames, no limits. Bytes count when they are fed, so any cut of a frame is known to the model.

use std::time::Duration;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::{Options, Process, Time};

use super::readers::{Sent, Told, send, status, tell};

/// Between the interrupt and the end of input of a hang-up.
pub(crate) const HANGUP_SPACING: Duration = Duration::from_millis(200);

/// Between two tries of it.
const HANGUP_AGAIN: Duration = Duration::from_millis(800);

/// An ending, as far as it can be foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    pub(crate) kind: Kind,
    pub(crate) exit_code: Option<u8>,
    pub(crate) close_code: Option<u16>,
}

impl Expect {
    pub(crate) fn of(kind: Kind) -> Self {
        Self { kind, exit_code: None, close_code: kind.facts().close_code }
    }

    pub(crate) fn exit(code: u8) -> Self {
        Self { exit_code: Some(code), ..Self::of(Kind::Exit) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cluster {
    Open,
    StatusSeen,
    HangingUp { until: Time, key: Option<(Time, u8)> },
    Closing,
    Gone,
}

/// What something that was fed means, once its last byte was fed.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Nothing,
    Input(Vec<u8>),
    Size(u64, u64),
    Eof,
    Ack(u64),
    Pause(bool),
    /// An empty message of the cluster's on a channel.
    Stream(u8),
    JsonPing(u64),
    Malformed,
    BrowserPing(Vec<u8>),
    BrowserClose,
    Violation(u16),
    /// A message of status text is whole; with it, perhaps, the status.
    StatusEnd(Option<(Expect, Process)>),
    ClusterPing(Vec<u8>),
    ClusterClose(Option<u16>),
    ClusterBroke,
}

#[expect(clippy::struct_excessive_bools, reason = "a model is a list of what is known")]
pub(crate) struct Model {
    dialect: Dialect,
    subprotocol: Subprotocol,
    tty: bool,
    stderr: bool,
    grace: Duration,
    takes_input: bool,
    carry: [Vec<u8>; 2],
    misunderstood: u8,
    status_text: Vec<u8>,
    status_told: bool,
    paused: bool,
    /// Whether the beginning of a text message was fed.
    pub(crate) message_open: bool,
    pub(crate) status: Option<Expect>,
    pub(crate) cluster: Cluster,
    pub(crate) told: Vec<Told>,
    /// Without sizes.
    pub(crate) sent: Vec<Sent>,
    pub(crate) sizes: Vec<(u64, u64)>,
    pub(crate) output: u64,
    acked: Option<u64>,
    ack_window: u64,
    /// When the page last said that it had consumed more than before.
    pub(crate) acked_at: Option<Time>,
    pub(crate) ended: Option<Expect>,
    pub(crate) process: Process,
}

impl Model {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            dialect: options.dialect,
            subprotocol: options.subprotocol,
            tty: options.place.tty,
            stderr: options.stderr,
            grace: options.limits.hangup_grace,
            takes_input: options.stdin,
            carry: [Vec::new(), Vec::new()],
            misunderstood: 0,
            status_text: Vec::new(),
            status_told: false,
            paused: false,
            message_open: false,
            status: None,
            cluster: Cluster::Open,
            told: Vec::new(),
            sent: Vec::new(),
            sizes: Vec::new(),
            output: 0,
            acked: None,
            ack_window: options.limits.ack_window,
            acked_at: None,
            ended: None,
            process: Process::Unknown,
        }
    }

    fn json(&mut self, json: serde_json::Value) {
        if self.dialect == Dialect::V1 {
            tell(&mut self.told, Told::Json(json));
        }
    }

    /// Whether the page is further behind than it may be.
    pub(crate) fn is_behind(&self) -> bool {
        let unread = self.acked.is_some_and(|it| self.output - it > self.ack_window);
        self.ended.is_none() && (unread || self.paused)
    }

    pub(crate) fn input(&mut self, bytes: &[u8]) {
        if self.cluster == Cluster::Open && self.takes_input && !bytes.is_empty() {
            send(&mut self.sent, Sent::Input(bytes.to_vec()));
        }
    }

    pub(crate) fn output(&mut self, channel: u8, bytes: &[u8]) {
        if self.ended.is_some() || bytes.is_empty() {
            return;
        }
        self.output += bytes.len() as u64;
        let next = match self.dialect {
            Dialect::Raw | Dialect::Ttyd if self.tty || !self.stderr => {
                Told::Output(1, bytes.to_vec())
            }
            Dialect::Seed | Dialect::Raw | Dialect::Ttyd => {
                let carry = &mut self.carry[usize::from(channel - 1)];
                let (mut text, mut whole) = (String::new(), Vec::new());
                for byte in bytes {
                    read(carry, *byte, &mut text, &mut whole);
                }
                match self.dialect {
                    _ if whole.is_empty() => return,
                    Dialect::Seed => Told::Text(text),
                    _ => Told::Output(1, whole),
                }
            }
            _ => Told::Output(channel, bytes.to_vec()),
        };
        tell(&mut self.told, next);
    }

    pub(crate) fn status_bytes(&mut self, bytes: &[u8]) {
        if self.status.is_none() && self.is_cluster_heard() {
            self.status_text.extend_from_slice(bytes);
        }
    }

    fn is_cluster_heard(&self) -> bool {
        matches!(self.cluster, Cluster::Open | Cluster::HangingUp { .. })
    }

    /// Passes on what the cluster said on the status channel.
    fn tell_status(&mut self) {
        let Some(to) = self.dialect.kube().filter(|_| self.ended.is_none()) else { return };
        self.status_told = true;
        let text = self.status_text.clone();
        let v1 = Subprotocol::V1;
        let told = match (self.subprotocol == v1, to == v1) {
            (true, false) => {
                let mut message = String::from_utf8(text).unwrap();
                if message.len() > 1024 {
                    message.truncate(1024);
                    message.push('…');
                }
                Told::Json(failure(Kind::Failed, 500, "InternalError", &message))
            }
            (false, true) => {
                let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
                if json["status"] == "Success" {
                    return;
                }
                Told::Status(json["message"].as_str().unwrap().to_owned())
            }
            _ => status(text),
        };
        self.told.push(told);
    }

    pub(crate) fn apply(&mut self, effect: &Effect, now: Time) {
        let open = self.ended.is_none();
        match effect {
            Effect::ClusterPing(_)
            | Effect::ClusterClose(_)
            | Effect::ClusterBroke
            | Effect::StatusEnd(_) => self.of_cluster(effect, now),
            _ if !open => {}
            Effect::Nothing => {}
            Effect::Input(bytes) => self.input(bytes),
            Effect::Size(cols, rows) => {
                if self.tty && self.cluster == Cluster::Open {
                    self.sizes.push((*cols, *rows));
                }
            }
            Effect::Eof if self.tty || self.subprotocol != Subprotocol::V5 => {
                self.json(serde_json::json!({"type": "error", "message": EOF_REFUSED}));
            }
            Effect::Eof => {
                if self.takes_input && self.cluster == Cluster::Open {
                    self.takes_input = false;
                    self.sent.push(Sent::CloseInput);
                }
            }
            Effect::Ack(bytes) => {
                let before = self.acked.unwrap_or(0);
                let acked = (*bytes).max(before).min(self.output);
                self.acked_at = if acked > before { Some(now) } else { self.acked_at };
                self.acked = Some(acked);
            }
            Effect::Pause(paused) => {
                if std::mem::replace(&mut self.paused, *paused) && !paused {
                    self.acked_at = Some(now);
                }
            }
            Effect::Stream(channel) => {
                if self.dialect.kube().is_some() {
                    self.told.push(Told::Stream(*channel));
                }
            }
            Effect::JsonPing(id) => self.json(serde_json::json!({"type": "pong", "id": id})),
            Effect::Malformed => {
                self.misunderstood += 1;
                if self.misunderstood < 10 {
                    self.json(serde_json::json!({"type": "error", "message": MALFORMED}));
                } else {
                    self.end(Expect::of(Kind::ProtocolError), now);
                }
            }
            Effect::BrowserPing(payload) => tell(&mut self.told, Told::Pong(payload.clone())),
            Effect::BrowserClose => self.end(Expect::of(Kind::BrowserClosed), now),
            Effect::Violation(code) => {
                let close_code = Some(*code);
                self.end(Expect { close_code, ..Expect::of(Kind::ProtocolError) }, now);
            }
        }
    }

    fn of_cluster(&mut self, effect: &Effect, now: Time) {
        if matches!(self.cluster, Cluster::Closing | Cluster::Gone) {
            return;
        }
        let hanging_up = matches!(self.cluster, Cluster::HangingUp { .. });
        match effect {
            Effect::ClusterPing(payload) if self.cluster != Cluster::StatusSeen => {
                self.sent.push(Sent::Pong(payload.clone()));
            }
            Effect::ClusterClose(code) => self.conclude(*code, now),
            Effect::ClusterBroke => {
                self.end(Expect::of(Kind::ClusterProtocol), now);
                self.cluster = Cluster::Gone;
            }
            Effect::StatusEnd(Some((expect, process)))
                if self.subprotocol != Subprotocol::V1 && self.status.is_none() =>
            {
                self.process = *process;
                if hanging_up {
                    self.close_cluster();
                } else {
                    if expect.kind != Kind::ClusterProtocol {
                        self.tell_status();
                    }
                    self.status = Some(*expect);
                    self.cluster = Cluster::StatusSeen;
                }
            }
            _ => {}
        }
    }

    /// The cluster says nothing more: `code` is that of its close, if it had one.
    pub(crate) fn conclude(&mut self, code: Option<u16>, now: Time) {
        let expect = match (self.status, self.subprotocol) {
            (Some(status), _) => status,
            (None, Subprotocol::V1) if !self.status_text.is_empty() => {
                self.process = Process::Ended(None);
                self.tell_status();
                Expect::of(Kind::Failed)
            }
            (None, Subprotocol::V1) if code == Some(1000) => {
                self.process = Process::Ended(None);
                Expect::of(Kind::Exit)
            }
            (None, Subprotocol::V1) => Expect::of(Kind::ClusterLost),
            (None, _) if !self.status_text.is_empty() => Expect::of(Kind::ClusterProtocol),
            (None, _) => Expect::of(Kind::ClusterLost),
        };
        self.cluster = Cluster::Gone;
        self.end(expect, now);
    }

    pub(crate) fn end(&mut self, expect: Expect, now: Time) {
        if self.ended.is_some() {
            return;
        }
        let mut expect = self.status.unwrap_or(expect);
        match (self.dialect.kube(), expect.close_code) {
            (Some(_), Some(_)) if self.status_told => expect.close_code = Some(1000),
            // Nobody shall take it for success who was promised a status.
            (Some(Subprotocol::V5 | Subprotocol::V4), Some(1000)) => expect.close_code = Some(4502),
            _ => {}
        }
        self.ended = Some(expect);
        match self.cluster {
            Cluster::StatusSeen => self.cluster = Cluster::Gone,
            Cluster::Open => {
                let until = now + self.grace;
                if self.tty && self.takes_input {
                    send(&mut self.sent, Sent::Input(vec![3]));
                    let key = Some((now + HANGUP_SPACING, 4));
                    self.cluster = Cluster::HangingUp { until, key };
                } else if !self.tty && self.subprotocol == Subprotocol::V5 {
                    if std::mem::take(&mut self.takes_input) {
                        self.sent.push(Sent::CloseInput);
                    }
                    self.cluster = Cluster::HangingUp { until, key: None };
                } else {
                    self.close_cluster();
                }
            }
            _ => {}
        }
    }

    fn close_cluster(&mut self) {
        self.sent.push(Sent::Close(Some(1000)));
        self.cluster = Cluster::Closing;
    }

    /// The cluster's socket takes nothing more.
    pub(crate) fn deaf(&mut self) {
        self.takes_input = false;
        if self.cluster == Cluster::Closing {
            self.cluster = Cluster::Gone;
        }
    }

    pub(crate) fn timeout(&mut self, now: Time) {
        let Cluster::HangingUp { until, key } = self.cluster else { return };
        if let Some((at, 4)) = key
            && at.min(until) <= now
        {
            send(&mut self.sent, Sent::Input(vec![4]));
            self.cluster = Cluster::HangingUp { until, key: Some((now + HANGUP_AGAIN, 3)) };
        } else if let Some((at, 3)) = key
            && at <= now
            && now < until
        {
            send(&mut self.sent, Sent::Input(vec![3]));
            self.cluster = Cluster::HangingUp { until, key: Some((now + HANGUP_SPACING, 4)) };
        }
        if until <= now {
            self.close_cluster();
        }
    }

    /// What was held back of characters that stayed unfinished, and what stands behind it.
    fn tell_unfinished(&mut self, line: &[u8]) {
        let rest = [&self.carry.concat(), line].concat();
        if !rest.is_empty() {
            tell(&mut self.told, Told::Output(1, rest));
        }
    }

    /// Adds what the dialect says at the end.
    pub(crate) fn last_words(&mut self, message: &str, close_reason: &str) {
        let Some(expect) = self.ended else { return };
        let Some(code) = expect.close_code else {
            tell(&mut self.told, Told::Close(1000, String::new()));
            return;
        };
        let facts = expect.kind.facts();
        let line = format!("\r\n[podwire: {message}]\r\n");
        match self.dialect {
            Dialect::Seed => {
                let unfinished = self.carry.iter().filter(|carry| !carry.is_empty()).count();
                let line = format!("{}{line}", "\u{fffd}".repeat(unfinished));
                tell(&mut self.told, Told::Text(line));
            }
            Dialect::V1 => self.json(serde_json::json!({
                "type": "exit", "kind": facts.name, "exitCode": expect.exit_code,
                "message": message, "retry": facts.retry,
            })),
            Dialect::Raw => self.tell_unfinished(b""),
            Dialect::Ttyd => {
                self.tell_unfinished(line.as_bytes());
                let begins_anew = self.output > 0
                    && matches!(expect.kind, Kind::ClusterLost | Kind::Drain | Kind::Internal);
                if code != 1000 && !begins_anew {
                    let text = r#"{"disableReconnect":true}"#.to_owned();
                    self.told.push(Told::Ttyd(b'2', text));
                }
            }
            _ if self.status_told => {}
            Dialect::KubeV1 | Dialect::Base64V1 if expect.kind == Kind::Exit => {}
            Dialect::KubeV1 | Dialect::Base64V1 => {
                self.told.push(Told::Status(message.to_owned()));
            }
            _ => {
                let code = facts.http_status.unwrap_or(match expect.kind {
                    Kind::Idle | Kind::MaxSession | Kind::SlowBrowser => 408,
                    _ => 500,
                });
                let reason = match code {
                    400 => "BadRequest",
                    403 => "Forbidden",
                    404 => "NotFound",
                    408 => "Timeout",
                    500 => "InternalError",
                    503 => "ServiceUnavailable",
                    _ => "Unknown",
                };
                self.told.push(Told::Json(failure(expect.kind, code, reason, message)));
            }
        }
        self.told.push(Told::Close(code, close_reason.to_owned()));
    }
}

fn failure(kind: Kind, code: u16, reason: &str, message: &str) -> serde_json::Value {
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
        "details": {"causes": [{"reason": "kind", "message": kind.facts().name}]},
    })
}

const EOF_REFUSED: &str = "eof needs a session without a terminal and a cluster that speaks v5";
const MALFORMED: &str = "not a JSON object";

/// One byte of output at a time: whole characters come out, and what cannot become one; as text
/// with a mark in its place, and as it is.
fn read(carry: &mut Vec<u8>, byte: u8, text: &mut String, whole: &mut Vec<u8>) {
    carry.push(byte);
    while !carry.is_empty() {
        match str::from_utf8(carry) {
            Ok(character) => {
                text.push_str(character);
                whole.append(carry);
            }
            Err(error) => {
                let Some(invalid) = error.error_len() else { return };
                text.push('\u{fffd}');
                whole.extend(carry.drain(..invalid));
            }
        }
    }
}
