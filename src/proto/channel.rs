//! The channel codec: what Kubernetes puts into WebSocket frames.
//!
//! A message is one channel byte and a payload, in one unfragmented binary frame. Sources:
//! `k8s.io/apimachinery/pkg/util/remotecommand/constants.go`, `k8s.io/streaming/pkg/httpstream/
//! wsstream/conn.go`, and sessions recorded against a kube-apiserver 1.36.2.
//! What it must never know: sockets, browsers, when a session ends.

use serde::Deserialize;

/// Input of the process; towards the cluster.
pub const STDIN: u8 = 0;
/// Output of the process, and with a TTY all of it.
pub const STDOUT: u8 = 1;
/// Error output of the process; never with a TTY.
pub const STDERR: u8 = 2;
/// How the process ended; see [`Status`].
pub const STATUS: u8 = 3;
/// Terminal sizes; towards the cluster. See [`Size`].
pub const RESIZE: u8 = 4;
/// Half-close of the channel named by the one byte that follows; towards the cluster, v5 only.
pub const CLOSE: u8 = 255;

/// The most that is sent in one frame, channel byte included: what kubectl sends. The server
/// buffers a whole frame before it writes any of it to the process.
pub const FRAME_MAX: usize = 32 * 1024;

/// The most that is collected of a status: the API server's own are under 2 KiB.
pub const STATUS_MAX: usize = 64 * 1024;

/// The version of the protocol that the cluster chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// `v5.channel.k8s.io`: v4 and half-close of stdin. API servers since 1.30.
    V5,
    /// `v4.channel.k8s.io`: JSON status. Container runtimes.
    V4,
    /// `channel.k8s.io`: text on the status channel, and only on failure; no exit codes.
    V1,
}

impl Subprotocol {
    /// What to offer, in one header line: the API server looks at the first line only.
    pub const OFFER: &str = "v5.channel.k8s.io, v4.channel.k8s.io";
    /// What to offer after a 403 without a body: the name every server knows.
    pub const LAST_RESORT: &str = "channel.k8s.io";

    /// The version that a response header names, if it is one of these.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::V5, Self::V4, Self::V1].into_iter().find(|version| version.name() == name)
    }

    /// The name as it stands in the header.
    pub fn name(self) -> &'static str {
        match self {
            Self::V5 => "v5.channel.k8s.io",
            Self::V4 => "v4.channel.k8s.io",
            Self::V1 => Self::LAST_RESORT,
        }
    }

    /// Whether stdin can be closed while output goes on. On v4 a 255 frame is ignored.
    pub fn can_half_close(self) -> bool {
        self == Self::V5
    }
}

/// The size of a terminal, each side 1 to 65535 characters.
///
/// No other size may be sent: one that does not fit Go's `uint16` ends resizing for the session,
/// and the next resize after it stops the server's read loop for good (recorded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    cols: u16,
    rows: u16,
}

impl Size {
    /// The size most programs assume when nobody says otherwise.
    pub const DEFAULT: Self = Self { cols: 80, rows: 24 };

    /// Clamps both sides to 65535; nothing if one is zero, which means "unknown".
    pub fn new(cols: u64, rows: u64) -> Option<Self> {
        let clamp = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
        (cols > 0 && rows > 0).then(|| Self { cols: clamp(cols), rows: clamp(rows) })
    }

    /// A size that is not this one, by one.
    #[must_use]
    pub fn other(self) -> Self {
        let other = |side: u16| if side == u16::MAX { side - 1 } else { side + 1 };
        Self { cols: other(self.cols), rows: other(self.rows) }
    }

    /// Appends the payload of a [`RESIZE`] message, without the channel byte
    /// (`k8s.io/client-go/tools/remotecommand`, type `TerminalSize`).
    pub fn append_json(self, out: &mut Vec<u8>) {
        let Self { cols, rows } = self;
        out.extend_from_slice(format!("{{\"Width\":{cols},\"Height\":{rows}}}").as_bytes());
    }
}

/// What the status channel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The process ended with 0, or so the cluster says: it says the same when a runtime is
    /// stopped under a living process (recorded).
    Success,
    /// The process ended with this code, 1 to 255; a signal is 128 and its number.
    Exited(u8),
    /// The process was not started, or nobody knows how it ended.
    Failed(String),
    /// This is not a status: the exit code is unknown, never 0.
    Malformed,
}

/// The part of `metav1.Status` that matters. A wrong type anywhere in it is a malformed status.
#[derive(Deserialize)]
struct RawStatus {
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<RawDetails>,
}

