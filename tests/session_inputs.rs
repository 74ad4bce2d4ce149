//! Everything that a browser may do to a session, row by row (the numbers are those of the
//! project's list of bad inputs: F for frames, J for messages).
//!
//! Not here: F14 is among the regressions, F16 among the cuts; F17 is about the time before there
//! is a session.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::time::Duration;

use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;

use session::readers::{Sent, Told};
use session::table::Step::{Browser, BrowserEnds, Wait};
use session::table::{Row, keys};
use session::{Rig, browser_close, browser_frame, frame, ms, options, resize, size, text, typed};

const DIALECTS: [Dialect; 2] = [Dialect::Seed, Dialect::V1];

#[test]
fn a_broken_frame_is_answered_with_the_code_that_the_rfc_names() {
    let row = |id, bytes: Vec<u8>, code| {
        // What stood before it counts, what stands behind it does not.
        let steps = vec![Browser([typed(b"a"), bytes, typed(b"b"), browser_close(1000)].concat())];
        let sent =
            vec![Sent::Input([&b"a"[..], &[3, 4].repeat(5)].concat()), Sent::Close(Some(1000))];
        Row::new(id, steps).ends(Kind::ProtocolError).close_code(code).sent(sent).check();
    };
    row("F1", frame(0x82, b"unmasked", None), 1002);
    for first in [0xc2, 0xa2, 0x92, 0x83, 0x84, 0x85, 0x86, 0x87] {
        row("F2", browser_frame(first, b"x"), 1002);
    }
    for first in [0x8b, 0x8c, 0x8d, 0x8e, 0x8f] {
        row("F2", browser_frame(first, b"x"), 1002);
    }
    row("F3 fragmented ping", browser_frame(0x09, b"x"), 1002);
    row("F3 long ping", browser_frame(0x89, &[b'x'; 126]), 1002);
    row("F3 short close", browser_frame(0x88, b"x"), 1002);
    for code in [999_u16, 1005, 1006, 5000] {
        row("F3 close", browser_frame(0x88, &code.to_be_bytes()), 1002);
    }
    row("F3 reason", browser_frame(0x88, b"\x03\xe8\xff"), 1007);
    row("F4 continuation", browser_frame(0x80, b"x"), 1002);
    row("F4 inside", [browser_frame(0x01, b"{"), text("{}")].concat(), 1002);
    for len in [(1_u64 << 20) + 1, 16 << 20, 1 << 63] {
        let header = [&[0x82, 0xff][..], &len.to_be_bytes(), &[1, 2, 3, 4]].concat();
        row("F5", header, 1009);
    }
    let many = [browser_frame(0x01, b"{"), browser_frame(0x00, &[b' '; 1049]).repeat(1000)];
    row("F6", many.concat(), 1009);
    row("F7", [browser_frame(0x01, b""), browser_frame(0x00, b"").repeat(1024)].concat(), 4400);
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"cut \xe4\xb8"] {
        row("F9", browser_frame(0x81, bad), 1007);
    }
}

