//! Kubernetes' own dialects: what clients of an API server rely on, and what would harm the cluster
//! and is not passed on.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::sync::Arc;
use std::time::Duration;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::{Ending, Kind};
use podwire::proto::message::Dialect;
use podwire::proto::session::{Leaving, Options};
use serde_json::Value;

use session::readers::{Sent, Told};
use session::{
    Rig, SUCCESS, browser_frame, cluster_close, exit_status, internal_error, on_channel, options,
    speak, status, stdout, typed,
};

const KUBE: [Dialect; 5] =
    [Dialect::KubeV5, Dialect::KubeV4, Dialect::KubeV1, Dialect::Base64V4, Dialect::Base64V1];

fn on(subprotocol: Subprotocol, options: Options) -> Options {
    Options { subprotocol, ..options }
}

#[test]
fn what_is_typed_is_cut_for_the_cluster_and_never_fragmented() {
    let mut rig = Rig::new(options(Dialect::KubeV5, false));
    let long = vec![b'x'; 100_000];
    // The reader of the cluster's side takes whole frames of at most 32 KiB and nothing else.
    rig.browser_sends(&speak::input(Dialect::KubeV5, &long));
    rig.browser_sends(&[browser_frame(0x02, b"\0a"), browser_frame(0x80, b"b")].concat());
    rig.drain();
    assert_eq!(rig.cluster.input(), [&long[..], b"ab"].concat());
}

#[test]
fn output_of_one_channel_that_comes_together_leaves_as_one_frame() {
    for dialect in KUBE {
        let mut rig = Rig::new(options(dialect, false));
        let pieces = [stdout(b"a"), stdout(b"b"), on_channel(2, b"c"), on_channel(2, b"d")];
        rig.cluster_sends(&[pieces.concat(), stdout(b"e")].concat());
        let wire = match dialect {
            Dialect::Base64V4 | Dialect::Base64V1 => {
                b"\x81\x051YWI=\x81\x052Y2Q=\x81\x051ZQ==".to_vec()
            }
            _ => b"\x82\x03\x01ab\x82\x03\x02cd\x82\x02\x01e".to_vec(),
        };
        assert_eq!(rig.session.to_browser(), wire, "{dialect:?}");
    }
}

#[test]
fn full_frames_pass_in_frames_that_a_header_can_describe() {
    for dialect in KUBE {
        let mut rig = Rig::new(options(dialect, false));
        let full = stdout(&vec![b'x'; 32 * 1024]);
        rig.cluster_sends(&full.repeat(4));
        rig.drain();
        assert_eq!(rig.browser.output().len(), 4 * 32 * 1024, "{dialect:?}");
    }
}

/// A row for each of: a terminal or none, what the cluster speaks, and what the browser does.
#[test]
fn a_half_close_is_passed_on_only_where_it_is_one() {
    for dialect in KUBE {
        for subprotocol in [Subprotocol::V5, Subprotocol::V4, Subprotocol::V1] {
            for tty in [false, true] {
                let mut rig = Rig::new(on(subprotocol, options(dialect, tty)));
                let close = [255, 0];
                let wire = match dialect {
                    Dialect::Base64V4 | Dialect::Base64V1 => browser_frame(0x81, b"/AA=="),
                    _ => typed(&close),
                };
                rig.browser_sends(&wire.repeat(3));
                rig.drain();
                let is_one = dialect == Dialect::KubeV5 && subprotocol == Subprotocol::V5 && !tty;
                let expected = if is_one { vec![Sent::CloseInput] } else { vec![] };
                let what = format!("{dialect:?} on {subprotocol:?}, terminal: {tty}");
                if dialect == Dialect::KubeV5 && !is_one && !tty {
                    // What was sent is all there is, and who waits for the rest shall know why.
                    assert_eq!(rig.cluster.sent, [], "{what}");
                    let [Told::Output(2, line)] = &rig.browser.told[..] else {
                        panic!("{what}: {:?}", rig.browser.told)
                    };
                    assert!(String::from_utf8_lossy(line).contains("does not speak v5"), "{what}");
                    continue;
                }
                assert_eq!(rig.cluster.sent, expected, "{what}");
                rig.browser_sends(&speak::input(dialect, b"more"));
                rig.drain();
                let input: &[u8] = if is_one { b"" } else { b"more" };
                assert_eq!(rig.cluster.input(), input, "{what}");
                assert_eq!(rig.browser.told, [], "{what}");
            }
        }
    }
}

