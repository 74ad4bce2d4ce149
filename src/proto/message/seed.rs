//! What a browser is told in the seed dialect: text of the terminal, and nothing else.

use std::{fmt, str};

/// How a dialect without messages of its own shows what the relay has to say: a line of the
/// terminal.
pub(in crate::proto) fn line(message: &str) -> String {
    format!("\r\n[podwire: {message}]\r\n")
}

/// Turns output that is cut anywhere into text that is cut between characters.
///
/// At most three bytes of a cut character are carried over to the next piece. Bytes that no
/// continuation could make a character become U+FFFD, one for each maximal subpart as
/// [`String::from_utf8_lossy`] does it, so that any cutting gives the same text.
#[derive(Clone, Copy, Default)]
pub struct Carry {
    /// A cut character has at most three; with a fourth it is whole, or is none.
    bytes: [u8; 3],
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
                self.bytes[..rest.len()].copy_from_slice(rest);
                self.len = u8::try_from(rest.len()).unwrap_or(0);
                return;
            };
            out.extend_from_slice(REPLACEMENT);
            piece = &rest[invalid..];
        }
    }

    /// Appends what is left when no more will come: a character that stayed unfinished.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.len > 0 {
            out.extend_from_slice(REPLACEMENT);
            self.len = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_gives_the_same_text() {
        let samples: [&[u8]; 5] = [
            "aé世😀z".as_bytes(),
            b"\xf0\x9f\x98 \xe4\xb8 \xc3 \x80 \xff\xfe",
            b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\xaf",
            b"\xe4\xe4\xb8\x96\xf0\xf0\x9f\x98\x80",
            b"\xe4\xb8",
        ];
        for sample in samples {
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
