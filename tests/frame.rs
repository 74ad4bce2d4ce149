//! The WebSocket codec against an independent one: what tungstenite writes we read, what we write
//! it reads, and what one of the two refuses the other refuses at the same place.
//!
//! Where the two differ, and why that is right:
//!
//! * They check in another order, so a frame with two faults may be refused for either of them.
//!   What counts is that both refuse it after the same messages.
//! * tungstenite waits for a frame's payload before it looks at most of the header; we refuse from
//!   the header alone. The comparison therefore ends every input with bytes that complete any
//!   frame and then are none.
//! * We count fragments, tungstenite does not.
//! * Close code 1014 is registered with IANA; tungstenite refuses it, we accept it.
//!
//! Both accept lengths that are not minimal, and the first byte of a header is judged by neither
//! before the header is whole.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]
// Frames are built by hand, and their lengths are cut on purpose or known to be small.
#![allow(clippy::cast_possible_truncation)]

use std::io::{self, Read, Write};

use podwire::proto::frame::{
    self, CONTROL_MAX, Event, FRAGMENTS_MAX, FrameError, Kind, MERGE_MAX, Masking, Opcode, Parser,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

const MESSAGE_MAX: usize = 1 << 20;

/// A whole message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// What a reader made of some input.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    seen: Vec<Seen>,
    refused: Option<FrameError>,
    /// The beginning of a message that did not end.
    unfinished: Vec<u8>,
}

/// Feeds the parser piece by piece and holds it to what its documentation says.
fn ours<'a>(
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

fn ours_whole(masking: Masking, input: &[u8]) -> Reading {
    ours(masking, MESSAGE_MAX, [input])
}

/// A connection whose peer has sent everything and hung up, and where nobody reads.
struct Recorded<'a>(&'a [u8]);

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
fn oracle(masking: Masking, message_max: usize, input: &[u8]) -> Reading {
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
fn encode(masking: Masking, opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = match masking {
        // Any key does whose bytes differ.
        Masking::Masked => Some([1, 2, 4, payload.len() as u8]),
        Masking::Plain => None,
    };
    encode_with(mask, opcode, is_final, payload)
}

fn encode_with(mask: Option<[u8; 4]>, opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
    let mut out = Vec::new();
    Frame::from_payload(header, payload.to_vec().into()).format(&mut out).unwrap();
    out
}

fn opcode_of(seen: &Seen) -> OpCode {
    match seen {
        Seen::Text(_) => OpCode::Data(Data::Text),
        Seen::Binary(_) => OpCode::Data(Data::Binary),
        Seen::Ping(_) => OpCode::Control(Control::Ping),
        Seen::Pong(_) => OpCode::Control(Control::Pong),
        Seen::Close(_) => OpCode::Control(Control::Close),
    }
}

fn payload_of(seen: &Seen) -> Vec<u8> {
    match seen {
        Seen::Text(bytes) | Seen::Binary(bytes) | Seen::Ping(bytes) | Seen::Pong(bytes) => {
            bytes.clone()
        }
        Seen::Close(code) => code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec()),
    }
}

const CONTINUATION: OpCode = OpCode::Data(Data::Continue);

/// A message, where it is cut into fragments, and control frames to put between them.
#[derive(Clone, Debug)]
struct Script {
    message: Seen,
    cuts: Vec<Index>,
    controls: Vec<Seen>,
}

impl Script {
    /// Appends the frames to `wire`, and what should be read from them to `seen`.
    fn write(&self, masking: Masking, wire: &mut Vec<u8>, seen: &mut Vec<Seen>) {
        let payload = payload_of(&self.message);
        let mut controls = self.controls.iter();
        let fragments = pieces(&payload, &self.cuts);
        for (i, fragment) in fragments.iter().enumerate() {
            let opcode = if i == 0 { opcode_of(&self.message) } else { CONTINUATION };
            let is_final = i + 1 == fragments.len();
            wire.extend(encode(masking, opcode, is_final, fragment));
            if is_final {
                seen.push(self.message.clone());
            }
            let next = controls.by_ref().take(if is_final { usize::MAX } else { 1 });
            for control in next {
                wire.extend(encode(masking, opcode_of(control), true, &payload_of(control)));
                seen.push(control.clone());
            }
        }
    }
}

