//! Channel 4: sizes, and the two ways in which they stop the read loop for good.
//!
//! The kubelet decodes sizes in a task of its own, fed by an unbuffered pipe. Without a TTY
//! nobody takes the first decoded size, and after a size that does not decode the task has
//! ended; either way the next write to that pipe never returns (recordings `resize_to_nontty`,
//! `client_resize_malformed`, `resize_wedge_after_overflow`).

use serde_json::Value;
use tokio::sync::mpsc;

/// Columns and rows, as Go's `TerminalSize` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// Where decoded sizes go.
pub(crate) enum Taker {
    /// A terminal.
    Terminal(mpsc::UnboundedSender<Size>),
    /// The container runtime without a terminal, which takes and ignores them (v4, v1).
    Runtime,
    /// Nobody: v5 without a TTY.
    Nobody,
}

/// Whether the read loop may go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    Done,
    Wedged,
}

/// The decoder behind channel 4.
pub(crate) struct Resizes {
    taker: Option<Taker>,
    pending: Vec<u8>,
    stuck: bool,
}

impl Resizes {
    pub(crate) fn new(taker: Taker) -> Resizes {
        Resizes { taker: Some(taker), pending: Vec::new(), stuck: false }
    }

    /// A half-close of channel 4: what comes later is an error that is only logged.
    pub(crate) fn close(&mut self) {
        self.taker = None;
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Fed {
        let Some(taker) = &self.taker else { return Fed::Done };
        if self.stuck {
            return Fed::Wedged;
        }
        self.pending.extend_from_slice(bytes);
        let mut values = serde_json::Deserializer::from_slice(&self.pending).into_iter::<Value>();
        loop {
            match values.next() {
                None => break,
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(_)) => {
                    self.stuck = true;
                    return Fed::Done;
                }
                Some(Ok(value)) => match (size(&value), taker) {
                    (None, _) | (_, Taker::Nobody) => {
                        self.stuck = true;
                        return Fed::Done;
                    }
                    // A terminal that is gone takes no size and minds none.
                    (Some(size), Taker::Terminal(sizes)) => drop(sizes.send(size)),
                    (Some(_), Taker::Runtime) => {}
                },
            }
        }
        let used = values.byte_offset();
        self.pending.drain(..used);
        Fed::Done
    }
}

/// Go's decoding into two `uint16`: names without case, unknown fields ignored, `null` leaves a
/// zero, anything but an integer in range is an error.
fn size(value: &Value) -> Option<Size> {
    let mut size = Size { width: 0, height: 0 };
    if value.is_null() {
        return Some(size);
    }
    for (name, value) in value.as_object()? {
        let field = match name.to_ascii_lowercase().as_str() {
            "width" => &mut size.width,
            "height" => &mut size.height,
            _ => continue,
        };
        if !value.is_null() {
            *field = u16::try_from(value.as_u64()?).ok()?;
        }
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use super::*;

    #[test]
    fn sizes_are_decoded_as_go_decodes_them() {
        let table: [(&str, Option<(u16, u16)>); 9] = [
            (r#"{"Width":80,"Height":24}"#, Some((80, 24))),
            (r#"{"width":80,"HEIGHT":24,"x":[1]}"#, Some((80, 24))),
            ("{}", Some((0, 0))),
            (r#"{"Width":70000,"Height":1}"#, None),
            (r#"{"Width":-1}"#, None),
            (r#"{"Width":80.0}"#, None),
            (r#"{"Width":"80"}"#, None),
            ("[]", None),
            ("null", Some((0, 0))),
        ];
        for (text, expected) in table {
            let decoded = size(&serde_json::from_str(text).unwrap());
            assert_eq!(decoded.map(|size| (size.width, size.height)), expected, "{text}");
        }
    }

    #[test]
    fn a_value_may_come_in_two_frames() {
        let (sizes, mut taken) = mpsc::unbounded_channel();
        let mut resizes = Resizes::new(Taker::Terminal(sizes));
        assert_eq!(resizes.feed(br#"{"Width":8"#), Fed::Done);
        assert!(taken.try_recv().is_err());
        assert_eq!(resizes.feed(b"0}\n"), Fed::Done);
        assert_eq!(taken.try_recv().unwrap(), Size { width: 80, height: 0 });
    }

    #[test]
    fn the_second_size_without_a_terminal_wedges() {
        let mut resizes = Resizes::new(Taker::Nobody);
        assert_eq!(resizes.feed(br#"{"Width":80,"Height":24}"#), Fed::Done);
        assert_eq!(resizes.feed(br#"{"Width":81,"Height":25}"#), Fed::Wedged);
    }

    #[test]
    fn a_closed_channel_takes_no_size_and_wedges_nothing() {
        let mut resizes = Resizes::new(Taker::Nobody);
        assert_eq!(resizes.feed(b"{bad"), Fed::Done);
        resizes.close();
        assert_eq!(resizes.feed(b"{}"), Fed::Done);
    }
}
