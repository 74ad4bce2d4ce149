//! The ways a session ends: one table from kind to everything that is said about it.
//!
//! `proto-notes/session.md` holds the same table in words, and a test compares the two. The first
//! reason to end a session is its ending; there is exactly one.

use std::borrow::Cow;
use std::fmt;

/// The kinds of endings, as they stand in the `exit` message, in the log and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The process ended.
    Exit,
    /// The request makes no sense.
    BadRequest,
    /// The browser broke the protocol.
    ProtocolError,
    /// No credential, or one that is not accepted.
    Unauthorized,
    /// Not allowed: by the cluster, or by the rule about origins.
    Forbidden,
    /// Was allowed, and is not any more.
    Revoked,
    /// No such cluster, pod or container.
    NotFound,
    /// Nothing was typed for too long.
    Idle,
    /// The session has lasted as long as sessions may.
    MaxSession,
    /// The browser took nothing for too long.
    SlowBrowser,
    /// The container has no shell that could be found.
    NoShell,
    /// The command could not be started.
    Failed,
    /// Too many sessions.
    Limit,
    /// A mistake of our own.
    Internal,
    /// The cluster could not be reached.
    ClusterUnreachable,
    /// The connection to the cluster ended without a status.
    ClusterLost,
    /// The cluster said something that makes no sense.
    ClusterProtocol,
    /// The cluster did not answer in time.
    ClusterTimeout,
    /// The relay is being stopped.
    Drain,
    /// The browser closed its WebSocket.
    BrowserClosed,
    /// The connection to the browser ended without a close.
    BrowserLost,
}

/// What is said about a [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The name in messages, logs and metrics.
    pub name: &'static str,
    /// The HTTP status, if it happens before the 101.
    pub http_status: Option<u16>,
    /// The WebSocket close code, if it happens after the 101 and the browser is still there.
    pub close_code: Option<u16>,
    /// Whether the same request may well succeed when it is made again.
    pub retry: bool,
}

impl Kind {
    /// Every kind, in the order of the table.
    pub const ALL: [Self; 21] = [
        Self::Exit,
        Self::BadRequest,
        Self::ProtocolError,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Revoked,
        Self::NotFound,
        Self::Idle,
        Self::MaxSession,
        Self::SlowBrowser,
        Self::NoShell,
        Self::Failed,
        Self::Limit,
        Self::Internal,
        Self::ClusterUnreachable,
        Self::ClusterLost,
        Self::ClusterProtocol,
        Self::ClusterTimeout,
        Self::Drain,
        Self::BrowserClosed,
        Self::BrowserLost,
    ];

    /// The row of the table.
    pub fn facts(self) -> Facts {
        let row = |name, http_status, close_code, retry| Facts {
            name,
            http_status,
            close_code: Some(close_code),
            retry,
        };
        let nobody_there = |name| Facts { name, http_status: None, close_code: None, retry: true };
        match self {
            Self::Exit => row("exit", None, 1000, false),
            Self::BadRequest => row("bad_request", Some(400), 4400, false),
            Self::ProtocolError => row("protocol_error", Some(400), 4400, false),
            Self::Unauthorized => row("unauthorized", Some(401), 4401, false),
            Self::Forbidden => row("forbidden", Some(403), 4403, false),
            Self::Revoked => row("revoked", Some(403), 4403, false),
            Self::NotFound => row("not_found", Some(404), 4404, false),
            Self::Idle => row("idle", None, 4408, true),
            Self::MaxSession => row("max_session", None, 4408, true),
            Self::SlowBrowser => row("slow_browser", None, 4408, true),
            Self::NoShell => row("no_shell", None, 4422, false),
            Self::Failed => row("failed", None, 4422, false),
            Self::Limit => row("limit", Some(503), 4429, true),
            Self::Internal => row("internal", Some(500), 1011, true),
            Self::ClusterUnreachable => row("cluster_unreachable", Some(502), 4502, true),
            Self::ClusterLost => row("cluster_lost", Some(502), 4502, true),
            Self::ClusterProtocol => row("cluster_protocol", Some(502), 4502, false),
            Self::ClusterTimeout => row("cluster_timeout", Some(504), 4504, true),
            Self::Drain => row("drain", Some(503), 1012, true),
            Self::BrowserClosed => nobody_there("browser_closed"),
            Self::BrowserLost => nobody_there("browser_lost"),
        }
    }

