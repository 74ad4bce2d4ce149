//! The encoder: frames appended to the caller's buffer.

use super::{CONTROL_MAX, Masking, Opcode, mask};

/// The longest payload that [`finish`] can describe: sixteen bits of length. Longer output is cut
/// into several frames, so that the room for a header can be reserved before its length is known.
pub const MERGE_MAX: usize = 0xffff;

/// Reserves room for a header at the end of `out`; what is appended afterwards is the payload,
/// until [`finish`]. Returns where the frame starts.
pub fn begin(out: &mut Vec<u8>, masking: Masking) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 8][..reserved(masking)]);
    start
}

/// Writes the header in front of everything after `start` and masks the payload, if a key is
/// given. A payload under 126 bytes moves two bytes towards the front; a longer one stays.
///
/// The payload must be at most [`MERGE_MAX`] bytes; more is a mistake of the caller and is cut.
pub fn finish(out: &mut Vec<u8>, start: usize, opcode: Opcode, key: Option<[u8; 4]>) {
    let masking = if key.is_some() { Masking::Masked } else { Masking::Plain };
    let payload = start + reserved(masking);
    debug_assert!(out.len() - payload <= MERGE_MAX, "a merged frame is too long");
    out.truncate(payload + MERGE_MAX);
    let len = u16::try_from(out.len() - payload).unwrap_or(u16::MAX);
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    out[start] = 0x80 | opcode as u8;
    let mut at = start + 2;
    if let Ok(short @ 0..=125) = u8::try_from(len) {
        out[start + 1] = mask_bit | short;
        out.copy_within(payload.., payload - 2);
        out.truncate(out.len() - 2);
    } else {
        out[start + 1] = mask_bit | 0x7e;
        out[at..at + 2].copy_from_slice(&len.to_be_bytes());
        at += 2;
    }
    if let Some(key) = key {
        out[at..at + 4].copy_from_slice(&key);
        mask(&mut out[at + 4..], key);
    }
}

/// Appends a whole frame whose payload is known: control frames, and messages of our own.
pub fn append(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
    if payload.len() <= MERGE_MAX {
        let masking = if key.is_some() { Masking::Masked } else { Masking::Plain };
        let start = begin(out, masking);
        out.extend_from_slice(payload);
        finish(out, start, opcode, key);
        return;
    }
    out.extend_from_slice(&[0x80 | opcode as u8, 0x7f | if key.is_some() { 0x80 } else { 0 }]);
    out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    out.extend_from_slice(key.as_ref().map_or(&[], |key| &key[..]));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key);
    }
}

/// Appends a close frame. The reason is cut at a character, so that the payload fits a control
/// frame (RFC 6455 section 5.5: 125 bytes with the code).
pub fn append_close(out: &mut Vec<u8>, code: u16, reason: &str, key: Option<[u8; 4]>) {
    let mut payload = code.to_be_bytes().to_vec();
    let end = reason.floor_char_boundary(CONTROL_MAX - payload.len());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    append(out, Opcode::Close, &payload, key);
}

pub(crate) fn reserved(masking: Masking) -> usize {
    match masking {
        Masking::Plain => 4,
        Masking::Masked => 8,
    }
}
