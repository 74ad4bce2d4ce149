//! WebSocket frames as `golang.org/x/net/websocket` reads and writes them: frame by frame, never
//! joined, with no look at FIN, reserved bits or unknown opcodes.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// `DefaultMaxPayloadBytes`: a data frame above it ends the connection.
pub(crate) const PAYLOAD_MAX_BYTES: u64 = 32 * 1024 * 1024;
/// The buffer Go's `io.Copy` takes, which bounds every output frame.
pub(crate) const OUTPUT_MAX_BYTES: usize = 32 * 1024;
/// Room in front of the payload for the longest header a frame of that size has, and the
/// channel byte.
pub(crate) const HEADROOM: usize = 5;

/// Opcodes of RFC 6455 §5.2.
pub mod opcode {
    /// A further fragment.
    pub const CONTINUATION: u8 = 0;
    /// Text.
    pub const TEXT: u8 = 1;
    /// Binary.
    pub const BINARY: u8 = 2;
    /// Close.
    pub const CLOSE: u8 = 8;
    /// Ping.
    pub const PING: u8 = 9;
    /// Pong.
    pub const PONG: u8 = 10;
}

/// The head of a frame from the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    pub(crate) length: u64,
    pub(crate) mask: Option<[u8; 4]>,
}

/// Reads frames from a connection that may already have given some of its bytes away.
pub(crate) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(io: R, early: BytesMut) -> FrameReader<R> {
        FrameReader { io, buffer: early }
    }

    /// The next frame's head; an error at the end of the stream.
    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        self.fill(2).await?;
        let (first, second) = (self.buffer[0], self.buffer[1]);
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = second & 0x80 != 0;
        let total = 2 + extended + if masked { 4 } else { 0 };
        self.fill(total).await?;
        let mut raw = self.buffer.split_to(total);
        raw.advance(2);
        let length = match extended {
            0 => u64::from(second & 0x7f),
            2 => u64::from(raw.get_u16()),
            // The top bit is dropped, as Go drops it.
            _ => raw.get_u64() & (u64::MAX >> 1),
        };
        let mask = masked.then(|| [raw[0], raw[1], raw[2], raw[3]]);
        Ok(Head { fin: first & 0x80 != 0, rsv: (first >> 4) & 7, opcode: first & 15, length, mask })
    }

    /// The payload that belongs to `head`, unmasked.
    pub(crate) async fn payload(&mut self, head: &Head) -> io::Result<Bytes> {
        let length = usize::try_from(head.length).map_err(io::Error::other)?;
        self.fill(length).await?;
        let mut payload = self.buffer.split_to(length);
        unmask(&mut payload, head.mask.unwrap_or_default());
        Ok(payload.freeze())
    }

    /// Reads and drops everything until the peer ends the stream.
    pub(crate) async fn drain(&mut self) {
        loop {
            self.buffer.clear();
            self.buffer.reserve(64 * 1024);
            if !matches!(self.io.read_buf(&mut self.buffer).await, Ok(1..)) {
                return;
            }
        }
    }

    pub(crate) fn into_parts(self) -> (R, BytesMut) {
        (self.io, self.buffer)
    }

    pub(crate) fn io(&mut self) -> &mut R {
        &mut self.io
    }

    /// Reads until at least this many bytes are there.
    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            self.buffer.reserve((length - self.buffer.len()).max(64 * 1024));
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// A whole unmasked frame with FIN. Public for scripts, which also use [`raw`].
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw(0x80 | opcode, None, payload)
}

/// A binary frame of one channel.
pub fn channel(channel: u8, payload: &[u8]) -> Vec<u8> {
    frame(opcode::BINARY, &[&[channel], payload].concat())
}

/// A Close frame with a code and no reason.
pub fn close(code: u16) -> Vec<u8> {
    frame(opcode::CLOSE, &code.to_be_bytes())
}

/// A frame with any first byte (FIN, reserved bits and opcode), masked if a key is given.
pub fn raw(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, mask.is_some(), payload.len() as u64);
    let start = bytes.len() + mask.map_or(0, |key| key.len());
    bytes.extend_from_slice(mask.as_ref().map_or(&[], |key| key.as_slice()));
    bytes.extend_from_slice(payload);
    unmask(&mut bytes[start..], mask.unwrap_or_default());
    bytes
}

/// A frame's head without key or payload, so that a length can be declared and not kept.
pub fn head(first: u8, masked: bool, length: u64) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => vec![first, bit | short],
        (_, Ok(middle)) => [&[first, bit | 0x7e], middle.to_be_bytes().as_slice()].concat(),
        _ => [&[first, bit | 0x7f], length.to_be_bytes().as_slice()].concat(),
    }
}

/// Writes the head of a channel's binary frame in front of `length` payload bytes that already
/// lie at [`HEADROOM`], and returns the whole frame: output is never copied.
pub(crate) fn channel_in_place(buffer: &mut [u8], length: usize, channel: u8) -> &[u8] {
    let head = head(0x80 | opcode::BINARY, false, length as u64 + 1);
    let start = HEADROOM - 1 - head.len();
    buffer[start..HEADROOM - 1].copy_from_slice(&head);
    buffer[HEADROOM - 1] = channel;
    &buffer[start..HEADROOM + length]
}