#[test]
fn a_message_that_is_never_finished_ends_the_session_in_its_time() {
    let mut steps = vec![Browser(browser_frame(0x01, b"{"))];
    for _ in 0..3 {
        steps.extend([Wait(Duration::from_secs(10)), Browser(browser_frame(0x00, b" "))]);
    }
    let row = Row::new("F8", steps).ends(Kind::ProtocolError).close_code(4400).sent(keys());
    row.says("never finished").check();
    // A long one has the time that its bytes need on a slow line.
    let mut rig = Rig::new(options(Dialect::V1, true));
    rig.drain();
    rig.browser_sends(&browser_frame(0x01, &vec![b' '; 400_000]));
    rig.wait(Duration::from_mins(2));
    assert_eq!(rig.session.to_browser(), b"");
    rig.browser_sends(&browser_frame(0x80, br#"{"type":"ping","id":1}"#));
    rig.drain();
    assert_eq!(rig.browser.last_json().unwrap()["type"], "pong");
    assert_eq!(rig.session.deadline(), None, "a finished message has no deadline");
}

#[test]
fn a_browser_that_goes_is_told_nothing_and_its_process_is_hung_up() {
    for close in [&b""[..], b"\x03\xe8", b"\x03\xe9going away"] {
        let steps = vec![Browser(browser_frame(0x88, close)), BrowserEnds];
        Row::new("F12", steps).ends(Kind::BrowserClosed).sent(keys()).check();
    }
    Row::new("F12", vec![BrowserEnds]).ends(Kind::BrowserLost).sent(keys()).check();
    let cut = vec![Browser(text(r#"{"type":"resize""#)[..9].to_vec()), BrowserEnds];
    Row::new("F13", cut).ends(Kind::BrowserLost).sent(keys()).check();
}

#[test]
fn after_our_close_a_browser_is_read_but_not_heard_until_it_closes_or_time_is_up() {
    for answers in [true, false] {
        let mut rig = Rig::new(options(Dialect::V1, true));
        rig.stop(Kind::Revoked);
        rig.drain();
        assert!(rig.session.wants_browser(), "F11: a reset would overtake our close");
        rig.browser_sends(&[typed(b"rm -rf /\r"), text("{"), browser_frame(0x89, b"?")].concat());
        rig.browser_sends(&frame(0x82, b"unmasked", None)[..if answers { 0 } else { 5 }]);
        rig.wait(ms(1999));
        assert!(!rig.session.is_browser_over());
        if answers {
            rig.browser_sends(&browser_close(4403));
        } else {
            rig.wait(ms(1));
        }
        assert!(rig.session.is_browser_over());
        assert_eq!(rig.finish().ending.kind, Kind::Revoked);
        assert_eq!(rig.cluster.sent, keys());
    }
}

/// Plays messages, and says what the process got and how many complaints the browser had; a last
/// key shows that the session lives.
fn talk(dialect: Dialect, messages: &[&[u8]]) -> (Vec<u8>, usize, u64) {
    let mut rig = Rig::new(options(dialect, true));
    for message in messages {
        rig.browser_sends(&browser_frame(0x81, message));
    }
    rig.browser_sends(&typed(b"."));
    rig.drain();
    let input = rig.cluster.input();
    assert_eq!(input.last(), Some(&b'.'), "{messages:?}");
    let is_error = |told: &&Told| matches!(told, Told::Json(json) if json["type"] == "error");
    let errors = rig.browser.told.iter().filter(is_error).count();
    rig.browser_ends();
    let ignored = rig.finish().traffic.ignored;
    (input[..input.len() - 1].to_vec(), errors, ignored)
}

#[test]
fn what_is_not_understood_is_complained_about_and_the_session_lives() {
    let deep = "[".repeat(100_000);
    let nested = format!(r#"{{"type":"input","x":{deep}"#);
    let (bad, fine, unknown): (&[&str], &[&str], &[&str]) = (
        &[
            "{",
            "[",
            "nul",
            "{}x",
            "[]",
            "\"x\"",
            "5",
            "null",
            &deep,
            &nested,
            "\u{feff}{}",
            "{\0}\0",
            r#"{"type":"input","type":"resize"}"#,
            r#"{"type":"input"}"#,
            r#"{"type":"input","input":null}"#,
            r#"{"type":"input","input":5}"#,
            r#"{"type":"input","input":{}}"#,
            r#"{"type":"input","input":"\ud800"}"#,
            r#"{"type":"input","data":"%"}"#,
            r#"{"type":"resize","rows":"24","cols":"80"}"#,
            r#"{"type":"resize","rows":-1,"cols":80}"#,
            r#"{"type":"resize","rows":1.5,"cols":80}"#,
            r#"{"type":"resize","rows":null,"cols":80}"#,
            r#"{"type":"resize","rows":24}"#,
            r#"{"type":"resize","rows":1e999,"cols":80}"#,
            r#"{"type":"eof"}"#,
        ],
        &["", "   ", r#"{"type":"resize","rows":0,"cols":80}"#, r#"{"type":"ack","bytes":0}"#],
        &[
            "{}",
            r#"{"type":"nope"}"#,
            r#"{"Type":"input","input":"x"}"#,
            r#"{"operation":"stdin","data":"x"}"#,
            r#"{"Op":"stdin","Data":"x"}"#,
            r#"{"type":"close","code":99999}"#,
            r#"{"type":"exit","exitCode":0}"#,
        ],
    );
    for message in bad {
        assert_eq!(talk(Dialect::V1, &[message.as_bytes()]), (vec![], 1, 0), "J: {message:.60}");
        assert_eq!(talk(Dialect::Seed, &[message.as_bytes()]), (vec![], 0, 0), "J: {message:.60}");
    }
    for dialect in DIALECTS {
        for message in fine {
            assert_eq!(talk(dialect, &[message.as_bytes()]), (vec![], 0, 0), "J: {message}");
        }
        for message in unknown {
            assert_eq!(talk(dialect, &[message.as_bytes()]), (vec![], 0, 1), "J: {message}");
        }
    }
}

#[test]
fn the_tenth_message_that_is_not_understood_ends_the_session() {
    let nine = text("[").repeat(9);
    let steps = vec![Browser(nine.clone()), Browser(text("{")), Browser(typed(b"unheard"))];
    let row = Row::new("J2", steps).ends(Kind::ProtocolError).close_code(4400).sent(keys());
    row.says("malformed JSON").check();
    for dialect in DIALECTS {
        let messages: Vec<&[u8]> = vec![b"["; 9];
        let (input, errors, _) = talk(dialect, &messages);
        assert_eq!((input.len(), errors), (0, if dialect == Dialect::V1 { 9 } else { 0 }));
    }
}

#[test]
fn input_reaches_the_process_byte_by_byte_as_it_was_meant() {
    let long = "x".repeat((1 << 20) - r#"{"type":"input","input":""}"#.len());
    let zeros = r"\u0000".repeat(10_000);
    let samples: [(String, &[u8]); 6] = [
        (r#"{"type":"input","input":"\u0000\u0003\r\n\t"}"#.into(), b"\0\x03\r\n\t"),
        (r#"{"type":"input","input":"\ud83d\ude00 \ufffd é"}"#.into(), "😀 \u{fffd} é".as_bytes()),
        (r#"{"type":"input","data":"AP+AAw=="}"#.into(), b"\0\xff\x80\x03"),
        (r#"{"type":"input","input":""}"#.into(), b""),
        (format!(r#"{{"type":"input","input":"{long}"}}"#), long.as_bytes()),
        (format!(r#"{{"type":"input","input":"{zeros}"}}"#), &[0; 10_000]),
    ];
    for dialect in DIALECTS {
        for (message, expected) in &samples {
            let (input, errors, _) = talk(dialect, &[message.as_bytes()]);
            assert!(input == *expected && errors == 0, "J8, J9: {message:.60}");
        }
        // Binary frames are input in both dialects.
        let mut rig = Rig::new(options(dialect, true));
        rig.browser_sends(&typed(b"F10 \xff"));
        rig.drain();
        assert_eq!(rig.cluster.sent, [Sent::Input(b"F10 \xff".to_vec())]);
    }
}

#[test]
fn sizes_are_clamped_and_only_the_newest_of_a_burst_is_sent() {
    let mut rig = Rig::new(options(Dialect::Seed, true));
    for (index, (cols, rows)) in [(65_536, 1_000_000_000), (80, 24), (80, 24)].iter().enumerate() {
        rig.browser_sends(&resize(*cols, *rows));
        rig.wait(ms(50));
        rig.drain();
        assert_eq!(rig.cluster.sizes().len(), [1, 2, 2][index], "J10");
    }
    assert_eq!(rig.cluster.sizes(), [(65_535, 65_535), (80, 24)]);
    for step in 0..10_000_u32 {
        rig.browser_sends(&resize(100 + step % 50, 25 + step % 7));
        rig.drain();
        rig.wait(Duration::from_micros(100));
    }
    rig.wait(ms(50));
    rig.drain();
    let sizes = rig.cluster.sizes();
    assert!((15..=23).contains(&sizes.len()), "J11: {} sizes in a second", sizes.len());
    assert_eq!(sizes.last(), Some(&(100 + 9_999 % 50, 25 + 9_999 % 7)));
    rig.browser_sends(&resize(10, 10));
    rig.browser_sends(&typed(b"x"));
    rig.drain();
    let [.., size, input] = &rig.cluster.sent[..] else { panic!() };
    assert_eq!(*size, Sent::Size(10, 10), "a size is sent before what is typed after it");
    assert_eq!(*input, Sent::Input(b"x".to_vec()));
}

#[test]
fn without_a_terminal_no_size_is_ever_sent() {
    let mut options = options(Dialect::V1, false);
    options.size = size(80, 24);
    let mut rig = Rig::new(options);
    for side in 1..5 {
        rig.browser_sends(&[resize(side, side), typed(b"x")].concat());
        rig.wait(ms(100));
    }
    rig.finish_with_status();
    assert!(rig.cluster.sizes().is_empty(), "J12");
}

#[test]
fn the_first_size_is_the_first_thing_that_a_cluster_hears() {
    let mut options = options(Dialect::V1, true);
    options.size = size(132, 43);
    let mut rig = Rig::new(options);
    rig.browser_sends(&typed(b"ls\r"));
    rig.drain();
    assert_eq!(rig.cluster.sent, [Sent::Size(132, 43), Sent::Input(b"ls\r".to_vec())]);
}