/// Cuts anywhere, also twice at the same place.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in at.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[start..end]);
        start = end;
    }
    pieces
}

fn maskings() -> impl Strategy<Value = Masking> {
    select(vec![Masking::Masked, Masking::Plain])
}

/// The lengths around which the header changes its form.
const EDGES: [usize; 12] = [0, 1, 2, 3, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536];

/// Bytes that look different everywhere, so that a shift or a lost byte shows.
fn filler(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251 + i / 251) as u8).collect()
}

fn messages() -> impl Strategy<Value = Seen> {
    prop_oneof![
        8 => "\\PC{0,20}".prop_map(|text| Seen::Text(text.into_bytes())),
        8 => vec(any::<u8>(), 0..40).prop_map(Seen::Binary),
        1 => select(&EDGES[..]).prop_map(|len| Seen::Binary(filler(len))),
        1 => select(&EDGES[..]).prop_map(|len| Seen::Text("é".repeat(len / 2).into_bytes())),
    ]
}

fn controls() -> impl Strategy<Value = Seen> {
    let payload = vec(any::<u8>(), 0..=CONTROL_MAX);
    (payload, any::<bool>())
        .prop_map(|(bytes, ping)| if ping { Seen::Ping(bytes) } else { Seen::Pong(bytes) })
}

fn scripts() -> impl Strategy<Value = Script> {
    (messages(), vec(any::<Index>(), 0..4), vec(controls(), 0..3))
        .prop_map(|(message, cuts, controls)| Script { message, cuts, controls })
}

/// A frame that may break any rule, though most break none or one.
#[derive(Clone, Debug)]
struct Rough {
    first: u8,
    masked_wrong: bool,
    /// How many bytes the length takes, when it is not written as short as it can be.
    length_form: Option<u8>,
    payload: Vec<u8>,
    key: [u8; 4],
}

impl Rough {
    fn write(&self, masking: Masking, wire: &mut Vec<u8>) {
        let masked = (masking == Masking::Masked) != self.masked_wrong;
        let mask_bit = if masked { 0x80 } else { 0 };
        let len = self.payload.len();
        wire.push(self.first);
        match (self.length_form, len) {
            (Some(8), _) => {
                wire.push(mask_bit | 0x7f);
                wire.extend((len as u64).to_be_bytes());
            }
            (None, 0..=125) => wire.push(mask_bit | len as u8),
            _ => {
                wire.push(mask_bit | 0x7e);
                wire.extend((len as u16).to_be_bytes());
            }
        }
        if masked {
            wire.extend(self.key);
            wire.extend(self.payload.iter().zip(self.key.iter().cycle()).map(|(b, k)| b ^ k));
        } else {
            wire.extend(&self.payload);
        }
    }
}

/// Longer than [`ROUGH_MAX`], so that some messages are too big.
const ROUGH_PAYLOAD_MAX: usize = 160;
const ROUGH_MAX: usize = 150;

fn roughs() -> impl Strategy<Value = Rough> {
    let first = prop_oneof![
        20 => select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        2 => Just(0x88),
        1 => any::<u8>(),
    ];
    let close =
        (select(vec![0_u16, 999, 1000, 1004, 1005, 1013, 2999, 3000, 4999, 5000]), ".{0,2}")
            .prop_map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat());
    let payload = prop_oneof![
        6 => "[aé世😀]{0,8}".prop_map(String::into_bytes),
        2 => vec(select(vec![0x61, 0x80, 0xc3, 0xe4, 0xb8, 0x96, 0xf0, 0x9f, 0xed]), 0..5),
        2 => close,
        1 => (0..ROUGH_PAYLOAD_MAX).prop_map(filler),
    ];
    let length_form = select(vec![None, None, None, Some(2), Some(8)]);
    (first, prop::bool::weighted(0.02), length_form, payload, any::<[u8; 4]>()).prop_map(
        |(first, masked_wrong, length_form, payload, key)| Rough {
            first,
            masked_wrong,
            length_form,
            payload,
            key,
        },
    )
}

