//! Kubernetes' own dialects: a byte that names a channel and what stands on it, as bytes or as
//! base64 text.
//!
//! Sources: `k8s.io/streaming/pkg/httpstream/wsstream/conn.go`, `k8s.io/cri-streaming/pkg/streaming/
//! remotecommand/websocket.go`, and what was recorded. The browser's version and the cluster's are
//! two things: what one of them lacks is translated here.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::super::channel::{self, Size, Subprotocol};
use super::super::ending::{Ending, Kind};
use super::{FromBrowser, Misunderstood, read_object, side};

/// How Go writes the fields, and how clients in other languages do: Go reads them in any case. One
/// that is missing or null is zero there, and a size with zero is ignored: a page that is hidden
/// measures nothing, and says null.
#[derive(Deserialize)]
struct TerminalSize {
    #[serde(rename = "Width", alias = "width")]
    width: Option<f64>,
    #[serde(rename = "Height", alias = "height")]
    height: Option<f64>,
}

/// One whole message. What an API server ignores is unknown; what would stop its reading, or make
/// it end the session, is misunderstood and goes no further.
pub(super) fn read(message: &[u8], version: Subprotocol) -> Result<FromBrowser<'_>, Misunderstood> {
    let Some((&channel, payload)) = message.split_first() else { return Ok(FromBrowser::Empty) };
    match channel {
        channel::STDIN => Ok(FromBrowser::Input(payload.into())),
        channel::RESIZE => read_size(payload),
        channel::CLOSE if version.can_half_close() => match payload {
            [channel::STDIN] => Ok(FromBrowser::Eof),
            [channel::STDOUT..=channel::RESIZE] => Ok(FromBrowser::Unknown),
            _ => Err("a close names one channel"),
        },
        _ => Ok(FromBrowser::Unknown),
    }
}

/// The same as text: the channel as a digit, and base64. There is no half-close in it.
pub(super) fn read_base64(message: &[u8]) -> Result<FromBrowser<'_>, Misunderstood> {
    let Some((&digit, text)) = message.split_first() else { return Ok(FromBrowser::Empty) };
    let decode = || STANDARD.decode(text).map_err(|_| "not base64");
    match digit.wrapping_sub(b'0') {
        channel::STDIN => Ok(FromBrowser::Input(decode()?.into())),
        channel::RESIZE => read_size(&decode()?),
        _ => Ok(FromBrowser::Unknown),
    }
}

fn read_size(payload: &[u8]) -> Result<FromBrowser<'static>, Misunderstood> {
    if payload.is_empty() {
        return Ok(FromBrowser::Empty);
    }
    let TerminalSize { width, height } = read_object(payload)?;
    let side = |number: Option<f64>| side(number.or(Some(0.0)));
    Ok(FromBrowser::Resize(Size::new(side(width)?, side(height)?)))
}

/// Bytes that are encoded at once, from the end: a multiple of three, on the stack.
const BLOCK: usize = 768;

/// Turns everything behind `start` into base64, where it stands.
pub(in crate::proto) fn encode_in_place(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start;
    out.resize(start + len.div_ceil(3) * 4, 0);
    let bytes = &mut out[start..];
    let mut block = [0; BLOCK];
    // What a block becomes reaches only over the block itself and what stood behind it, which is
    // done by then.
    for at in (0..len).step_by(BLOCK).rev() {
        let plain = &mut block[..BLOCK.min(len - at)];
        plain.copy_from_slice(&bytes[at..at + plain.len()]);
        // There is room for four bytes for every three, so this cannot fail.
        let _ = STANDARD.encode_slice(plain, &mut bytes[at / 3 * 4..]);
    }
}

/// What a browser of version `to` is told on the status channel for what a cluster of version
/// `from` said there; nothing where that version says nothing.
pub(in crate::proto) fn translated(
    from: Subprotocol,
    to: Subprotocol,
    text: &[u8],
) -> Option<Cow<'_, [u8]>> {
    let (from_text, to_text) = (from == Subprotocol::V1, to == Subprotocol::V1);
    if from_text == to_text {
        return Some(text.into());
    }
    if from_text {
        let message = String::from_utf8_lossy(text).into_owned();
        return Some(status(&Ending::new(Kind::Failed, message), 500).into());
    }
    let Sentence { status, message } = serde_json::from_slice(text).unwrap_or_default();
    // Only failures are told there (`v1WriteStatusFunc`).
    (status != "Success").then(|| message.into_bytes().into())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sentence {
    status: String,
    message: String,
}

/// What stands on the status channel at the end of a session of which the cluster said nothing
/// there.
pub(in crate::proto) fn last_status(ending: &Ending, version: Subprotocol) -> Vec<u8> {
    match &ending.answer {
        _ if version == Subprotocol::V1 => ending.message.as_bytes().to_vec(),
        Some(answer) if !answer.body.is_empty() => answer.body.clone(),
        Some(answer) => status(ending, answer.status),
        None => status(ending, code_of(ending.kind)),
    }
}

