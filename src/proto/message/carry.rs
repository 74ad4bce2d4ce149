//! Output that is cut anywhere, cut anew between characters.

use std::{fmt, str};

/// Turns output that is cut anywhere into text that is cut between characters.
///
/// At most three bytes of a cut character are carried over to the next piece. Bytes that no
/// continuation could make a character become U+FFFD, one for each maximal subpart as
/// [`String::from_utf8_lossy`] does it, so that any cutting gives the same text. Where output stays
/// bytes they are left as they are, and only what is cut is carried over.
#[derive(Clone, Copy, Default)]
pub struct Carry {
    /// A cut character has at most three; with a fourth it is whole, or is none.
    bytes: [u8; Self::MAX],
    len: u8,
}

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

impl fmt::Debug for Carry {
    /// Shows how much is carried, not what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Carry({} bytes)", self.len)
    }
}

impl Carry {
    /// The most bytes that are carried.
    pub(in crate::proto) const MAX: usize = 3;

    /// The most that one byte of output can grow to.
    pub const GROWTH: usize = REPLACEMENT.len();

    /// Appends the text of the carried bytes and this piece.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while self.len > 0 {
            let [byte, after @ ..] = piece else { return };
            let len = usize::from(self.len);
            let [a, b, c] = self.bytes;
            let mut begun = [a, b, c, 0];
            begun[len] = *byte;
            match str::from_utf8(&begun[..=len]) {
                Ok(whole) => {
                    out.extend_from_slice(whole.as_bytes());
                    self.len = 0;
                    piece = after;
                }
                Err(error) if error.error_len().is_none() => {
                    self.bytes.copy_from_slice(&begun[..3]);
                    self.len += 1;
                    piece = after;
                }
                Err(_) => {
                    // The carried bytes stay unfinished; this one may begin something new.
                    out.extend_from_slice(REPLACEMENT);
                    self.len = 0;
                }
            }
        }
        loop {
            let error = match str::from_utf8(piece) {
                Ok(text) => return out.extend_from_slice(text.as_bytes()),
                Err(error) => error,
            };
            let (text, rest) = piece.split_at(error.valid_up_to());
            out.extend_from_slice(text);
            let Some(invalid) = error.error_len() else {
                return self.keep(rest);
            };
            out.extend_from_slice(REPLACEMENT);
            piece = &rest[invalid..];
        }
    }

    /// Appends the carried bytes and this piece as they are, but for the beginning of a character
    /// at the end, which is carried over.
    pub(in crate::proto) fn pass(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.pass_all(out);
        out.extend_from_slice(piece);
        let cut = begun(&out[start..]).len();
        let whole = out.len() - cut;
        self.keep(&out[whole..]);
        out.truncate(whole);
    }

    /// Appends the carried bytes as they are, when no more will come.
    pub(in crate::proto) fn pass_all(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..usize::from(self.len)]);
        self.len = 0;
    }

    /// Takes note of how a piece ends that is passed on whole, if that is in a character.
    pub(in crate::proto) fn follow(&mut self, piece: &[u8]) {
        let last = &piece[piece.len().saturating_sub(Self::MAX)..];
        let carried = usize::from(self.len);
        let mut bytes = [0; 2 * Self::MAX];
        bytes[..carried].copy_from_slice(&self.bytes[..carried]);
        bytes[carried..carried + last.len()].copy_from_slice(last);
        self.keep(begun(&bytes[..carried + last.len()]));
    }

    /// Whether the last piece ended with a whole character.
    pub(in crate::proto) fn is_empty(self) -> bool {
        self.len == 0
    }

    fn keep(&mut self, begun: &[u8]) {
        self.bytes[..begun.len()].copy_from_slice(begun);
        // A character that is not whole has at most three bytes.
        self.len = u8::try_from(begun.len()).unwrap_or(0);
    }

    /// Appends what is left when no more will come: a character that stayed unfinished.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.len > 0 {
            out.extend_from_slice(REPLACEMENT);
            self.len = 0;
        }
    }
}

/// The beginning of a character with which bytes end, if they do.
fn begun(bytes: &[u8]) -> &[u8] {
    let is_begun = |rest: &&[u8]| {
        str::from_utf8(rest)
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=Carry::MAX.min(bytes.len()))
        .map(|len| &bytes[bytes.len() - len..])
        .find(is_begun)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: [&[u8]; 5] = [
        "aé世😀z".as_bytes(),
        b"\xf0\x9f\x98 \xe4\xb8 \xc3 \x80 \xff\xfe",
        b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf",
        b"\xe4\xe4\xb8\x96\xf0\xf0\x9f\x98\x80",
        b"\xe4\xb8",
    ];

    #[test]
    fn bytes_stay_as_they_are_and_only_what_is_cut_waits() {
        for sample in SAMPLES {
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let mut carry = Carry::default();
                    let mut out = Vec::new();
                    for piece in [&sample[..first], &sample[first..second], &sample[second..]] {
                        carry.pass(piece, &mut out);
                        if str::from_utf8(sample).is_ok() {
                            assert!(str::from_utf8(&out).is_ok(), "cut at {first}, {second}");
                        }
                    }
                    carry.pass_all(&mut out);
                    assert_eq!(out, sample, "cut at {first}, {second}");
                }
            }
        }
    }

    #[test]
    fn any_cut_gives_the_same_text() {
        for sample in SAMPLES {
            let expected = String::from_utf8_lossy(sample);
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    let mut carry = Carry::default();
                    let mut out = Vec::new();
                    for piece in [&sample[..first], &sample[first..second], &sample[second..]] {
                        carry.push(piece, &mut out);
                        assert!(str::from_utf8(&out).is_ok());
                    }
                    carry.finish(&mut out);
                    assert_eq!(String::from_utf8_lossy(&out), expected, "cut at {first}, {second}");
                }
            }
        }
    }
}
