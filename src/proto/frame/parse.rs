//! The parser: bytes in, events out.

use std::fmt;

use super::{
    CONTROL_MAX, Control, Event, FrameError, Kind, Masking, Opcode, is_sendable_close_code, mask,
};

/// The longest header: two bytes, eight of length, four of mask (RFC 6455 section 5.2).
const HEADER_MAX: usize = 14;

/// A message of more frames than this is refused: each costs a walk through the parser but may
/// carry nothing, so the message limit alone does not bound the work.
pub const FRAGMENTS_MAX: u16 = 1024;

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
        if let Some(event) = self.whole(input) {
            return Ok(Some(event));
        }
        let event = self.step(input);
        if matches!(event, Err(_) | Ok(Some(Event::Close(_)))) {
            self.finished = true;
            self.control = None;
        }
        event
    }

    /// A binary message in one frame that is there as a whole, which most are: nothing of it has
    /// to be remembered. Whatever is different in any way goes through the steps.
    fn whole<'a>(&self, input: &mut &'a mut [u8]) -> Option<Event<'a>> {
        const FIN_BINARY: u8 = 0x82;
        if self.frame.is_some() || self.message.is_some() || self.header_len > 0 {
            return None;
        }
        let [FIN_BINARY, second, high, low, ..] = **input else { return None };
        if (second & 0x80 != 0) != (self.masking == Masking::Masked) {
            return None;
        }
        let len = match second & 0x7f {
            126 => usize::from(u16::from_be_bytes([high, low])),
            127 => return None,
            short => usize::from(short),
        };
        let start = header_len(second);
        if len as u64 > self.message_max || input.len() < start + len {
            return None;
        }
        let (header, payload) = take(input, start + len).split_at_mut(start);
        if let (Masking::Masked, Some(&key)) = (self.masking, header.last_chunk()) {
            mask(payload, key);
        }
        Some(Event::Data { kind: Kind::Binary, payload, end: true })
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
