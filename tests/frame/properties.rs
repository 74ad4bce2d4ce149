//! Random operations: what is written one way is read the other way, however it is cut.

use podwire::proto::frame::{self, CONTROL_MAX, MERGE_MAX, Masking, Opcode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket};

use super::readers::{
    EDGES, MESSAGE_MAX, NONSENSE, ROUGH_PAYLOAD_MAX, Reading, Recorded, Seen, agree, encode,
    encode_with, filler, merge, opcode_of, oracle, ours, ours_whole, payload_of,
};

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

fn roughs() -> impl Strategy<Value = Rough> {
    let first = prop_oneof![
        20 => select(vec![0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
        2 => Just(0x88),
        1 => any::<u8>(),
    ];
    let close = (select(vec![0_u16, 999, 1000, 1005, 1014, 2999, 3000, 4999, 5000]), ".{0,2}")
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
        agree(masking, wire, |wire| pieces(wire, &cuts));
    }

    #[test]
    fn random_bytes_are_refused_where_tungstenite_refuses_them(
        masking in maskings(),
        wire in vec(any::<u8>(), 0..200),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        agree(masking, wire, |wire| pieces(wire, &cuts));
    }
}
