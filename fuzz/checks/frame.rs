//! Any bytes, at any cut, with and without masks: our parser never panics, reads the same however
//! it is cut, and agrees with tungstenite.

use podwire::proto::frame::Masking;

#[path = "../../tests/frame/readers.rs"]
#[expect(dead_code, reason = "the integration test feeds the readers in more ways")]
mod readers;

/// How many sizes of pieces stand before the bytes.
const CUTS: usize = 6;

/// Whether there are masks, the sizes of the first pieces, and the bytes.
pub(crate) fn check(input: &[u8]) {
    let Some((masked, rest)) = input.split_first() else { return };
    let Some((sizes, wire)) = rest.split_at_checked(CUTS) else { return };
    let masking = if masked & 1 == 1 { Masking::Masked } else { Masking::Plain };
    readers::agree(masking, wire.to_vec(), |wire| cut(wire, sizes));
}

/// Cuts after as many bytes as each of `sizes` says, and leaves the rest whole.
fn cut<'a>(mut bytes: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes {
        let (piece, rest) = bytes.split_at(bytes.len().min((*size).into()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}
