//! Any message from a browser is, in every dialect, an action or a refusal, and output is the same
//! text at any cut.

use podwire::proto::message::{Carry, Dialect, FromBrowser};

/// The size of the pieces, and the bytes.
pub(crate) fn check(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else { return };
    for dialect in Dialect::ALL {
        if let Ok(FromBrowser::Input(input)) = dialect.read(bytes) {
            assert!(input.len() <= bytes.len(), "nothing can grow by being decoded");
        }
    }

    let mut carry = Carry::default();
    let mut out = Vec::new();
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        carry.push(piece, &mut out);
        assert!(std::str::from_utf8(&out).is_ok(), "every piece ends at a character");
    }
    carry.finish(&mut out);
    assert_eq!(out, String::from_utf8_lossy(bytes).as_bytes());
    assert!(out.len() <= bytes.len() * Carry::GROWTH);
}
