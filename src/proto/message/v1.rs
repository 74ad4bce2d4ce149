//! What a browser is told in `podwire.v1`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::super::ending::Ending;

/// Who and what a session is connected to: the content of `ready`, and [`Place::tty`] decides how
/// the process is talked to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The session's id, a UUID.
    pub session: String,
    /// The subprotocol that the cluster chose.
    pub protocol: &'static str,
    /// The cluster's name in our configuration.
    pub cluster: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container, if one was named or found.
    pub container: Option<String>,
    /// Whether there is a terminal. It must be what the process has: a terminal without input lives
    /// on for ever, and without a terminal a size stops the cluster's reading.
    pub tty: bool,
}

/// The text messages of `podwire.v1` to the browser.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(in crate::proto) enum ToBrowser<'a> {
    Ready(&'a Place),
    Stderr { data: String },
    Error { message: &'a str },
    Notice { kind: &'static str, message: &'a str },
    Exit(Exit<'a>),
    Pong { id: u64 },
}

#[derive(Serialize)]
pub(in crate::proto) struct Exit<'a> {
    kind: &'static str,
    #[serde(rename = "exitCode")]
    code: Option<u8>,
    message: &'a str,
    retry: bool,
}

impl<'a> ToBrowser<'a> {
    pub(in crate::proto) fn stderr(bytes: &[u8]) -> Self {
        Self::Stderr { data: STANDARD.encode(bytes) }
    }

    pub(in crate::proto) fn exit(ending: &'a Ending) -> Self {
        let facts = ending.kind.facts();
        Self::Exit(Exit {
            kind: facts.name,
            code: ending.exit_code,
            message: &ending.message,
            retry: facts.retry,
        })
    }

    pub(in crate::proto) fn to_json(&self) -> Vec<u8> {
        // Serializing strings and numbers into a vector has no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