#[test]
fn input_that_was_not_asked_for_goes_nowhere() {
    for dialect in KUBE {
        let mut options = options(dialect, false);
        options.stdin = false;
        let mut rig = Rig::new(options);
        rig.browser_sends(&speak::input(dialect, b"lost"));
        rig.drain();
        assert_eq!((&rig.cluster.sent[..], &rig.browser.told[..]), (&[][..], &[][..]));
    }
}

/// Whoever takes a close with 1000 and no status for success shall not see one.
#[test]
fn what_ends_without_a_status_of_the_clusters_never_looks_like_success() {
    type Act = fn(&mut Rig);
    let rows: [(&str, Act); 8] = [
        ("closed", |rig| rig.cluster_sends(&cluster_close(1000))),
        ("lost", Rig::cluster_ends),
        ("drain", |rig| rig.stop(Kind::Drain)),
        ("idle", |rig| rig.stop(Kind::Idle)),
        ("revoked", |rig| rig.stop(Kind::Revoked)),
        ("text", |rig| rig.cluster_sends(b"\x81\x01x")),
        ("half a status", |rig| rig.cluster_sends(&[status(b"{"), cluster_close(1000)].concat())),
        ("no status", |rig| rig.cluster_sends(&[status(b"{}"), cluster_close(1000)].concat())),
    ];
    for dialect in KUBE {
        for subprotocol in [Subprotocol::V5, Subprotocol::V4, Subprotocol::V1] {
            for (what, act) in rows {
                let mut rig = Rig::new(on(subprotocol, options(dialect, true)));
                rig.cluster_sends(&stdout(b"out"));
                act(&mut rig);
                let ending = rig.finish().ending;
                let what = format!("{what}: {dialect:?} on {subprotocol:?}");
                let [Told::Output(1, _), last @ .., Told::Close(code, _)] = &rig.browser.told[..]
                else {
                    panic!("{what}: {:?}", rig.browser.told)
                };
                assert_eq!(Some(*code), ending.close_code, "{what}");
                let is_text = dialect.kube() == Some(Subprotocol::V1);
                match last {
                    // Both have no exit codes, and this is how they say that all is well.
                    [] => {
                        let is_old = is_text && subprotocol == Subprotocol::V1;
                        assert!(is_old && ending.kind == Kind::Exit, "{what}");
                    }
                    [Told::Json(status)] if !is_text => {
                        assert_eq!(status["status"], "Failure", "{what}");
                    }
                    // On v1 any text is one, and failed.
                    [Told::Json(_) | Told::Status(_)] if is_text => {}
                    other => panic!("{what}: {other:?}"),
                }
                let said_by_cluster = subprotocol == Subprotocol::V1 && what.contains("status");
                if !(last.is_empty() || said_by_cluster) {
                    assert_ne!(*code, 1000, "{what}");
                }
            }
        }
    }
}

#[test]
fn our_own_endings_are_statuses_with_codes_that_clients_know() {
    let rows = [
        (Kind::Idle, 408, "Timeout", 4408),
        (Kind::MaxSession, 408, "Timeout", 4408),
        (Kind::Drain, 503, "ServiceUnavailable", 1012),
        (Kind::Revoked, 403, "Forbidden", 4403),
        (Kind::Internal, 500, "InternalError", 1011),
    ];
    for dialect in [Dialect::KubeV5, Dialect::KubeV4, Dialect::Base64V4] {
        for (kind, http, reason, code) in rows {
            let mut rig = Rig::new(options(dialect, true));
            rig.stop(kind);
            rig.drain();
            let [Told::Json(status), Told::Close(close, sentence)] = &rig.browser.told[..] else {
                panic!("{:?}", rig.browser.told)
            };
            assert_eq!((&status["code"], &status["reason"]), (&http.into(), &reason.into()));
            assert_eq!((&status["message"], *close), (&sentence.as_str().into(), code));
        }
    }
}

/// A warning is a line of the terminal, and stands beside the output of a program.
#[test]
fn a_notice_spoils_no_output() {
    for dialect in KUBE {
        for (tty, stderr, channel) in [(true, true, 1), (false, true, 2), (false, false, 0)] {
            let mut options = Options { stderr, ..options(dialect, tty) };
            Arc::make_mut(&mut options.limits).drain_notice = Duration::from_secs(5);
            let mut rig = Rig::new(options);
            rig.stop(Kind::Drain);
            rig.drain();
            let line = b"\r\n[podwire: stopped]\r\n".to_vec();
            // Without a terminal and without stderr there is no place for it.
            let told = [Told::Output(channel, line)];
            assert_eq!(rig.browser.told, told[usize::from(channel == 0)..], "{dialect:?}");
        }
    }
}

