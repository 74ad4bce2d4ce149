//! WebSocket frames (RFC 6455 section 5): a push parser and an encoder that appends.
//!
//! The parser takes any cut of the byte stream and never holds payload: it hands out the run of
//! payload bytes that is already there, in place, unmasked. It keeps some sixty bytes of state.
//! What it must never know: channels, JSON, sockets.

#![expect(clippy::mut_mut, reason = "the input is a cursor: runs are cut off its front in place")]

use std::fmt;

/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const CONTROL_MAX: usize = 125;

/// The longest header: two bytes, eight of length, four of mask (RFC 6455 section 5.2).
const HEADER_MAX: usize = 14;

/// The longest payload that [`finish`] can describe: sixteen bits of length. Longer output is cut
/// into several frames, so that the room for a header can be reserved before its length is known.
pub const MERGE_MAX: usize = 0xffff;

/// A message of more frames than this is refused: each costs a walk through the parser but may
/// carry nothing, so the message limit alone does not bound the work.
pub const FRAGMENTS_MAX: u16 = 1024;

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

/// Reads one direction of a WebSocket connection.
///
/// After an error or a close it swallows whatever comes without looking at it.
#[derive(Debug)]
pub struct Parser {
    masking: Masking,
    message_max: u64,
    header: [u8; HEADER_MAX],
    header_len: u8,
    /// The frame whose payload is being read; none between frames.
    frame: Option<Frame>,
    /// The message whose fragments are being read; none between messages.
    message: Option<Message>,
    /// The payload of a control frame that was cut; freed when it is whole.
    control: Option<Box<Control>>,
    finished: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    remaining: u64,
    /// The key, rotated so that its first byte belongs to the next payload byte.
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug)]
struct Message {
    kind: Kind,
    /// Bytes declared by the headers so far.
    len: u64,
    fragments: u16,
    utf8: Utf8,
}

impl Parser {
    /// A parser for frames that are masked or not, and for messages of at most `message_max`
    /// bytes, all fragments together.
    pub fn new(masking: Masking, message_max: usize) -> Self {
        Self {
            masking,
            message_max: message_max as u64,
            header: [0; HEADER_MAX],
            header_len: 0,
            frame: None,
            message: None,
            control: None,
            finished: false,
        }
    }

    /// Whether a close frame or an error ended this direction.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes the next event from the front of `input`, or `None` when more bytes are needed (then
    /// `input` is empty).
    ///
    /// # Errors
    ///
    /// How the peer broke the protocol. The parser is finished then.
    pub fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, FrameError> {
        if self.finished {
            *input = &mut [];
            return Ok(None);
        }
        let event = self.step(input);
        if matches!(event, Err(_) | Ok(Some(Event::Close(_)))) {
            self.finished = true;
            self.control = None;
        }
        event
    }