/// Completes any frame that was begun, and is the worst of headers then.
const NONSENSE: [u8; ROUGH_PAYLOAD_MAX + 32] = [0xff; ROUGH_PAYLOAD_MAX + 32];

/// Without files of earlier failures: a failure prints its smallest input, and that becomes a test.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn what_tungstenite_writes_is_read_however_it_is_cut(
        masking in maskings(),
        scripts in vec(scripts(), 1..5),
        close in prop::option::of(prop::option::of(select(vec![1000, 1001, 1011, 3000, 4999]))),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let (mut wire, mut seen) = (Vec::new(), Vec::new());
        for script in &scripts {
            script.write(masking, &mut wire, &mut seen);
        }
        if let Some(code) = close {
            let close = Seen::Close(code);
            wire.extend(encode(masking, opcode_of(&close), true, &payload_of(&close)));
            seen.push(close);
            // Whatever comes after a close is nothing.
            wire.extend(NONSENSE);
        }
        let expected = Reading { seen, refused: None, unfinished: Vec::new() };
        prop_assert_eq!(&ours_whole(masking, &wire), &expected);
        prop_assert_eq!(&ours(masking, MESSAGE_MAX, pieces(&wire, &cuts)), &expected);
        prop_assert_eq!(&ours(masking, MESSAGE_MAX, wire.chunks(1)), &expected);
        prop_assert_eq!(&oracle(masking, MESSAGE_MAX, &wire), &expected);
    }

    #[test]
    fn what_we_write_is_what_tungstenite_writes(
        payload in messages(),
        key in prop::option::of(any::<[u8; 4]>()),
        before in vec(any::<u8>(), 0..20),
    ) {
        let bytes = payload_of(&payload);
        let (opcode, ours) = match payload {
            Seen::Text(_) => (OpCode::Data(Data::Text), Opcode::Text),
            _ => (OpCode::Data(Data::Binary), Opcode::Binary),
        };
        let expected = [&before[..], &encode_with(key, opcode, true, &bytes)].concat();
        let mut out = before.clone();
        frame::append(&mut out, ours, &bytes, key);
        prop_assert_eq!(&out, &expected);
        if bytes.len() <= MERGE_MAX {
            let mut out = before;
            merge(&mut out, ours, &bytes, key);
            prop_assert_eq!(&out, &expected);
        }
    }

    #[test]
    fn a_close_that_we_write_is_read_with_as_much_of_its_reason_as_fits(
        code in select(vec![1000_u16, 1002, 1011, 1012, 4000, 4400, 4502]),
        reason in "\\PC{0,60}",
        key in prop::option::of(any::<[u8; 4]>()),
    ) {
        let mut out = Vec::new();
        frame::append_close(&mut out, code, &reason, key);
        let role = if key.is_some() { Role::Server } else { Role::Client };
        let mut socket = WebSocket::from_raw_socket(Recorded(&out), role, None);
        let Ok(Message::Close(Some(close))) = socket.read() else {
            return Err(TestCaseError::fail("not a close"));
        };
        prop_assert_eq!(u16::from(close.code), code);
        prop_assert!(reason.starts_with(close.reason.as_str()));
        let left_out = reason[close.reason.len()..].chars().next();
        if let Some(character) = left_out {
            prop_assert!(2 + close.reason.len() + character.len_utf8() > CONTROL_MAX);
        }
    }
}

proptest! {
    #![proptest_config(config(4000))]

    #[test]
    fn what_tungstenite_refuses_is_refused_at_the_same_place(
        masking in maskings(),
        frames in vec(roughs(), 0..8),
        lost in prop::option::weighted(0.2, any::<Index>()),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write(masking, &mut wire);
        }
        if let Some(lost) = lost {
            wire.truncate(lost.index(wire.len() + 1));
        }
        agree(masking, wire, &cuts)?;
    }

    #[test]
    fn random_bytes_are_refused_where_tungstenite_refuses_them(
        masking in maskings(),
        wire in vec(any::<u8>(), 0..200),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        agree(masking, wire, &cuts)?;
    }
}