/// A code for an ending that can only come after the 101. Pages take 500 for a shell that could not
/// be started, and try the next one.
fn code_of(kind: Kind) -> u16 {
    kind.facts().http_status.unwrap_or(match kind {
        Kind::Idle | Kind::MaxSession | Kind::SlowBrowser => 408,
        _ => 500,
    })
}

/// A failure in the shape of `metav1.Status`, as Kubernetes' clients expect it.
pub(crate) fn status(ending: &Ending, code: u16) -> Vec<u8> {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        408 | 504 => "Timeout",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        _ => "Unknown",
    };
    let status = MetaStatus {
        kind: "Status",
        api_version: "v1",
        metadata: Empty {},
        status: "Failure",
        message: &ending.message,
        reason,
        details: Details { causes: [Cause { reason: "kind", message: ending.kind.facts().name }] },
        code,
    };
    // Serializing strings and numbers into a vector has no way to fail.
    serde_json::to_vec(&status).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetaStatus<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    details: Details,
    code: u16,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    message: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_encoded_in_place_as_it_is_elsewhere() {
        for len in (0..20).chain(BLOCK - 4..BLOCK + 4).chain([3 * BLOCK, 40_000, 49_152]) {
            let plain: Vec<u8> = (0..len).map(|n| n.to_le_bytes()[0]).collect();
            let mut out = [b"before", &plain[..]].concat();
            encode_in_place(&mut out, 6);
            assert_eq!(out, [b"before", STANDARD.encode(&plain).as_bytes()].concat(), "{len}");
        }
    }

    #[test]
    fn sizes_are_read_as_go_reads_them() {
        let size = |text: &[u8]| read(&[&[4], text].concat(), Subprotocol::V5).map(|it| owned(&it));
        let is = |cols, rows| Ok(Some(FromBrowser::Resize(Size::new(cols, rows))));
        assert_eq!(size(br#"{"Width":91,"Height":31}"#), is(91, 31));
        assert_eq!(size(b"{\"width\":91,\"height\":31,\"x\":[]}\n"), is(91, 31));
        assert_eq!(size(br#"{"Width":70000,"Height":1}"#), is(65_535, 1));
        assert_eq!(size(br#"{"Width":91}"#), is(91, 0));
        assert_eq!(size(br#"{"Width":null,"Height":null}"#), is(0, 0));
        assert_eq!(size(b""), Ok(None));
        for wrong in ["x", "[91,31]", r#"{"Width":-1,"Height":1}"#, r#"{"Width":"9"}"#, "{"] {
            assert!(size(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    /// What means something.
    fn owned(message: &FromBrowser<'_>) -> Option<FromBrowser<'static>> {
        match message {
            FromBrowser::Resize(size) => Some(FromBrowser::Resize(*size)),
            FromBrowser::Eof => Some(FromBrowser::Eof),
            _ => None,
        }
    }

    #[test]
    fn only_the_newest_version_has_a_half_close() {
        use FromBrowser::{Eof, Unknown};
        assert_eq!(read(b"\xff\x00", Subprotocol::V5), Ok(Eof));
        assert_eq!(read(b"\xff\x04", Subprotocol::V5), Ok(Unknown));
        for wrong in [&b"\xff"[..], b"\xff\x00\x00", b"\xff\x05", b"\xff\xff"] {
            assert!(read(wrong, Subprotocol::V5).is_err(), "{wrong:?}");
            for version in [Subprotocol::V4, Subprotocol::V1] {
                assert_eq!(read(wrong, version), Ok(Unknown));
            }
        }
        assert_eq!(read(b"\xff\x00", Subprotocol::V4), Ok(Unknown));
        assert_eq!(read_base64(b"/AA=="), Ok(Unknown), "the character before the digits");
    }

    #[test]
    fn a_status_is_translated_where_the_versions_differ() {
        use Subprotocol::{V1, V4, V5};
        let exit = br#"{"status":"Failure","message":"exit code 3","reason":"NonZeroExitCode"}"#;
        let success = br#"{"metadata":{},"status":"Success"}"#;
        let said = |from, to, text| translated(from, to, text).map(Cow::into_owned);
        assert_eq!(said(V5, V4, exit), Some(exit.to_vec()));
        assert_eq!(said(V4, V5, success), Some(success.to_vec()));
        assert_eq!(said(V5, V1, exit), Some(b"exit code 3".to_vec()));
        assert_eq!(said(V5, V1, success), None);
        assert_eq!(said(V1, V1, b"no such thing"), Some(b"no such thing".to_vec()));
        let failure: serde_json::Value =
            serde_json::from_slice(&said(V1, V5, b"no such thing").unwrap()).unwrap();
        assert_eq!((&failure["status"], &failure["code"]), (&"Failure".into(), &500.into()));
        assert_eq!(failure["message"], "no such thing");
    }
}