    fn step<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Event<'a>>, FrameError> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.read_header(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let wanted = usize::try_from(frame.remaining).unwrap_or(usize::MAX);
            if input.is_empty() && wanted > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            let run = take(input, wanted.min(input.len()));
            if self.masking == Masking::Masked {
                frame.mask = mask(run, frame.mask);
            }
            frame.remaining -= run.len() as u64;
            let whole = frame.remaining == 0;
            if !whole {
                self.frame = Some(frame);
            }
            if let Some(event) = self.payload(frame, run, whole)? {
                return Ok(Some(event));
            }
        }
    }

    /// Reads a header, from the slice when it is whole and bytewise only at a cut.
    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, FrameError> {
        if self.header_len == 0
            && input.len() >= 2
            && let Some(header) = input.get(..header_len(input[1]))
        {
            let frame = self.check_header(header)?;
            take(input, header_len(input[1]));
            return Ok(Some(frame));
        }
        while let [byte, ..] = **input {
            take(input, 1);
            self.header[usize::from(self.header_len)] = byte;
            self.header_len += 1;
            let have = usize::from(self.header_len);
            if have >= 2 && have == header_len(self.header[1]) {
                self.header_len = 0;
                let header = self.header;
                return self.check_header(&header[..have]).map(Some);
            }
        }
        Ok(None)
    }

    /// Everything that a header alone can break, before any payload is looked at.
    fn check_header(&mut self, header: &[u8]) -> Result<Frame, FrameError> {
        let (first, second) = (header[0], header[1]);
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return Err(FrameError::UnknownOpcode),
        };
        let masked = second & 0x80 != 0;
        if masked != (self.masking == Masking::Masked) {
            return Err(FrameError::WrongMasking);
        }
        // A longer length field than needed is not minimal as section 5.2 asks, but it is
        // unambiguous, and every other implementation at hand accepts it.
        let (remaining, mask_at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([header[2], header[3]])), 4),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&header[2..10]);
                (u64::from_be_bytes(bytes), 10)
            }
            short => (u64::from(short), 2),
        };
        let mut mask = [0; 4];
        if masked {
            mask.copy_from_slice(&header[mask_at..mask_at + 4]);
        }
        let frame = Frame { opcode, fin: first & 0x80 != 0, remaining, mask };
        match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                if !frame.fin || remaining > CONTROL_MAX as u64 {
                    return Err(FrameError::BadControl);
                }
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => self.begin_fragment(frame)?,
        }
        Ok(frame)
    }

    fn begin_fragment(&mut self, frame: Frame) -> Result<(), FrameError> {
        let mut message = match (frame.opcode, self.message) {
            (Opcode::Continuation, Some(message)) => message,
            (Opcode::Continuation, None) | (_, Some(_)) => return Err(FrameError::BadFragment),
            (opcode, None) => {
                let kind = if opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
                Message { kind, len: 0, fragments: 0, utf8: Utf8::default() }
            }
        };
        message.len = message.len.saturating_add(frame.remaining);
        if message.len > self.message_max {
            return Err(FrameError::TooBig);
        }
        message.fragments += 1;
        if message.fragments > FRAGMENTS_MAX {
            return Err(FrameError::TooManyFragments);
        }
        self.message = Some(message);
        Ok(())
    }

    /// What a run of unmasked payload comes to; nothing if it is empty or only part of a control
    /// frame.
    fn payload<'a>(
        &mut self,
        frame: Frame,
        run: &'a mut [u8],
        whole: bool,
    ) -> Result<Option<Event<'a>>, FrameError> {
        if matches!(frame.opcode, Opcode::Continuation | Opcode::Text | Opcode::Binary) {
            return self.data(frame.fin && whole, run);
        }
        let mut control = match self.control.take() {
            Some(begun) => *begun,
            None => Control::EMPTY,
        };
        control.push(run);
        if !whole {
            self.control = Some(Box::new(control));
            return Ok(None);
        }
        match frame.opcode {
            Opcode::Ping => Ok(Some(Event::Ping(control))),
            Opcode::Pong => Ok(Some(Event::Pong(control))),
            _ => close_code(control.as_slice()).map(|code| Some(Event::Close(code))),
        }
    }

    fn data<'a>(
        &mut self,
        end: bool,
        payload: &'a mut [u8],
    ) -> Result<Option<Event<'a>>, FrameError> {
        // `begin_fragment` put it there; without one there is nothing to say.
        let Some(message) = &mut self.message else { return Ok(None) };
        let kind = message.kind;
        if kind == Kind::Text && (!message.utf8.push(payload) || end && !message.utf8.is_whole()) {
            return Err(FrameError::NotUtf8);
        }
        if end {
            self.message = None;
        } else if payload.is_empty() {
            return Ok(None);
        }
        Ok(Some(Event::Data { kind, payload, end }))
    }
}

/// Cuts the first `n` bytes off the front of `input`.
fn take<'a>(input: &mut &'a mut [u8], n: usize) -> &'a mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(n);
    *input = rest;
    front
}

/// The whole header's length, as its second byte tells.
fn header_len(second: u8) -> usize {
    let length = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

/// The code in a close frame's payload, if there is one (RFC 6455 sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::BadClose),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_sendable_close_code(code) {
                return Err(FrameError::BadClose);
            }
            match std::str::from_utf8(reason) {
                Ok(_) => Ok(Some(code)),
                Err(_) => Err(FrameError::NotUtf8),
            }
        }
    }
}

/// Applies a mask in place and returns the key for the byte that follows (RFC 6455 section 5.3).
/// Masking and unmasking are the same.
fn mask(bytes: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    let word = u64::from(u32::from_ne_bytes(key));
    let word = word | word << 32;
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ word).to_ne_bytes());
    }
    let tail = chunks.into_remainder();
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
    let mut next = key;
    next.rotate_left(tail.len() % 4);
    next
}

