//! How a browser says the same thing in each dialect.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podwire::proto::message::Dialect;

use super::{browser_frame, text};

/// What stands in front of input.
pub(crate) fn tag(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::Seed | Dialect::V1 | Dialect::Raw => b"",
        Dialect::KubeV5 | Dialect::KubeV4 | Dialect::KubeV1 => b"\0",
        Dialect::Base64V4 | Dialect::Base64V1 | Dialect::Ttyd => b"0",
    }
}

/// Whether messages are base64.
pub(crate) fn is_base64(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::Base64V4 | Dialect::Base64V1)
}

/// Bytes that were typed, in one message.
pub(crate) fn input(dialect: Dialect, bytes: &[u8]) -> Vec<u8> {
    on_channel(dialect, 0, bytes).unwrap_or_else(|| {
        let first = if dialect == Dialect::Raw { 0x81 } else { 0x82 };
        let first = if str::from_utf8(bytes).is_ok() { first } else { 0x82 };
        browser_frame(first, &[tag(dialect), bytes].concat())
    })
}

/// A message on a channel, in the dialects that have those.
pub(crate) fn on_channel(dialect: Dialect, channel: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    dialect.kube()?;
    if is_base64(dialect) {
        let digit = char::from(channel.wrapping_add(b'0'));
        return Some(text(&format!("{digit}{}", STANDARD.encode(bytes))));
    }
    Some(browser_frame(0x82, &[&[channel], bytes].concat()))
}

/// The payload of a size, and the opcode of its frame; none where there is no way to say one.
pub(crate) fn size(dialect: Dialect, cols: u64, rows: u64) -> Option<(u8, Vec<u8>)> {
    let kube = format!(r#"{{"Width":{cols},"Height":{rows}}}"#);
    Some(match dialect {
        Dialect::Seed | Dialect::V1 => {
            (1, format!(r#"{{"type":"resize","rows":{rows},"cols":{cols}}}"#).into_bytes())
        }
        Dialect::KubeV5 | Dialect::KubeV4 | Dialect::KubeV1 => {
            (2, [b"\x04", kube.as_bytes()].concat())
        }
        Dialect::Base64V4 | Dialect::Base64V1 => {
            (1, format!("4{}", STANDARD.encode(kube)).into_bytes())
        }
        Dialect::Ttyd => (2, format!(r#"1{{"columns":{cols},"rows":{rows}}}"#).into_bytes()),
        Dialect::Raw => return None,
    })
}

/// Payloads that mean nothing and are ignored.
pub(crate) fn ignored(dialect: Dialect) -> Vec<(u8, &'static [u8])> {
    match dialect {
        Dialect::Seed | Dialect::V1 => {
            vec![(1, b"{}"), (1, b""), (1, b"  "), (1, br#"{"type":"nope","data":5}"#)]
        }
        Dialect::KubeV5 => {
            vec![(2, b""), (2, b"\x01a"), (2, b"\x03{}"), (2, b"\xff\x04"), (1, b"x")]
        }
        Dialect::KubeV4 | Dialect::KubeV1 => {
            vec![(2, b""), (2, b"\x02a"), (2, b"\x09b"), (2, b"\xff\x00"), (2, b"\xff"), (1, b"hi")]
        }
        Dialect::Base64V4 | Dialect::Base64V1 => {
            vec![(1, b""), (1, b"4"), (1, b"1YQ=="), (1, b"9!"), (1, b"/AA==")]
        }
        Dialect::Raw => vec![(1, b""), (2, b"")],
        Dialect::Ttyd => vec![(2, b""), (2, b"9x"), (2, b"{}"), (1, br#"{"AuthToken":"x"}"#)],
    }
}

/// Payloads that are not understood, of which the tenth ends a session.
pub(crate) fn malformed(dialect: Dialect) -> Vec<(u8, &'static [u8])> {
    match dialect {
        Dialect::Seed | Dialect::V1 => vec![(1, b"[1]")],
        Dialect::KubeV5 => {
            vec![(2, b"\x04x"), (2, b"\x04{\"Width\":-1}"), (2, b"\xff"), (2, b"\xff\x05")]
        }
        Dialect::KubeV4 | Dialect::KubeV1 => vec![(2, b"\x04x"), (1, b"\x04[1,2]")],
        Dialect::Base64V4 | Dialect::Base64V1 => vec![(1, b"0!"), (1, b"0YQ"), (1, b"4eA==")],
        Dialect::Raw => vec![],
        Dialect::Ttyd => vec![(2, b"1x"), (2, b"{\"columns\":80}"), (2, b"1[1,2]")],
    }
}