    /// Sorts a sentence of the cluster's about why a process was not started. These sentences are
    /// not an interface, so the words looked for are the few that every recorded server used; all
    /// others are [`Kind::Failed`].
    pub fn of_failure(sentence: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| sentence.contains(word));
        if says(&["container not found", "is not valid for pod", "pod does not exist"]) {
            Self::NotFound
        } else if says(&["error dialing backend", "error sending request"]) {
            Self::ClusterUnreachable
        } else {
            Self::Failed
        }
    }
}

/// Why a session ended, or was not begun.
#[derive(Clone, PartialEq, Eq)]
pub struct Ending {
    /// The row of the table.
    pub kind: Kind,
    /// The exit code, where the cluster told one. Never invented.
    pub exit_code: Option<u8>,
    /// A sentence for people, without a full stop. Never a secret, never terminal output; control
    /// characters are escaped.
    pub message: Cow<'static, str>,
    /// The close code, where the kind leaves a choice: frame errors have those of RFC 6455.
    pub close_code: Option<u16>,
    /// What an API server answered in place of a 101, for who speaks its language.
    pub(crate) answer: Option<Box<Answer>>,
}

/// An API server's refusal.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// A `metav1.Status`, or nothing if the server said something else.
    pub(crate) body: Vec<u8>,
}

impl Ending {
    /// An ending of this kind, explained by this sentence.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = escape(message.into());
        let close_code = kind.facts().close_code;
        Self { kind, exit_code: None, message, close_code, answer: None }
    }

    /// The process ended with this code.
    pub fn exit(code: u8) -> Self {
        let ending = Self::new(Kind::Exit, format!("exit code {code}"));
        Self { exit_code: Some(code), ..ending }
    }

    /// The browser broke a rule that has a close code of its own.
    pub fn violation(close_code: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { close_code: Some(close_code), ..Self::new(Kind::ProtocolError, message) }
    }
}

/// The longest sentence that is passed on from a cluster.
const MESSAGE_MAX: usize = 1024;

/// Whether a terminal would act on it: a control character, or a mark that reorders text.
pub(crate) fn is_odd(c: char) -> bool {
    let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
    let reorders =
        marks.contains(&c) || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders
}

/// Makes a sentence of somebody else's safe to print: control characters become `\u{..}`, as do
/// the marks that reorder text, and it is cut at [`MESSAGE_MAX`].
fn escape(message: Cow<'static, str>) -> Cow<'static, str> {
    if message.len() <= MESSAGE_MAX && !message.contains(is_odd) {
        return message;
    }
    let mut safe = String::new();
    for c in message.trim_end().chars() {
        if safe.len() >= MESSAGE_MAX {
            safe.push('…');
            break;
        }
        if is_odd(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe.into()
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.facts().name, self.message)
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ending({self})")
    }
}

impl std::error::Error for Ending {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_of_the_clusters_cannot_drive_a_terminal() {
        let ending = Ending::new(Kind::Failed, "a\x1b]0;x\x07\r\nb\u{202e}c\n".to_owned());
        assert_eq!(ending.message, "a\\u{1b}]0;x\\u{7}\\r\\nb\\u{202e}c");
        let ending = Ending::new(Kind::Failed, "a\u{200e}b\u{200f}c\u{61c}d");
        assert_eq!(ending.message, "a\\u{200e}b\\u{200f}c\\u{61c}d");
        assert!(Ending::new(Kind::Failed, "x".repeat(5000)).message.len() < 1100);
    }

    #[test]
    fn failures_are_sorted_by_the_recorded_words() {
        let sorted = [
            (r#"unable to upgrade connection: container not found ("main")"#, Kind::NotFound),
            ("container nope is not valid for pod shell", Kind::NotFound),
            ("unable to upgrade connection: pod does not exist", Kind::NotFound),
            ("error sending request: Post ...: connection refused", Kind::ClusterUnreachable),
            ("error dialing backend: dial tcp ...", Kind::ClusterUnreachable),
            ("exec: \"X\": executable file not found in $PATH: unknown", Kind::Failed),
        ];
        for (sentence, kind) in sorted {
            assert_eq!(Kind::of_failure(sentence), kind, "{sentence}");
        }
    }
}
