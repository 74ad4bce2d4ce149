//! Any bytes, at any cut, with and without masks: our parser never panics, reads the same however
//! it is cut, and agrees with tungstenite.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podwire::proto::frame::Masking;

#[path = "../../tests/frame/readers.rs"]
#[expect(dead_code, reason = "the integration test feeds the readers in more ways")]
mod readers;

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

fuzz_target!(|input: (bool, [u8; 6], &[u8])| {
    let (masked, sizes, wire) = input;
    let masking = if masked { Masking::Masked } else { Masking::Plain };
    readers::agree(masking, wire.to_vec(), |wire| cut(wire, &sizes));
});
