//! The dialects of pages that others wrote: ttyd's, and xterm's `addon-attach`.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::sync::Arc;
use std::time::Duration;

use podwire::proto::ending::{Ending, Kind};
use podwire::proto::message::{Dialect, Place};
use podwire::proto::session::{Options, Session};

use session::readers::{BrowserReader, Told};
use session::{
    Rig, SUCCESS, browser_frame, cluster_close, ms, on_channel, options, quiet, status, stdout,
    text, typed,
};

const STAY: &str = r#"{"disableReconnect":true}"#;

/// A page of ttyd's that has said its first words, which are bytes and not text.
fn ttyd() -> Rig {
    let mut rig = Rig::new(options(Dialect::Ttyd, true));
    rig.browser_sends(&typed(br#"{"AuthToken":"","columns":100,"rows":40}"#));
    rig.drain();
    assert_eq!(rig.cluster.sizes(), [(100, 40)]);
    rig.browser.told.clear();
    rig
}

fn last_words(rig: &Rig) -> (bool, u16) {
    let stays = rig.browser.told.contains(&Told::Ttyd(b'2', STAY.to_owned()));
    (stays, rig.browser.close().unwrap().0)
}

#[test]
fn ttyds_page_is_told_its_title_and_preferences_first() {
    let mut options = options(Dialect::Ttyd, true);
    options.place = Place {
        namespace: "demo".into(),
        pod: "shell".into(),
        container: Some("main".into()),
        ..options.place
    };
    let mut rig = Rig::new(options);
    rig.drain();
    let title = Told::Ttyd(b'1', "shell main (demo)".to_owned());
    assert_eq!(rig.browser.told, [title, Told::Ttyd(b'2', "{}".to_owned())]);
}

#[test]
fn ttyds_page_types_and_sees() {
    let mut rig = ttyd();
    rig.browser_sends(
        &[typed(b"0l"), typed(b"0s\r"), typed(br#"1{"columns":9,"rows":8}"#)].concat(),
    );
    rig.wait(ms(60));
    rig.cluster_sends(&[stdout(b"a\xe4\xb8"), on_channel(2, b"\x96b")].concat());
    rig.drain();
    assert_eq!(
        (rig.cluster.input(), rig.cluster.sizes()),
        (b"ls\r".to_vec(), vec![(100, 40), (9, 8)])
    );
    assert_eq!(rig.browser.told, [Told::Output(1, b"a\xe4\xb8\x96b".to_vec())]);
}

#[test]
fn pause_stops_the_cluster_and_nothing_else() {
    let mut rig = ttyd();
    rig.browser_sends(&typed(b"2"));
    assert!(!rig.session.wants_cluster() && rig.session.wants_browser());
    // An interrupt gets past it, and a second pause changes nothing.
    rig.browser_sends(&[typed(b"2"), typed(b"0\x03")].concat());
    rig.drain();
    assert_eq!(rig.cluster.input(), b"\x03");
    assert!(!rig.session.wants_cluster());
    rig.browser_sends(&typed(b"3"));
    assert!(rig.session.wants_cluster());
    rig.cluster_sends(&stdout(b"^C"));
    rig.drain();
    assert_eq!(rig.browser.output(), b"^C");
}

/// A page that is closed by its lid sends nothing, and one that pauses for ever is no better than
/// one that takes nothing.
#[test]
fn who_pauses_for_too_long_is_given_up() {
    let mut limits = quiet();
    limits.slow_browser = Duration::from_mins(5);
    let mut options = options(Dialect::Ttyd, true);
    options.limits = Arc::new(limits);
    let mut rig = Rig::new(options);
    rig.drain();
    rig.browser_sends(&typed(b"2"));
    rig.wait(Duration::from_secs(299));
    rig.browser_sends(&[typed(b"3"), typed(b"2")].concat());
    rig.wait(Duration::from_secs(299));
    assert!(rig.browser.close().is_none() && !rig.session.wants_cluster());
    rig.wait(Duration::from_secs(2));
    rig.drain();
    assert_eq!(last_words(&rig), (true, 4408));
}

#[test]
fn an_end_is_told_although_the_page_has_paused() {
    let mut rig = ttyd();
    rig.cluster_sends(&[stdout(b"bye"), status(SUCCESS)].concat());
    rig.browser_sends(&typed(b"2"));
    rig.drain();
    assert!(rig.session.wants_cluster(), "for the close that is to come");
    rig.cluster_sends(&cluster_close(1000));
    rig.finish();
    let line = b"bye\r\n[podwire: exit code 0]\r\n".to_vec();
    let close = Told::Close(1000, "exit code 0".to_owned());
    assert_eq!(rig.browser.told, [Told::Output(1, line), close]);
}

/// The page opens the next session as soon as one was closed with any code but 1000.
#[test]
fn ttyds_page_begins_anew_only_where_something_was_cut_off() {
    type Row = (&'static str, bool, fn(&mut Rig), (bool, u16));
    let rows: [Row; 7] = [
        ("lost", true, Rig::cluster_ends, (false, 4502)),
        ("drain", true, |rig| rig.stop(Kind::Drain), (false, 1012)),
        ("lost before anything came", false, Rig::cluster_ends, (true, 4502)),
        ("drain before anything came", false, |rig| rig.stop(Kind::Drain), (true, 1012)),
        ("idle", true, |rig| rig.stop(Kind::Idle), (true, 4408)),
        ("revoked", true, |rig| rig.stop(Kind::Revoked), (true, 4403)),
        ("exit", true, |rig| rig.cluster_sends(&status(SUCCESS)), (false, 1000)),
    ];
    for (what, begun, act, expected) in rows {
        let mut rig = ttyd();
        if begun {
            rig.cluster_sends(&stdout(b"$ "));
        }
        act(&mut rig);
        rig.finish();
        assert_eq!(last_words(&rig), expected, "{what}");
    }
    for kind in [Kind::Forbidden, Kind::NotFound, Kind::ClusterUnreachable, Kind::Drain] {
        let session = Session::refused(Dialect::Ttyd, Arc::default(), Ending::new(kind, "no"));
        let mut reader = BrowserReader::new(Dialect::Ttyd);
        reader.feed(session.to_browser());
        assert!(reader.told.contains(&Told::Ttyd(b'2', STAY.to_owned())), "{kind:?}");
    }
}

#[test]
fn raw_is_bytes_both_ways_whatever_stands_in_them() {
    let mut rig = Rig::new(options(Dialect::Raw, true));
    rig.browser_sends(&[text(r#"{"type":"eof"}"#), typed(b"\xff\x00\xfe"), text("世")].concat());
    rig.cluster_sends(&[stdout(b"\xff"), on_channel(2, b"\xfe\xe4"), stdout(b"x")].concat());
    rig.drain();
    let typed = [br#"{"type":"eof"}"#, &b"\xff\x00\xfe"[..], "世".as_bytes()].concat();
    assert_eq!(rig.cluster.input(), typed);
    assert_eq!(rig.browser.told, [Told::Output(1, b"\xff\xfe\xe4x".to_vec())]);
    rig.cluster_sends(&[status(SUCCESS), cluster_close(1000)].concat());
    rig.finish();
    assert_eq!(rig.browser.told.len(), 2, "the close says it all");
    assert_eq!(rig.browser.close(), Some((1000, "exit code 0")));
}

#[test]
fn text_that_is_typed_raw_may_be_cut_inside_a_character() {
    let mut rig = Rig::new(options(Dialect::Raw, true));
    let (front, back) = "世".as_bytes().split_at(1);
    rig.browser_sends(&browser_frame(0x01, front));
    rig.drain();
    assert_eq!(rig.cluster.input(), front, "nothing waits for the rest");
    rig.browser_sends(&browser_frame(0x80, back));
    rig.drain();
    assert_eq!(rig.cluster.input(), "世".as_bytes());
}

/// A warning is a line of the terminal; where there is none, a program reads the output.
#[test]
fn a_notice_is_a_line_of_the_terminal_if_there_is_one() {
    let line = Told::Output(1, b"\r\n[podwire: stopped]\r\n".to_vec());
    for (dialect, tty, expected) in [
        (Dialect::Raw, true, vec![line.clone()]),
        (Dialect::Raw, false, vec![]),
        (Dialect::Ttyd, true, vec![line.clone()]),
    ] {
        let mut options = options(dialect, tty);
        Arc::make_mut(&mut options.limits).drain_notice = Duration::from_secs(5);
        let mut rig = Rig::new(options);
        rig.drain();
        rig.browser.told.clear();
        rig.stop(Kind::Drain);
        rig.drain();
        assert_eq!(rig.browser.told, expected, "{dialect:?}");
    }
}

const BYTES: [Dialect; 2] = [Dialect::Raw, Dialect::Ttyd];

/// A session whose first words were heard.
fn pipes(dialect: Dialect) -> Rig {
    let mut rig = Rig::new(options(dialect, false));
    rig.drain();
    rig.browser.told.clear();
    rig
}

#[test]
fn without_a_terminal_no_stream_cuts_a_character_of_the_other() {
    let stdout = "aé世😀".as_bytes();
    let stderr = "😀世éa".as_bytes();
    for dialect in BYTES {
        for chunk in 1..4 {
            let mut rig = pipes(dialect);
            for (out, err) in stdout.chunks(chunk).zip(stderr.chunks(chunk)) {
                rig.cluster_sends(&[on_channel(1, out), on_channel(2, err)].concat());
                rig.drain();
                let output = rig.browser.output();
                assert!(str::from_utf8(&output).is_ok(), "{dialect:?}, {chunk}: {output:x?}");
            }
            let mut all: Vec<char> =
                String::from_utf8(rig.browser.output()).unwrap().chars().collect();
            all.sort_unstable();
            assert_eq!(all, ['a', 'a', 'é', 'é', '世', '世', '😀', '😀'], "{dialect:?}, {chunk}");
        }
    }
}

#[test]
fn what_was_held_back_of_a_character_is_not_lost_at_the_end() {
    for dialect in BYTES {
        for last in [true, false] {
            let mut rig = pipes(dialect);
            rig.cluster_sends(&[stdout(b"a\xe4\xb8"), on_channel(2, b"b\xf0\x9f")].concat());
            rig.drain();
            assert_eq!(rig.browser.output(), b"ab", "{dialect:?}");
            rig.cluster_sends(&if last {
                [status(SUCCESS), cluster_close(1000)].concat()
            } else {
                cluster_close(1011)
            });
            rig.finish();
            let output = rig.browser.output();
            assert!(output.starts_with(b"ab\xe4\xb8\xf0\x9f"), "{dialect:?}: {output:x?}");
        }
    }
}

#[test]
fn bytes_that_are_no_text_pass_as_they_are() {
    let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    for dialect in BYTES {
        for chunk in [1, 2, 3, 7, 600] {
            let mut rig = pipes(dialect);
            for piece in bytes.chunks(chunk) {
                rig.cluster_sends(&stdout(piece));
                rig.drain();
            }
            assert_eq!(rig.browser.output(), bytes, "{dialect:?}, {chunk}");
        }
        // And as much as fills frames, each of which ends in a character.
        let text = "a世".repeat(40_000).into_bytes();
        let mut rig = pipes(dialect);
        let all: Vec<u8> = text.chunks(32 * 1024).flat_map(stdout).collect();
        rig.cluster_sends(&all);
        rig.drain();
        assert!(rig.browser.output() == text, "{dialect:?}");
    }
}

/// There is nobody who could cut it, and a program at the other end may wait for the byte.
#[test]
fn of_a_single_stream_nothing_is_held_back() {
    for dialect in BYTES {
        let only_stdout = Options { stderr: false, ..options(dialect, false) };
        for options in [options(dialect, true), only_stdout] {
            let mut rig = Rig::new(options);
            rig.cluster_sends(&stdout(b"a\xe4"));
            rig.drain();
            assert_eq!(rig.browser.output(), b"a\xe4", "{dialect:?}");
        }
    }
}
