//! The two readers that are compared, and what both are fed with.

use std::io::{self, Read, Write};

use podwire::proto::frame::{self, Event, FrameError, Kind, Masking, Opcode, Parser};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

pub(super) const MESSAGE_MAX: usize = 1 << 20;

/// A whole message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// What a reader made of some input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) seen: Vec<Seen>,
    pub(super) refused: Option<FrameError>,
    /// The beginning of a message that did not end.
    pub(super) unfinished: Vec<u8>,
}

/// Feeds the parser piece by piece and holds it to what its documentation says.
pub(super) fn ours<'a>(
    masking: Masking,
    message_max: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Reading {
    let mut parser = Parser::new(masking, message_max);
    let mut reading = Reading { seen: Vec::new(), refused: None, unfinished: Vec::new() };
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            let was_finished = parser.is_finished();
            let event = match parser.next(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    assert!(parser.is_finished());
                    reading.refused = Some(error);
                    // Nobody is told anything about the beginning of a message that was refused.
                    reading.unfinished.clear();
                    continue;
                }
            };
            assert!(!was_finished, "nothing comes after the end");
            reading.seen.push(match event {
                Event::Data { kind, payload, end } => {
                    assert!(end || !payload.is_empty(), "an empty run is of no use");
                    reading.unfinished.extend_from_slice(payload);
                    if !end {
                        continue;
                    }
                    let whole = std::mem::take(&mut reading.unfinished);
                    match kind {
                        Kind::Text => Seen::Text(whole),
                        Kind::Binary => Seen::Binary(whole),
                    }
                }
                Event::Ping(control) => Seen::Ping(control.as_slice().to_vec()),
                Event::Pong(control) => Seen::Pong(control.as_slice().to_vec()),
                Event::Close(code) => {
                    assert!(parser.is_finished());
                    reading.unfinished.clear();
                    Seen::Close(code)
                }
            });
        }
        assert!(input.is_empty(), "what is not consumed would be lost");
    }
    reading
}

pub(super) fn ours_whole(masking: Masking, input: &[u8]) -> Reading {
    ours(masking, MESSAGE_MAX, [input])
}

/// A connection whose peer has sent everything and hung up, and where nobody reads.
pub(super) struct Recorded<'a>(pub(super) &'a [u8]);

impl Read for Recorded<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Recorded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of the same bytes, in our words.
pub(super) fn oracle(masking: Masking, message_max: usize, input: &[u8]) -> Reading {
    let role = match masking {
        Masking::Masked => Role::Server,
        Masking::Plain => Role::Client,
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(message_max))
        .max_frame_size(Some(message_max));
    let mut socket = WebSocket::from_raw_socket(Recorded(input), role, Some(config));
    let mut seen = Vec::new();
    let refused = loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            // Its way to say that it is about to refuse the close code.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => {
                break Some(FrameError::BadClose);
            }
            Ok(Message::Close(close)) => {
                seen.push(Seen::Close(close.map(|close| close.code.into())));
                break None;
            }
            Ok(Message::Frame(frame)) => panic!("a raw frame: {frame:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break None,
            Err(error) => break Some(same_error(&error)),
        });
    };
    Reading { seen, refused, unfinished: Vec::new() }
}

fn same_error(error: &Error) -> FrameError {
    use ProtocolError as P;
    match error {
        Error::Capacity(_) => FrameError::TooBig,
        Error::Utf8(_) => FrameError::NotUtf8,
        Error::Protocol(P::NonZeroReservedBits) => FrameError::ReservedBits,
        Error::Protocol(P::InvalidOpcode(_)) => FrameError::UnknownOpcode,
        Error::Protocol(P::UnmaskedFrameFromClient | P::MaskedFrameFromServer) => {
            FrameError::WrongMasking
        }
        Error::Protocol(P::FragmentedControlFrame | P::ControlFrameTooBig) => {
            FrameError::BadControl
        }
        Error::Protocol(P::UnexpectedContinueFrame | P::ExpectedFragment(_)) => {
            FrameError::BadFragment
        }
        Error::Protocol(P::InvalidCloseSequence) => FrameError::BadClose,
        other => panic!("not about a frame: {other}"),
    }
}

