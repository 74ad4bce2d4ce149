//! Any text from a browser is an action or a refusal, and output is the same text at any cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podwire::proto::message::{Carry, FromBrowser};

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    if let Ok(FromBrowser::Input(input)) = FromBrowser::parse(bytes) {
        assert!(input.len() <= bytes.len(), "nothing can grow by being decoded");
    }

    let mut carry = Carry::default();
    let mut out = Vec::new();
    for piece in bytes.chunks(usize::from(size).max(1)) {
        carry.push(piece, &mut out);
        assert!(std::str::from_utf8(&out).is_ok(), "every piece ends at a character");
    }
    carry.finish(&mut out);
    assert_eq!(out, String::from_utf8_lossy(bytes).as_bytes());
    assert!(out.len() <= bytes.len() * Carry::GROWTH);
});
