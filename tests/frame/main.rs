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

mod properties;
mod readers;

use podwire::proto::frame::{
    self, CONTROL_MAX, FRAGMENTS_MAX, FrameError, MERGE_MAX, Masking, Opcode, Parser,
};

use readers::{EDGES, MESSAGE_MAX, Reading, Seen, filler, merge, oracle, ours, ours_whole};

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
        ("88 02 03ed", E::BadClose, 1002),
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
        assert!(!error.to_string().is_empty(), "{hex}");
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
        // Well-formed, and still not what anybody needs: no code of RFC 6455 says that.
        assert_eq!(FrameError::TooManyFragments.close_code(), 4400);
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