#[derive(Deserialize)]
struct RawDetails {
    #[serde(default)]
    causes: Vec<RawCause>,
}

/// The type of a cause stands under the JSON key `reason` (`k8s.io/apimachinery/pkg/apis/meta/v1`).
#[derive(Deserialize)]
struct RawCause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl Status {
    /// Parses what has come on the status channel so far; `None` if it is the beginning of a
    /// status. A server may cut it anywhere, though none was seen to.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match serde_json::from_slice::<RawStatus>(text) {
            Ok(raw) => Some(Self::from_raw(raw)),
            Err(error) if error.is_eof() && text.len() < STATUS_MAX => None,
            Err(_) => Some(Self::Malformed),
        }
    }

    /// The codes are decimal and eight bits wide, as in client-go's `errorDecoderV4`. The message
    /// is never parsed: its wording differs between servers.
    fn from_raw(raw: RawStatus) -> Self {
        match (raw.status.as_str(), raw.reason.as_str()) {
            ("Success", _) => Self::Success,
            ("Failure", "NonZeroExitCode") => {
                let causes = raw.details.map(|details| details.causes).unwrap_or_default();
                let exit = causes.iter().find(|cause| cause.reason == "ExitCode");
                match exit.and_then(|cause| cause.message.parse().ok()) {
                    Some(code @ 1..=255) => Self::Exited(code),
                    _ => Self::Malformed,
                }
            }
            ("Failure", _) => Self::Failed(raw.message),
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT_3: &str = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;

    fn exit(code: &str) -> String {
        EXIT_3.replace(r#""3""#, &format!("\"{code}\""))
    }

    #[test]
    fn recorded_statuses_are_understood() {
        assert_eq!(Status::parse(br#"{"metadata":{},"status":"Success"}"#), Some(Status::Success));
        assert_eq!(Status::parse(br#"{"status":"Success"}"#), Some(Status::Success));
        assert_eq!(Status::parse(EXIT_3.as_bytes()), Some(Status::Exited(3)));
        assert_eq!(Status::parse(exit("137").as_bytes()), Some(Status::Exited(137)));
        let internal = br#"{"metadata":{},"status":"Failure","message":"Internal error occurred: x","reason":"InternalError","details":{"causes":[{"message":"x"}]},"code":500}"#;
        assert_eq!(
            Status::parse(internal),
            Some(Status::Failed("Internal error occurred: x".into()))
        );
    }

    #[test]
    fn an_odd_status_is_never_an_exit_code() {
        let odd = ["{}", "[]", "5", "null", "\"Success\"", r#"{"status":"success"}"#, "x"];
        let odd_codes = ["256", "abc", "-1", "0", "", "3.0"].map(exit);
        for text in odd.into_iter().chain(odd_codes.iter().map(String::as_str)) {
            assert_eq!(Status::parse(text.as_bytes()), Some(Status::Malformed), "{text}");
        }
        let no_cause = r#"{"status":"Failure","reason":"NonZeroExitCode"}"#;
        assert_eq!(Status::parse(no_cause.as_bytes()), Some(Status::Malformed));
    }

    #[test]
    fn a_cut_status_waits_for_the_rest() {
        for cut in 0..EXIT_3.len() {
            assert_eq!(Status::parse(&EXIT_3.as_bytes()[..cut]), None, "cut at {cut}");
        }
        let endless = format!("{{\"message\":\"{}", "x".repeat(STATUS_MAX));
        assert_eq!(Status::parse(endless.as_bytes()), Some(Status::Malformed));
    }

    #[test]
    fn sizes_are_clamped_and_zero_is_no_size() {
        let json = |cols, rows| {
            let mut out = Vec::new();
            Size::new(cols, rows)?.append_json(&mut out);
            String::from_utf8(out).ok()
        };
        assert_eq!(json(80, 24).as_deref(), Some(r#"{"Width":80,"Height":24}"#));
        assert_eq!(json(70_000, u64::MAX).as_deref(), Some(r#"{"Width":65535,"Height":65535}"#));
        assert_eq!(json(0, 24), None);
        assert_eq!(json(80, 0), None);
    }

    #[test]
    fn the_offer_names_what_is_understood() {
        for name in Subprotocol::OFFER.split(", ").chain([Subprotocol::LAST_RESORT]) {
            assert_eq!(Subprotocol::from_name(name).map(Subprotocol::name), Some(name));
        }
        assert_eq!(Subprotocol::from_name("v9.channel.k8s.io"), None);
    }
}
