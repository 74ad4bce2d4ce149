//! WebSocket frames (RFC 6455 section 5), both ways.

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The key that all of our masked frames carry: what is masked here is no secret, and a message
/// that is sent a thousand times is then made once. Not zero, so that unmasking is work.
pub(crate) const KEY: [u8; 4] = [0x5a, 0x17, 0xc3, 0x9e];

/// The longest header: two bytes, eight of length, four of the key.
const HEADER_MAX: usize = 14;

/// Appends a whole frame; the payload is the parts one after another.
pub(crate) fn append(out: &mut Vec<u8>, opcode: u8, parts: &[&[u8]], masked: bool) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let bit = if masked { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.push(bit | short),
        (_, Ok(middle)) => {
            out.push(bit | 0x7e);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(bit | 0x7f);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    if masked {
        out.extend_from_slice(&KEY);
    }
    let payload = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    if masked {
        mask(&mut out[payload..], KEY);
    }
}

/// Applies a mask in place and returns the key for the byte that follows.
fn mask(bytes: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    let mut chunks = bytes.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    let tail = chunks.into_remainder();
    for (byte, key) in tail.iter_mut().zip(key) {
        *byte ^= key;
    }
    let mut next = key;
    next.rotate_left(tail.len());
    next
}

/// A piece of a message, as much as is there.
pub(crate) struct Run<'a> {
    /// The message's kind; a continuation has that of its first frame.
    pub(crate) opcode: u8,
    /// The bytes, unmasked.
    pub(crate) bytes: &'a [u8],
    /// Whether the message begins here.
    pub(crate) start: bool,
    /// Whether it is complete with this run.
    pub(crate) end: bool,
}

/// Cuts a byte stream into runs. It holds a header that is not whole, and never payload.
#[derive(Default)]
pub(crate) struct Parser {
    header: [u8; HEADER_MAX],
    have: usize,
    left: u64,
    opcode: u8,
    /// The kind of the data message in progress, for its continuations.
    message: u8,
    fin: bool,
    start: bool,
    key: Option<[u8; 4]>,
    inside: bool,
}

impl Parser {
    /// Gives all runs of `input` to `on`.
    pub(crate) fn feed(
        &mut self,
        mut input: &mut [u8],
        mut on: impl FnMut(Run<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            if !self.inside {
                let taken = self.take_header(input)?;
                input = &mut input[taken..];
                if !self.inside {
                    return Ok(());
                }
            }
            let len = usize::try_from(self.left).map_or(input.len(), |left| left.min(input.len()));
            if len == 0 && self.left > 0 {
                return Ok(());
            }
            let (run, rest) = input.split_at_mut(len);
            input = rest;
            if let Some(key) = self.key {
                self.key = Some(mask(run, key));
            }
            self.left -= len as u64;
            self.inside = self.left > 0;
            let end = self.fin && !self.inside;
            on(Run { opcode: self.opcode, bytes: run, start: self.start, end })?;
            self.start = false;
        }
    }

    /// Takes what is missing of the next header; it is whole if `inside` is set.
    fn take_header(&mut self, input: &[u8]) -> Result<usize, String> {
        if self.have == 0
            && let Some(&[first, second]) = input.get(..2)
            && let Some(header) = input.get(..header_len(second))
        {
            self.begin(first, second, &header[2..])?;
            return Ok(header.len());
        }
        let mut taken = 0;
        for byte in input {
            self.header[self.have] = *byte;
            self.have += 1;
            taken += 1;
            if self.have >= 2 && self.have == header_len(self.header[1]) {
                let header = self.header;
                let len = std::mem::take(&mut self.have);
                self.begin(header[0], header[1], &header[2..len])?;
                break;
            }
        }
        Ok(taken)
    }

    fn begin(&mut self, first: u8, second: u8, rest: &[u8]) -> Result<(), String> {
        let opcode = first & 0x0f;
        if first & 0x70 != 0 || !matches!(opcode, 0..=BINARY | CLOSE..=PONG) {
            return Err(format!("a frame begins with {first:#04x}"));
        }
        let (length, key) = rest.split_at(header_len(second & 0x7f) - 2);
        self.left = match length {
            [] => u64::from(second & 0x7f),
            bytes => bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.key = key.try_into().ok();
        self.fin = first & 0x80 != 0;
        self.start = opcode != 0;
        self.opcode = if opcode == 0 { self.message } else { opcode };
        if matches!(opcode, TEXT | BINARY) {
            self.message = opcode;
        }
        self.inside = true;
        Ok(())
    }
}

/// The length of a header, by its second byte.
fn header_len(second: u8) -> usize {
    let length = match second & 0x7f {
        127 => 8,
        126 => 2,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}