/// Both read the same messages and end at the same frame, and no cut changes that.
fn agree(masking: Masking, mut wire: Vec<u8>, cuts: &[Index]) -> Result<(), TestCaseError> {
    wire.extend(NONSENSE);
    let theirs = oracle(masking, ROUGH_MAX, &wire);
    let whole = ours(masking, ROUGH_MAX, [&wire[..]]);
    prop_assert_eq!(&whole.seen, &theirs.seen);
    prop_assert_eq!(whole.refused.is_some(), theirs.refused.is_some());
    let is_closed = matches!(whole.seen.last(), Some(Seen::Close(_)));
    prop_assert!(is_closed || whole.refused.is_some(), "nobody takes nonsense");
    prop_assert_eq!(&ours(masking, ROUGH_MAX, pieces(&wire, cuts)), &whole);
    prop_assert_eq!(&ours(masking, ROUGH_MAX, wire.chunks(1)), &whole);
    Ok(())
}

fn merge(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) {
    let masking = if key.is_some() { Masking::Masked } else { Masking::Plain };
    let start = frame::begin(out, masking);
    // As output arrives: in several runs.
    for run in payload.chunks(1000) {
        out.extend_from_slice(run);
    }
    frame::finish(out, start, opcode, key);
}

#[test]
fn every_length_at_an_edge_is_read_by_tungstenite_and_by_us() {
    for key in [None, Some([0; 4]), Some([1, 2, 3, 4]), Some([0xff, 0, 0x80, 0x7f])] {
        let masking = if key.is_some() { Masking::Masked } else { Masking::Plain };
        let (mut wire, mut seen) = (Vec::new(), Vec::new());
        for len in EDGES {
            let payload = filler(len);
            frame::append(&mut wire, Opcode::Binary, &payload, key);
            seen.push(Seen::Binary(payload.clone()));
            if len <= MERGE_MAX {
                merge(&mut wire, Opcode::Binary, &payload, key);
                seen.push(Seen::Binary(payload.clone()));
            }
            if len <= CONTROL_MAX {
                frame::append(&mut wire, Opcode::Ping, &payload, key);
                frame::append(&mut wire, Opcode::Pong, &payload, key);
                seen.extend([Seen::Ping(payload.clone()), Seen::Pong(payload)]);
            }
        }
        frame::append(&mut wire, Opcode::Close, &[], key);
        seen.push(Seen::Close(None));
        let expected = Reading { seen, refused: None, unfinished: Vec::new() };
        assert_eq!(oracle(masking, MESSAGE_MAX, &wire), expected);
        assert_eq!(ours_whole(masking, &wire), expected);
    }
}

