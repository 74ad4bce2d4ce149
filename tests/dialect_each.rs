//! What every dialect does, each in its own words: bytes arrive whole, the end is told, and what
//! makes no sense harms nobody. No network, no clock.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::sync::Arc;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::{Ending, Kind};
use podwire::proto::message::Dialect;
use podwire::proto::session::{Options, Session};
use serde_json::{Value, json};

use session::readers::{BrowserReader, Sent, Told};
use session::{
    Rig, SUCCESS, browser_frame, cluster_close, exit_status, internal_error, ms, on_channel,
    options, speak, status, stdout,
};

const TEXT: &str = "aé世😀z";

/// What a session ends with, in each dialect.
struct Words {
    told: Vec<Told>,
    code: u16,
}

fn words(mut told: Vec<Told>) -> Words {
    let Some(Told::Close(code, _)) = told.pop() else { panic!("no close: {told:?}") };
    Words { told, code }
}

fn line(message: &str) -> String {
    format!("\r\n[podwire: {message}]\r\n")
}

fn status_of(told: &[Told]) -> &Value {
    let Some(Told::Json(status)) = told.last() else { panic!("no status: {told:?}") };
    status
}

/// What was told behind what is told first.
fn behind_greeting(dialect: Dialect, told: &[Told]) -> Vec<Told> {
    let greeting = match dialect {
        Dialect::V1 => 1,
        Dialect::Ttyd => 2,
        _ => 0,
    };
    told[greeting..].to_vec()
}

#[test]
fn output_that_is_cut_anywhere_is_the_same_output() {
    for dialect in Dialect::ALL {
        for channel in [1, 2] {
            for cut in 0..=TEXT.len() {
                let (front, back) = TEXT.as_bytes().split_at(cut);
                let mut rig = Rig::new(options(dialect, false));
                for piece in [front, b"", back] {
                    rig.cluster_sends(&on_channel(channel, piece));
                    rig.browser_takes(usize::MAX);
                }
                assert_eq!(rig.browser.output(), TEXT.as_bytes(), "{dialect:?}, {cut}");
                for told in &rig.browser.told {
                    // Where the two are told apart, this is the right one.
                    let is_apart = dialect == Dialect::V1 || dialect.kube().is_some();
                    let came = matches!(told, Told::Output(it, _) if is_apart && *it != channel);
                    assert!(!came, "{dialect:?}: {told:?}");
                }
            }
        }
    }
}

#[test]
fn input_that_is_cut_anywhere_is_the_same_input() {
    for dialect in Dialect::ALL {
        let wire = speak::input(dialect, TEXT.as_bytes());
        for cut in 0..=wire.len() {
            let mut rig = Rig::new(options(dialect, true));
            rig.browser_sends(&wire[..cut]);
            rig.browser_sends(&wire[cut..]);
            rig.drain();
            assert_eq!(rig.cluster.input(), TEXT.as_bytes(), "{dialect:?}, {cut}");
        }
        // The message itself in two frames, with a ping between them.
        let (opcode, payload) = match (speak::is_base64(dialect), dialect) {
            (true, _) => (1, b"0YcOp5LiW8J+YgHo=".to_vec()),
            (_, Dialect::Raw) => (1, TEXT.as_bytes().to_vec()),
            _ => (2, [speak::tag(dialect), TEXT.as_bytes()].concat()),
        };
        for cut in 0..=payload.len() {
            let mut rig = Rig::new(options(dialect, true));
            rig.browser_sends(&browser_frame(opcode, &payload[..cut]));
            rig.browser_sends(&browser_frame(0x89, b"?"));
            rig.browser_sends(&browser_frame(0x80, &payload[cut..]));
            rig.drain();
            assert_eq!(rig.cluster.input(), TEXT.as_bytes(), "{dialect:?}, {cut}");
            assert!(rig.browser.told.contains(&Told::Pong(b"?".to_vec())), "{dialect:?}");
        }
    }
}

#[test]
fn eight_mebibytes_are_pasted_whole() {
    let paste: Vec<u8> =
        (0..8 * 1024 * 1024_u32).flat_map(|n| n.to_le_bytes().into_iter().take(1)).collect();
    for dialect in Dialect::ALL {
        // The longest messages that are allowed: with a byte in front, or as base64.
        let most = if speak::is_base64(dialect) { 768 * 1024 - 3 } else { 1024 * 1024 - 1 };
        let mut rig = Rig::new(options(dialect, true));
        let mut came = 0;
        for message in paste.chunks(most) {
            for read in speak::input(dialect, message).chunks(64 * 1024) {
                assert!(rig.session.wants_browser(), "{dialect:?}");
                rig.browser_sends(read);
                rig.cluster_takes(usize::MAX);
            }
            let input = rig.cluster.input();
            assert_eq!(input, message, "{dialect:?} from byte {came} on");
            came += input.len();
            rig.cluster.sent.clear();
        }
        assert_eq!((came, rig.session.outcome().is_some()), (paste.len(), false));
    }
}

