//! Names that must not repeat: tokens, UUIDs, the runtime's exec ids.

use ring::rand::{SecureRandom as _, SystemRandom};

fn hex(bytes: usize) -> String {
    let mut raw = vec![0; bytes];
    // A host without randomness could not have made its TLS keys either; zeros do no harm here.
    let _ = SystemRandom::new().fill(&mut raw);
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    raw.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// A bearer token.
pub(crate) fn token() -> String {
    hex(20)
}

/// The id the container runtime gives to an exec, which it names in its error messages.
pub(crate) fn exec_id() -> String {
    hex(32)
}

/// A version 4 UUID.
pub(crate) fn uuid() -> String {
    let raw = hex(16);
    format!("{}-{}-4{}-a{}-{}", &raw[..8], &raw[8..12], &raw[13..16], &raw[17..20], &raw[20..])
}