/// A frame as tungstenite writes it, masked where the direction asks for it.
pub(super) fn encode(masking: Masking, opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = match masking {
        // Any key does whose bytes differ.
        Masking::Masked => Some([1, 2, 4, payload.len() as u8]),
        Masking::Plain => None,
    };
    encode_with(mask, opcode, is_final, payload)
}

pub(super) fn encode_with(
    mask: Option<[u8; 4]>,
    opcode: OpCode,
    is_final: bool,
    payload: &[u8],
) -> Vec<u8> {
    let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
    let mut out = Vec::new();
    Frame::from_payload(header, payload.to_vec().into()).format(&mut out).unwrap();
    out
}

pub(super) fn opcode_of(seen: &Seen) -> OpCode {
    match seen {
        Seen::Text(_) => OpCode::Data(Data::Text),
        Seen::Binary(_) => OpCode::Data(Data::Binary),
        Seen::Ping(_) => OpCode::Control(Control::Ping),
        Seen::Pong(_) => OpCode::Control(Control::Pong),
        Seen::Close(_) => OpCode::Control(Control::Close),
    }
}

pub(super) fn payload_of(seen: &Seen) -> Vec<u8> {
    match seen {
        Seen::Text(bytes) | Seen::Binary(bytes) | Seen::Ping(bytes) | Seen::Pong(bytes) => {
            bytes.clone()
        }
        Seen::Close(code) => code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec()),
    }
}

/// Writes a frame whose payload arrives in several runs, as output does.
pub(super) fn merge(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
    let masking = if key.is_some() { Masking::Masked } else { Masking::Plain };
    let start = frame::begin(out, masking);
    for run in payload.chunks(1000) {
        out.extend_from_slice(run);
    }
    frame::finish(out, start, opcode, key);
}

/// The lengths around which the header changes its form.
pub(super) const EDGES: [usize; 12] = [0, 1, 2, 3, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536];

/// Bytes that look different everywhere, so that a shift or a lost byte shows.
pub(super) fn filler(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251 + i / 251) as u8).collect()
}

/// The limit that [`agree`] reads with: low, so that it is often exceeded.
const ROUGH_MAX: usize = 150;

/// Some messages of this length are too big.
pub(super) const ROUGH_PAYLOAD_MAX: usize = ROUGH_MAX + 10;

/// Completes any frame that was begun, and is the worst of headers then.
pub(super) const NONSENSE: [u8; ROUGH_MAX + 32] = [0xff; ROUGH_MAX + 32];

/// Holds the two readers to each other: they read the same messages and end at the same frame, and
/// no cut changes that.
pub(super) fn agree(masking: Masking, mut wire: Vec<u8>, cut: impl FnOnce(&[u8]) -> Vec<&[u8]>) {
    wire.extend(NONSENSE);
    let whole = ours(masking, ROUGH_MAX, [&wire[..]]);
    assert_eq!(ours(masking, ROUGH_MAX, cut(&wire)), whole);
    assert_eq!(ours(masking, ROUGH_MAX, wire.chunks(1)), whole);
    let is_closed = matches!(whole.seen.last(), Some(Seen::Close(_)));
    assert!(is_closed || whole.refused.is_some(), "nobody takes nonsense");

    if whole.refused == Some(FrameError::TooManyFragments) {
        return;
    }
    let mut theirs = oracle(masking, ROUGH_MAX, &wire);
    let bad_gateway = Seen::Close(Some(1014));
    if theirs.refused == Some(FrameError::BadClose) && whole.seen.last() == Some(&bad_gateway) {
        theirs.refused = None;
        theirs.seen.push(bad_gateway);
    }
    assert_eq!(whole.seen, theirs.seen);
    assert_eq!(whole.refused.is_some(), theirs.refused.is_some());
}
