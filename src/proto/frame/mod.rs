//! WebSocket frames (RFC 6455 section 5): a push parser and an encoder that appends.
//!
//! The parser takes any cut of the byte stream and never holds payload: it hands out the run of
//! payload bytes that is already there, in place, unmasked. It keeps some sixty bytes of state.
//! What it must never know: channels, JSON, sockets.

#![expect(clippy::mut_mut, reason = "the input is a cursor: runs are cut off its front in place")]

mod encode;
mod parse;

use std::fmt;

pub(crate) use self::encode::reserved;
pub use self::encode::{MERGE_MAX, append, append_close, begin, finish};
pub use self::parse::{FRAGMENTS_MAX, Parser};

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_MAX: usize = 125;

/// The frame types that exist (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message in progress.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The sender will send nothing more.
    Close = 0x8,
    /// A request for a [`Opcode::Pong`].
    Ping = 0x9,
    /// The answer to a [`Opcode::Ping`].
    Pong = 0xa,
}

/// Which frames of this direction carry a mask: all of them or none (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// Frames from whoever opened the connection, such as a browser.
    Masked,
    /// Frames from whoever accepted it, such as a cluster.
    Plain,
}

/// What kind of message a run of payload belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Checked to be UTF-8 up to the end of this run (a character may be cut by the run's end).
    Text,
    /// Bytes.
    Binary,
}

/// The payload of a control frame: at most [`CONTROL_MAX`] bytes, held by value.
#[derive(Clone, Copy)]
pub struct Control {
    bytes: [u8; CONTROL_MAX],
    len: u8,
}

impl Control {
    /// The payload.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    const EMPTY: Self = Self { bytes: [0; CONTROL_MAX], len: 0 };

    fn push(&mut self, run: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + run.len()].copy_from_slice(run);
        // The header was refused if the payload is longer than 125, so this cannot be cut.
        self.len += u8::try_from(run.len()).unwrap_or(0);
    }
}

impl fmt::Debug for Control {
    /// Shows the length only: what a peer puts into a ping may be anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({} bytes)", self.len)
    }
}

/// What the parser found next.
pub enum Event<'a> {
    /// A run of payload of a data message, as much as is there. `end` is true on its last run.
    Data {
        /// Text or binary, as the message's first frame said.
        kind: Kind,
        /// The bytes, unmasked in place; empty only where an empty message ends.
        payload: &'a mut [u8],
        /// Whether the message is complete with this run.
        end: bool,
    },
    /// The peer wants a pong with this payload.
    Ping(Control),
    /// The peer answered a ping.
    Pong(Control),
    /// The peer closes, with a code if it gave one. Nothing comes after it.
    Close(Option<u16>),
}

impl fmt::Debug for Event<'_> {
    /// Shows the length of a payload only: it is what people type and see.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { kind, payload, end } => {
                write!(f, "Data({kind:?}, {} bytes, end: {end})", payload.len())
            }
            Self::Ping(control) => write!(f, "Ping({control:?})"),
            Self::Pong(control) => write!(f, "Pong({control:?})"),
            Self::Close(code) => write!(f, "Close({code:?})"),
        }
    }
}

/// How a peer broke RFC 6455. Each has the close code that the RFC names for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A reserved bit was set, but no extension was agreed (section 5.2).
    ReservedBits,
    /// An opcode that does not exist (section 5.2).
    UnknownOpcode,
    /// A frame from a browser without a mask, or one from a cluster with it (section 5.1).
    WrongMasking,
    /// A control frame that is fragmented or longer than 125 bytes (section 5.5).
    BadControl,
    /// A continuation of nothing, or a new message inside an unfinished one (section 5.4).
    BadFragment,
    /// More than [`FRAGMENTS_MAX`] frames in one message.
    TooManyFragments,
    /// A close frame with one byte, or with a code that may not be sent (section 7.4).
    BadClose,
    /// Text, or the reason of a close, that is not UTF-8 (section 8.1).
    NotUtf8,
    /// The header declares more than the limit: known before any of the payload is kept.
    TooBig,
}

impl FrameError {
    /// The close code to answer with (RFC 6455 section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            // Not a matter of the RFC: the frames are well-formed, the use of them is not.
            Self::TooManyFragments => 4400,
            _ => 1002,
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "a frame has reserved bits set",
            Self::UnknownOpcode => "a frame has an unknown opcode",
            Self::WrongMasking => "a frame is masked the wrong way",
            Self::BadControl => "a control frame is fragmented or too long",
            Self::BadFragment => "a message is fragmented the wrong way",
            Self::TooManyFragments => "a message has too many fragments",
            Self::BadClose => "a close frame is malformed",
            Self::NotUtf8 => "text is not UTF-8",
            Self::TooBig => "a message is too big",
        })
    }
}

impl std::error::Error for FrameError {}

/// Whether a peer may put `code` into a close frame (RFC 6455 section 7.4, and 1012–1014 as
/// registered with IANA since).
pub fn is_sendable_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Applies a mask in place and returns the key for the byte that follows (RFC 6455 section 5.3).
/// Masking and unmasking are the same.
fn mask(bytes: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    let mut key = u32::from_le_bytes(key);
    let four = u128::from(key);
    let word = four | four << 32 | four << 64 | four << 96;
    // Sixteen at a time by hand: a compiler that is told to save space does not do it by itself.
    let (blocks, rest) = bytes.as_chunks_mut::<16>();
    for block in blocks {
        *block = (u128::from_le_bytes(*block) ^ word).to_le_bytes();
    }
    for byte in rest {
        *byte ^= key.to_le_bytes()[0];
        key = key.rotate_right(8);
    }
    key.to_le_bytes()
}