/// Frames towards a browser carry no mask, which keeps the tables below readable.
fn refusal(hex: &str) -> (Vec<Seen>, Option<FrameError>) {
    let wire = bytes(hex);
    let whole = ours_whole(Masking::Plain, &wire);
    assert_eq!(ours(Masking::Plain, MESSAGE_MAX, wire.chunks(1)), whole, "{hex}");
    (whole.seen, whole.refused)
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn every_single_fault_has_the_name_and_close_code_that_tungstenite_gives_it() {
    use FrameError as E;
    let faults = [
        ("c1 00", E::ReservedBits, 1002),
        ("a1 00", E::ReservedBits, 1002),
        ("91 00", E::ReservedBits, 1002),
        ("83 00", E::UnknownOpcode, 1002),
        ("87 00", E::UnknownOpcode, 1002),
        ("8b 00", E::UnknownOpcode, 1002),
        ("8f 00", E::UnknownOpcode, 1002),
        ("81 80 00000000", E::WrongMasking, 1002),
        ("09 00", E::BadControl, 1002),
        ("0a 00", E::BadControl, 1002),
        ("08 00", E::BadControl, 1002),
        ("80 00", E::BadFragment, 1002),
        ("00 00", E::BadFragment, 1002),
        ("01 00 81 00", E::BadFragment, 1002),
        ("02 00 02 00", E::BadFragment, 1002),
        ("88 01 03", E::BadClose, 1002),
        ("88 02 0000", E::BadClose, 1002),
        ("88 02 03e7", E::BadClose, 1002),
        ("88 02 03ec", E::BadClose, 1002),
        ("88 02 03ed", E::BadClose, 1002),
        ("88 02 03ee", E::BadClose, 1002),
        ("88 02 03f7", E::BadClose, 1002),
        ("88 02 03f8", E::BadClose, 1002),
        ("88 02 0bb7", E::BadClose, 1002),
        ("88 02 1388", E::BadClose, 1002),
        ("88 02 ffff", E::BadClose, 1002),
        ("88 03 03e8 ff", E::NotUtf8, 1007),
        ("88 03 03e8 c3", E::NotUtf8, 1007),
        ("81 01 ff", E::NotUtf8, 1007),
        ("81 02 c0af", E::NotUtf8, 1007),
        ("81 03 eda080", E::NotUtf8, 1007),
        ("81 04 f4908080", E::NotUtf8, 1007),
        ("81 01 c3", E::NotUtf8, 1007),
        ("01 01 c3 80 00", E::NotUtf8, 1007),
        ("01 01 c3 80 01 61", E::NotUtf8, 1007),
        ("82 7f 0000000000100001", E::TooBig, 1009),
        ("82 7f ffffffffffffffff", E::TooBig, 1009),
    ];
    for (hex, error, close_code) in faults {
        assert_eq!(refusal(hex), (Vec::new(), Some(error)), "{hex}");
        assert_eq!(error.close_code(), close_code, "{hex}");
        let theirs = oracle(Masking::Plain, MESSAGE_MAX, &bytes(hex));
        assert_eq!(theirs.refused, Some(error), "{hex}");
    }
    // From a browser, the missing mask.
    let unmasked = ours_whole(Masking::Masked, &bytes("81 00"));
    assert_eq!(unmasked.refused, Some(E::WrongMasking));
    assert_eq!(oracle(Masking::Masked, MESSAGE_MAX, &bytes("81 00")), unmasked);
}

#[test]
fn a_control_frame_that_is_too_long_is_refused_before_its_payload() {
    for hex in ["89 7e 007e", "8a 7f 000000000000007e", "88 7f 8000000000000000"] {
        assert_eq!(refusal(hex), (Vec::new(), Some(FrameError::BadControl)), "{hex}");
    }
}

#[test]
fn close_codes_are_those_that_may_be_sent() {
    for code in 0..=u16::MAX {
        let mut wire = Vec::new();
        frame::append_close(&mut wire, code, "", None);
        let reading = ours_whole(Masking::Plain, &wire);
        let theirs = oracle(Masking::Plain, MESSAGE_MAX, &wire);
        if code == 1014 {
            assert_eq!(reading.seen, [Seen::Close(Some(1014))]);
            assert_eq!(theirs.refused, Some(FrameError::BadClose), "the list above is outdated");
            continue;
        }
        assert_eq!(reading, theirs, "{code}");
        assert_eq!(frame::is_sendable_close_code(code), reading.refused.is_none(), "{code}");
    }
}

#[test]
fn a_length_that_is_not_minimal_is_taken_for_what_it_says() {
    for hex in ["81 7e 0001 61", "81 7f 0000000000000001 61", "89 7e 0000 81 01 61"] {
        let wire = bytes(hex);
        let reading = ours_whole(Masking::Plain, &wire);
        assert_eq!(reading.seen.last(), Some(&Seen::Text(b"a".to_vec())), "{hex}");
        assert_eq!(oracle(Masking::Plain, MESSAGE_MAX, &wire), reading, "{hex}");
    }
}

#[test]
fn a_size_over_the_limit_is_refused_from_the_header_alone() {
    let limit = 64 * 1024;
    let header = |first: u8, len: u64| {
        let mut header = vec![first, 127];
        header.extend(len.to_be_bytes());
        header
    };
    for len in [64 * 1024 + 1, 16 << 20, 1 << 63, u64::MAX] {
        let reading = ours(Masking::Plain, limit, [&header(0x82, len)[..]]);
        assert_eq!(reading.refused, Some(FrameError::TooBig), "{len}");
    }
    let fits = ours(Masking::Plain, limit, [&header(0x82, 64 * 1024)[..]]);
    assert_eq!(fits.refused, None);

    // Together the fragments are one byte too long, or as long as the number can tell.
    for second in [2, u64::MAX] {
        let mut wire = header(0x02, 64 * 1024 - 1);
        wire.extend(filler(64 * 1024 - 1));
        wire.extend(header(0x80, second));
        let reading = ours(Masking::Plain, limit, [&wire[..]]);
        assert_eq!(reading.refused, Some(FrameError::TooBig), "{second}");
    }

    // The limit is on a message, not on what comes after it.
    let mut wire = header(0x82, 64 * 1024);
    wire.extend(filler(64 * 1024));
    let twice = wire.repeat(2);
    assert_eq!(ours(Masking::Plain, limit, [&twice[..]]).seen.len(), 2);
}

#[test]
fn a_message_may_have_1024_fragments_and_not_one_more() {
    for payload in [&b""[..], b"x"] {
        let fragment = |first: u8| [&[first, payload.len() as u8], payload].concat();
        let mut wire = fragment(0x02);
        for _ in 2..FRAGMENTS_MAX {
            // Control frames are no fragments.
            wire.extend(bytes("89 00"));
            wire.extend(fragment(0x00));
        }
        let mut enough = wire.clone();
        enough.extend(fragment(0x80));
        enough.extend(fragment(0x82));
        let reading = ours_whole(Masking::Plain, &enough);
        assert_eq!(reading.refused, None);
        let whole = payload.repeat(FRAGMENTS_MAX.into());
        assert_eq!(reading.seen.iter().rev().nth(1), Some(&Seen::Binary(whole)));

        wire.extend(fragment(0x00));
        assert_eq!(ours_whole(Masking::Plain, &wire).refused, None);
        wire.extend(fragment(0x80));
        let reading = ours_whole(Masking::Plain, &wire);
        assert_eq!(reading.refused, Some(FrameError::TooManyFragments));
    }
}

#[test]
fn a_control_frame_may_stand_between_any_two_fragments_at_any_cut() {
    let expected = [
        Seen::Ping(b"p".to_vec()),
        Seen::Pong(Vec::new()),
        Seen::Text("aé".into()),
        Seen::Close(Some(1000)),
    ];
    // The second character is cut by a fragment, the ping is in the middle of it.
    let wire = bytes("01 02 61c3  89 01 70  00 00  8a 00  80 01 a9  88 02 03e8");
    for first in 0..=wire.len() {
        for second in first..=wire.len() {
            let parts = [&wire[..first], &wire[first..second], &wire[second..]];
            let reading = ours(Masking::Plain, MESSAGE_MAX, parts);
            assert_eq!(reading.seen, expected, "cut at {first} and {second}");
        }
    }
    assert_eq!(oracle(Masking::Plain, MESSAGE_MAX, &wire).seen, expected);
}

#[test]
fn text_is_refused_at_the_first_byte_that_no_continuation_could_mend() {
    // After the cut character comes a byte that does not continue it; more is declared than sent.
    for hex in ["81 7e ffff 61 ff", "81 7e ffff c361", "01 01 e4 00 7e ffff 61", "81 05 f490"] {
        assert_eq!(refusal(hex), (Vec::new(), Some(FrameError::NotUtf8)), "{hex}");
    }
    // These could still become characters.
    for hex in ["81 05 c3", "81 05 e4b8", "81 05 f09f98", "01 03 f09f98 00 05", "81 05 f48f"] {
        assert_eq!(refusal(hex), (Vec::new(), None), "{hex}");
    }
}

#[test]
fn nothing_that_a_peer_sent_shows_in_debug_output() {
    let secret = *b"hunter2\xf0\x9f";
    for first in [0x81, 0x89] {
        let mut wire = vec![first, secret.len() as u8 + 2];
        wire.extend(secret);
        let mut parser = Parser::new(Masking::Plain, MESSAGE_MAX);
        let mut input = &mut wire[..];
        let event = parser.next(&mut input);
        for shown in [format!("{event:?}"), format!("{parser:?}")] {
            assert!(!shown.contains("104, 117") && !shown.contains("240, 159"), "{shown}");
        }
    }
}