/// Checks UTF-8 that comes in pieces; keeps the bytes of a cut character.
#[derive(Clone, Copy, Default)]
struct Utf8 {
    cut: [u8; 4],
    len: u8,
}

impl fmt::Debug for Utf8 {
    /// Shows the length only: what is cut was typed by somebody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Utf8({} bytes)", self.len)
    }
}

impl Utf8 {
    /// Takes the next piece; false if no continuation could make it valid.
    fn push(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while self.len > 0 {
            let [byte, after @ ..] = rest else { return true };
            rest = after;
            self.cut[usize::from(self.len)] = *byte;
            self.len += 1;
            match std::str::from_utf8(&self.cut[..usize::from(self.len)]) {
                Ok(_) => self.len = 0,
                // An unfinished character has at most three bytes, so the next one fits.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return false,
            }
        }
        match std::str::from_utf8(rest) {
            Ok(_) => true,
            Err(error) if error.error_len().is_none() => {
                let cut = &rest[error.valid_up_to()..];
                self.cut[..cut.len()].copy_from_slice(cut);
                self.len = u8::try_from(cut.len()).unwrap_or(0);
                true
            }
            Err(_) => false,
        }
    }

    fn is_whole(self) -> bool {
        self.len == 0
    }
}

/// Reserves room for a header at the end of `out`; what is appended afterwards is the payload,
/// until [`finish`]. Returns where the frame starts.
pub fn begin(out: &mut Vec<u8>, masking: Masking) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; 8][..reserved(masking)]);
    start
}

/// Writes the header in front of everything after `start` and masks the payload, if a key is
/// given. A payload under 126 bytes moves two bytes towards the front; a longer one stays.
///
/// The payload must be at most [`MERGE_MAX`] bytes; more is a mistake of the caller and is cut.
pub fn finish(out: &mut Vec<u8>, start: usize, opcode: Opcode, key: Option<[u8; 4]>) {
    let masking = if key.is_some() { Masking::Masked } else { Masking::Plain };
    let payload = start + reserved(masking);
    debug_assert!(out.len() - payload <= MERGE_MAX, "a merged frame is too long");
    out.truncate(payload + MERGE_MAX);
    let len = u16::try_from(out.len() - payload).unwrap_or(u16::MAX);
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    out[start] = 0x80 | opcode as u8;
    let mut at = start + 2;
    if let Ok(short @ 0..=125) = u8::try_from(len) {
        out[start + 1] = mask_bit | short;
        out.copy_within(payload.., payload - 2);
        out.truncate(out.len() - 2);
    } else {
        out[start + 1] = mask_bit | 0x7e;
        out[at..at + 2].copy_from_slice(&len.to_be_bytes());
        at += 2;
    }
    if let Some(key) = key {
        out[at..at + 4].copy_from_slice(&key);
        mask(&mut out[at + 4..], key);
    }
}

/// Appends a whole frame whose payload is known: control frames, and messages of our own.
pub fn append(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
    if payload.len() <= MERGE_MAX {
        let masking = if key.is_some() { Masking::Masked } else { Masking::Plain };
        let start = begin(out, masking);
        out.extend_from_slice(payload);
        finish(out, start, opcode, key);
        return;
    }
    out.extend_from_slice(&[0x80 | opcode as u8, 0x7f | if key.is_some() { 0x80 } else { 0 }]);
    out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    out.extend_from_slice(key.as_ref().map_or(&[], |key| &key[..]));
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask(&mut out[start..], key);
    }
}

/// Appends a close frame. The reason is cut at a character, so that the payload fits a control
/// frame (RFC 6455 section 5.5: 125 bytes with the code).
pub fn append_close(out: &mut Vec<u8>, code: u16, reason: &str, key: Option<[u8; 4]>) {
    let mut payload = code.to_be_bytes().to_vec();
    let end = reason.floor_char_boundary(CONTROL_MAX - payload.len());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    append(out, Opcode::Close, &payload, key);
}

pub(super) fn reserved(masking: Masking) -> usize {
    match masking {
        Masking::Plain => 4,
        Masking::Masked => 8,
    }
}
