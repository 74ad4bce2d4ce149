//! What the exec's `command` parameters may ask for.

use std::collections::VecDeque;

use super::Shared;
use super::feed::{FRAME_MAX, Feed, Records};
use crate::wire::{STDOUT, frame, now, text};

/// The frames that a burst and an endless flood come in: the longest of the recordings.
const LONG: usize = 32 * 1024 + 1;

/// No flood of any bench comes to its end here: eight exabytes.
const ENDLESS: u64 = 1 << 63;

/// The hexadecimal digits of a time.
const DIGITS: usize = 16;

/// The longest message that is sent back whole.
const ECHO_MAX: usize = 1024 * 1024;

/// A process of the synthetic cluster.
pub(super) enum Program {
    /// Sends its output and ends; before that it may wait for a first byte.
    Flood { waiting: Option<Feed>, asked: bool },
    /// Sends each message back as it came.
    Echo { message: Vec<u8> },
    /// Counts, and says so when enough came.
    Sink { want: u64, have: u64 },
    /// Sends a fixed amount for each `b`.
    Burst { bytes: u64, asked: u64 },
    /// Floods, and notes how long each time that is sent to it was under way.
    Interrupt { digits: Vec<u8> },
    /// Sends the text in pieces, with pauses, and ends.
    Text { frames: VecDeque<Vec<u8>> },
}

impl Program {
    /// The program and what it sends without being asked.
    pub(super) fn start(words: &[String], shared: &Shared) -> Result<(Self, Option<Feed>), String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let number = |word: &str| word.parse::<u64>().map_err(|_| format!("{word}: no number"));
        match words[..] {
            ["flood", frame, bytes, records, ref rest @ ..] => {
                let records = match records {
                    "packed" => Records::Packed,
                    "single" => Records::Single,
                    "gathered" => Records::Gathered,
                    _ => return Err(format!("{records}: packed, single or gathered")),
                };
                let frame = usize::try_from(number(frame)?).unwrap_or(usize::MAX);
                if frame == 1 || frame > FRAME_MAX {
                    return Err("frames are 0, or 2 bytes to 1 MiB".into());
                }
                let feed = Feed::new(&shared.cycle(frame), records, number(bytes)?);
                match rest {
                    [] => Ok((Self::Flood { waiting: None, asked: false }, Some(feed))),
                    ["wait"] => Ok((Self::Flood { waiting: Some(feed), asked: false }, None)),
                    _ => Err("flood FRAME BYTES RECORDS [wait]".into()),
                }
            }
            ["echo"] => Ok((Self::Echo { message: Vec::new() }, None)),
            ["sink", bytes] => Ok((Self::Sink { want: number(bytes)?.max(1), have: 0 }, None)),
            ["burst", bytes] => Ok((Self::Burst { bytes: number(bytes)?, asked: 0 }, None)),
            ["interrupt"] => {
                let feed = Feed::new(&shared.cycle(LONG), Records::Packed, ENDLESS);
                Ok((Self::Interrupt { digits: Vec::new() }, Some(feed)))
            }
            ["text"] => {
                let text = text::text();
                let frames = text::pieces(&text).into_iter().map(output).collect();
                Ok((Self::Text { frames }, None))
            }
            _ => Err(format!("no such program: {words:?}")),
        }
    }

    /// Takes a run of a message on stdin. What is to be said at once goes into `out`.
    pub(super) fn input(
        &mut self,
        run: &[u8],
        end: bool,
        out: &mut Vec<u8>,
        shared: &Shared,
    ) -> Result<(), String> {
        match self {
            Self::Flood { asked, .. } => *asked |= !run.is_empty(),
            Self::Text { .. } => {}
            Self::Echo { message } => {
                if message.len() + run.len() > ECHO_MAX {
                    return Err("a message is too long to be sent back".into());
                }
                if message.is_empty() && end {
                    frame::append(out, frame::BINARY, &[&[STDOUT], run], false);
                } else {
                    message.extend_from_slice(run);
                    if end {
                        frame::append(out, frame::BINARY, &[&[STDOUT], message], false);
                        message.clear();
                    }
                }
            }
            Self::Sink { want, have } => {
                *have += run.len() as u64;
                while *have >= *want {
                    *have -= *want;
                    frame::append(out, frame::BINARY, &[&[STDOUT], b"done\n"], false);
                }
            }
            Self::Burst { asked, .. } => {
                *asked += run.iter().map(|byte| u64::from(*byte == b'b')).sum::<u64>();
            }
            Self::Interrupt { digits } => {
                let arrived = now();
                for digit in run.iter().filter(|byte| byte.is_ascii_hexdigit()) {
                    digits.push(*digit);
                    if digits.len() == DIGITS {
                        let text = String::from_utf8_lossy(digits);
                        let sent = u64::from_str_radix(&text, 16).map_err(|e| e.to_string())?;
                        shared.note_interrupt(arrived.saturating_sub(sent));
                        digits.clear();
                    }
                }
            }
        }
        Ok(())
    }

    /// What was asked for and is sent next, once nothing else is being sent.
    pub(super) fn next_feed(&mut self, shared: &Shared) -> Option<Feed> {
        match self {
            Self::Flood { waiting, asked: true } => waiting.take(),
            // All that was asked for is one feed: nobody waits between two of them.
            Self::Burst { bytes, asked } if *asked > 0 => {
                let bytes = std::mem::take(asked).saturating_mul(*bytes);
                Some(Feed::new(&shared.cycle(LONG), Records::Packed, bytes))
            }
            _ => None,
        }
    }

    /// The next piece of text, if this is the program that has some.
    pub(super) fn next_piece(&mut self) -> Option<Vec<u8>> {
        let Self::Text { frames } = self else { return None };
        frames.pop_front()
    }

    /// Whether the program ends when what it had to send is sent.
    pub(super) fn ends(&self) -> bool {
        match self {
            Self::Flood { waiting, .. } => waiting.is_none(),
            Self::Text { frames } => frames.is_empty(),
            _ => false,
        }
    }
}

/// A frame of output.
fn output(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 3);
    frame::append(&mut out, frame::BINARY, &[&[STDOUT], bytes], false);
    out
}