fn may_try_another(dialect: Dialect) -> Rig {
    let mut options = options(dialect, true);
    options.again = true;
    options.leaving = Leaving::Nothing;
    Rig::new(options)
}

/// Clients look at the words of a failure, and try another shell: they are the cluster's own when
/// there is nothing else that the relay could start.
#[test]
fn what_nothing_else_was_started_for_is_told_in_the_clusters_words() {
    let said = internal_error("no such program");
    for dialect in [Dialect::KubeV5, Dialect::KubeV4, Dialect::Base64V4] {
        for (said, message) in [(&said, "no such program"), (&exit_status("127"), "exit code 127")]
        {
            let mut rig = may_try_another(dialect);
            rig.cluster_sends(&status(said));
            let why = rig.session.unstarted().unwrap();
            assert_eq!(why.message, message);
            rig.drain();
            assert_eq!(rig.browser.told, [], "nothing is told while another one may be started");
            rig.session.on_no_other(why, rig.now);
            rig.drain();
            let said: Value = serde_json::from_slice(said).unwrap();
            let told = [Told::Json(said), Told::Close(1000, message.to_owned())];
            assert_eq!(rig.browser.told, told, "{dialect:?}");
        }
        // Where something else was tried, the ending is another, and ours.
        let mut rig = may_try_another(dialect);
        rig.cluster_sends(&status(&said));
        rig.session.unstarted().unwrap();
        let none = Ending::new(Kind::NoShell, "no shell found");
        rig.session.on_no_other(none, rig.now);
        rig.drain();
        let [Told::Json(status), Told::Close(4422, _)] = &rig.browser.told[..] else {
            panic!("{:?}", rig.browser.told)
        };
        assert_eq!((&status["code"], &status["reason"]), (&500.into(), &"InternalError".into()));
    }
}

#[test]
fn what_came_before_another_one_was_started_is_forgotten() {
    let mut rig = may_try_another(Dialect::KubeV5);
    rig.browser_sends(&speak::input(Dialect::KubeV5, b"ls\r"));
    rig.cluster_sends(&status(&internal_error("no such program")));
    rig.session.unstarted().unwrap();
    rig.cluster.sent.clear();
    rig.session.on_another(Subprotocol::V4, rig.now);
    rig.cluster_sends(&[on_channel(1, b""), stdout(b"$ ")].concat());
    rig.drain();
    assert_eq!(rig.cluster.input(), b"ls\r", "every key arrives once");
    rig.cluster_sends(&[status(SUCCESS), cluster_close(1000)].concat());
    rig.finish();
    let success: Value = serde_json::from_slice(SUCCESS).unwrap();
    let output = Told::Output(1, b"$ ".to_vec());
    let close = Told::Close(1000, "exit code 0".to_owned());
    assert_eq!(rig.browser.told, [Told::Stream(1), output, Told::Json(success), close]);
}

/// A text that a cluster of the oldest version said becomes a status where one was promised.
#[test]
fn the_oldest_clusters_text_becomes_a_status() {
    let said = "executable file not found";
    for dialect in KUBE {
        let mut rig = Rig::new(on(Subprotocol::V1, options(dialect, true)));
        rig.cluster_sends(&[status(said.as_bytes()), cluster_close(1000)].concat());
        let ending = rig.finish().ending;
        assert_eq!((ending.kind, ending.close_code), (Kind::Failed, Some(1000)), "{dialect:?}");
        match &rig.browser.told[..] {
            [Told::Status(text), Told::Close(1000, _)] => {
                assert_eq!((dialect.kube(), &**text), (Some(Subprotocol::V1), said));
            }
            [Told::Json(status), Told::Close(1000, _)] => {
                assert_ne!(dialect.kube(), Some(Subprotocol::V1));
                assert_eq!((&status["message"], &status["code"]), (&said.into(), &500.into()));
            }
            other => panic!("{dialect:?}: {other:?}"),
        }
    }
}

#[test]
fn output_behind_a_status_is_still_told() {
    let mut rig = Rig::new(options(Dialect::KubeV4, false));
    rig.cluster_sends(&[status(&exit_status("9")), stdout(b"late"), cluster_close(1000)].concat());
    assert_eq!(rig.finish().ending.exit_code, Some(9));
    let [Told::Json(_), Told::Output(1, late), Told::Close(1000, _)] = &rig.browser.told[..] else {
        panic!("{:?}", rig.browser.told)
    };
    assert_eq!(late, b"late");
}