/// The status of the cluster, and what becomes of it.
fn exits(dialect: Dialect, subprotocol: Subprotocol, said: &[u8]) -> (Words, Ending) {
    let mut options = options(dialect, false);
    options.subprotocol = subprotocol;
    let mut rig = Rig::new(options);
    let from_cluster = [stdout(b"out"), status(said), cluster_close(1000)];
    rig.cluster_sends(&from_cluster.concat());
    let ending = rig.finish().ending;
    let mut told = behind_greeting(dialect, &rig.browser.told);
    let first = told.remove(0);
    let output = match &first {
        Told::Output(1, bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Told::Text(text) => text.clone(),
        other => panic!("{dialect:?}: {other:?}"),
    };
    assert!(output.starts_with("out"), "{dialect:?}");
    if output.len() > 3 {
        told.insert(0, Told::Text(output[3..].to_owned()));
    }
    let words = words(told);
    assert_eq!(Some(words.code), ending.close_code, "{dialect:?}");
    (words, ending)
}

#[test]
fn an_exit_code_is_told_in_every_dialect() {
    for (code, said) in [(0, SUCCESS.to_vec()), (3, exit_status("3")), (137, exit_status("137"))] {
        let message = format!("exit code {code}");
        let failure = "command terminated with non-zero exit code: \
            command terminated with exit code ";
        for dialect in Dialect::ALL {
            let (words, ending) = exits(dialect, Subprotocol::V5, &said);
            assert_eq!((ending.exit_code, words.code), (Some(code), 1000), "{dialect:?}");
            match dialect {
                Dialect::Seed | Dialect::Ttyd => {
                    assert_eq!(words.told, [Told::Text(line(&message))]);
                }
                Dialect::V1 => assert_eq!(status_of(&words.told)["exitCode"], code),
                Dialect::Raw => assert_eq!(words.told, []),
                Dialect::KubeV1 | Dialect::Base64V1 if code == 0 => assert_eq!(words.told, []),
                Dialect::KubeV1 | Dialect::Base64V1 => {
                    assert_eq!(words.told, [Told::Status(format!("{failure}{code}"))]);
                }
                Dialect::KubeV5 | Dialect::KubeV4 | Dialect::Base64V4 => {
                    let said: Value = serde_json::from_slice(&said).unwrap();
                    assert_eq!(words.told, [Told::Json(said)], "{dialect:?}");
                }
            }
        }
    }
}

/// The bytes of a status are passed on as they are, odd spaces and unknown fields and all.
#[test]
fn a_status_is_passed_on_byte_by_byte() {
    let said = b" {\"status\" : \"Success\",\"x\":[ ]}\n";
    let mut rig = Rig::new(options(Dialect::KubeV5, false));
    rig.cluster_sends(&status(said));
    let mut wire = vec![0x82, u8::try_from(said.len() + 1).unwrap(), 3];
    wire.extend_from_slice(said);
    assert_eq!(rig.session.to_browser(), wire);
}

/// An API server says the same with an empty message, and pages begin with it.
#[test]
fn that_the_streams_are_there_is_passed_on_where_there_are_channels() {
    for dialect in Dialect::ALL {
        let mut rig = Rig::new(options(dialect, true));
        rig.cluster_sends(&[on_channel(1, b""), on_channel(3, b"")].concat());
        rig.drain();
        let told = behind_greeting(dialect, &rig.browser.told);
        let expected = if dialect.kube().is_some() { vec![Told::Stream(1)] } else { vec![] };
        assert_eq!(told, expected, "{dialect:?}");
    }
}

#[test]
fn what_failed_after_the_101_is_told_in_every_dialect() {
    let sentence = "exec: \\\"x\\\": not found";
    let said = internal_error(sentence);
    let plain = "exec: \"x\": not found";
    for dialect in Dialect::ALL {
        let (words, ending) = exits(dialect, Subprotocol::V4, &said);
        assert_eq!((ending.kind, &*ending.message), (Kind::Failed, plain), "{dialect:?}");
        // Those who know Kubernetes have its words, and its close.
        let is_kube = dialect.kube().is_some();
        assert_eq!(words.code, if is_kube { 1000 } else { 4422 }, "{dialect:?}");
        match dialect {
            Dialect::KubeV1 | Dialect::Base64V1 => {
                let text = format!("Internal error occurred: {plain}");
                assert_eq!(words.told, [Told::Status(text)]);
            }
            _ if is_kube => {
                let said: Value = serde_json::from_slice(&said).unwrap();
                assert_eq!(words.told, [Told::Json(said)]);
            }
            Dialect::Ttyd => {
                let stay = Told::Ttyd(b'2', r#"{"disableReconnect":true}"#.to_owned());
                assert_eq!(words.told, [Told::Text(line(plain)), stay]);
            }
            _ => {}
        }
    }
}

#[test]
fn a_refusal_is_told_in_every_dialect() {
    let rows = [
        (Kind::Forbidden, "pods \"shell\" is forbidden", 403, "Forbidden", 4403),
        (Kind::NotFound, "pods \"nope\" not found", 404, "NotFound", 4404),
        (Kind::Unauthorized, "Unauthorized", 401, "Unauthorized", 4401),
        (Kind::NoShell, "no shell found", 500, "InternalError", 4422),
        (Kind::ClusterUnreachable, "no route", 502, "Unknown", 4502),
        (Kind::Limit, "too many sessions", 503, "ServiceUnavailable", 4429),
    ];
    for dialect in Dialect::ALL {
        for (kind, message, http, reason, code) in rows {
            let ending = Ending::new(kind, message);
            let mut session = Session::refused(dialect, Arc::default(), ending);
            let mut reader = BrowserReader::new(dialect);
            reader.feed(session.to_browser());
            let now = session::ms(0);
            session.browser_took(session.to_browser().len(), now);
            session.browser_flushed(now);
            assert_eq!(reader.close(), Some((code, message)), "{dialect:?}");
            let words = words(reader.told);
            match dialect {
                Dialect::Seed => assert_eq!(words.told, [Told::Text(line(message))]),
                Dialect::V1 => assert_eq!(status_of(&words.told)["kind"], kind.facts().name),
                Dialect::Raw => assert_eq!(words.told, []),
                Dialect::Ttyd => {
                    let stay = Told::Ttyd(b'2', r#"{"disableReconnect":true}"#.to_owned());
                    assert_eq!(words.told, [Told::Output(1, line(message).into_bytes()), stay]);
                }
                Dialect::KubeV1 | Dialect::Base64V1 => {
                    assert_eq!(words.told, [Told::Status(message.to_owned())]);
                }
                Dialect::KubeV5 | Dialect::KubeV4 | Dialect::Base64V4 => {
                    let expected = json!({
                        "kind": "Status", "apiVersion": "v1", "metadata": {},
                        "status": "Failure", "message": message, "reason": reason, "code": http,
                        "details": {"causes": [{"reason": "kind", "message": kind.facts().name}]},
                    });
                    assert_eq!(words.told, [Told::Json(expected)]);
                }
            }
        }
    }
}

#[test]
fn what_means_nothing_is_ignored_and_counted() {
    for dialect in Dialect::ALL {
        for (opcode, payload) in speak::ignored(dialect) {
            let mut rig = Rig::new(options(dialect, true));
            for _ in 0..20 {
                rig.browser_sends(&browser_frame(0x80 | opcode, payload));
            }
            rig.drain();
            assert_eq!(rig.cluster.sent, [], "{dialect:?}: {payload:?}");
            assert_eq!(behind_greeting(dialect, &rig.browser.told), [], "{dialect:?}: {payload:?}");
            rig.browser_sends(&speak::input(dialect, b"alive"));
            rig.drain();
            assert_eq!(rig.cluster.input(), b"alive", "{dialect:?}: {payload:?}");
            let ignored = rig.session.traffic(rig.now).ignored;
            let means_nothing = payload.is_empty()
                || payload.trim_ascii().is_empty()
                || matches!((dialect, payload), (Dialect::Ttyd, [b'{', ..]) | (_, b"4"));
            assert_eq!(ignored, if means_nothing { 0 } else { 20 }, "{dialect:?}: {payload:?}");
        }
    }
}

#[test]
fn what_is_not_understood_goes_nowhere_and_the_tenth_ends_the_session() {
    for dialect in Dialect::ALL {
        for (opcode, payload) in speak::malformed(dialect) {
            let mut rig = Rig::new(options(dialect, true));
            let wrong = browser_frame(0x80 | opcode, payload);
            for _ in 0..9 {
                rig.browser_sends(&wrong);
            }
            rig.browser_sends(&speak::input(dialect, b"alive"));
            rig.drain();
            assert_eq!(rig.cluster.sent, [Sent::Input(b"alive".to_vec())], "{dialect:?}");
            rig.browser_sends(&wrong);
            rig.drain();
            assert_eq!(rig.browser.close().unwrap().0, 4400, "{dialect:?}: {payload:?}");
            assert_eq!(rig.finish().ending.kind, Kind::ProtocolError);
        }
    }
}

#[test]
fn frames_that_break_the_rfc_end_every_dialect_with_its_code() {
    let rows: [(&[u8], u16); 5] = [
        (&[0xc2, 0x80, 1, 2, 3, 4], 1002),
        (&[0x82, 0x05, 0, 1, 2, 3, 4], 1002),
        (&[0x09, 0x80, 1, 2, 3, 4], 1002),
        (&[0x81, 0x82, 0, 0, 0, 0, b'0', 0xff], 1007),
        (&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1009),
    ];
    for dialect in Dialect::ALL {
        for (wire, code) in rows {
            let mut rig = Rig::new(options(dialect, true));
            rig.browser_sends(wire);
            rig.drain();
            assert_eq!(rig.browser.close().unwrap().0, code, "{dialect:?}");
        }
    }
}

#[test]
fn a_size_is_said_in_every_dialect_that_has_one() {
    for dialect in Dialect::ALL {
        let Some((opcode, payload)) = speak::size(dialect, 132, 50) else {
            assert_eq!(dialect, Dialect::Raw);
            continue;
        };
        for tty in [true, false] {
            let mut rig = Rig::new(options(dialect, tty));
            for _ in 0..3 {
                rig.browser_sends(&browser_frame(0x80 | opcode, &payload));
            }
            rig.wait(session::ms(200));
            rig.drain();
            // A second one without a terminal would stop a server's reading for good.
            let expected = if tty { vec![(132, 50)] } else { vec![] };
            assert_eq!(rig.cluster.sizes(), expected, "{dialect:?}");
        }
    }
}

/// Lets a notice come in the middle of a character of a channel, which is whole after that.
fn notice_in_a_character(mut options: Options, channel: u8, cut: usize, drains: bool) -> Rig {
    let limits = Arc::make_mut(&mut options.limits);
    limits.drain_notice = ms(5000);
    limits.max_session = Some(ms(200_000));
    let mut rig = Rig::new(options);
    let (front, back) = "😀".as_bytes().split_at(cut);
    rig.cluster_sends(&on_channel(channel, front));
    rig.drain();
    rig.wait(ms(139_000));
    if drains {
        rig.stop(Kind::Drain);
    } else {
        rig.wait(ms(31_000));
    }
    rig.drain();
    for byte in back.chunks(1) {
        rig.cluster_sends(&on_channel(channel, byte));
        rig.drain();
    }
    rig
}

/// A line between two halves of a character would spoil both. It waits, and is told once.
#[test]
fn a_notice_stands_in_no_character() {
    let told = |rig: &Rig, wanted: u8| {
        let bytes = rig.browser.told.iter().filter_map(|told| match told {
            Told::Output(channel, bytes) if *channel == wanted => Some(&bytes[..]),
            Told::Text(text) => Some(text.as_bytes()),
            _ => None,
        });
        String::from_utf8(bytes.collect::<Vec<_>>().concat())
    };
    for dialect in Dialect::ALL.into_iter().filter(|it| *it != Dialect::V1) {
        for (tty, channel) in [(true, 1), (false, 1), (false, 2)] {
            for (drains, cut) in [(true, 1), (true, 3), (false, 2), (false, 3)] {
                let rig = notice_in_a_character(options(dialect, tty), channel, cut, drains);
                let what = format!("{dialect:?}, {tty}, {channel}, {drains}, {cut}");
                let (one, two) = (told(&rig, 1).expect(&what), told(&rig, 2).expect(&what));
                let all = if dialect == Dialect::Seed { one } else { one + &two };
                assert!(all.contains('😀'), "{what}: {all}");
                // The time that is left is that of the moment in which it is told.
                let waits = (tty || channel == 2) && dialect.kube().is_some()
                    || tty && matches!(dialect, Dialect::Raw | Dialect::Ttyd);
                let words = match (drains, waits) {
                    (true, _) => "stopped",
                    (false, true) => "longest time and ends in 30 s",
                    (false, false) => "longest time and ends in 60 s",
                };
                let is_told = tty || dialect != Dialect::Raw;
                assert_eq!(all.matches(words).count(), usize::from(is_told), "{what}: {all}");
            }
        }
    }
}
