//! Mistakes that the session machine once made, each with the scene in which it showed.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::sync::Arc;
use std::time::Duration;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::{Limits, Process, Session};

use podwire::proto::session::Time;
use session::readers::Sent;
use session::{
    Rig, SUCCESS, browser_close, browser_frame, cluster_close, exit_status, frame, ms, options,
    status, stdout, text, typed,
};

/// The grace was shorter than the pause between the two keys, so the second was never typed.
#[test]
fn both_keys_of_a_hang_up_are_typed_however_short_the_grace() {
    for grace in [0, 1, 199, 200, 201] {
        let mut options = options(Dialect::V1, true);
        Arc::make_mut(&mut options.limits).hangup_grace = ms(grace);
        let mut rig = Rig::new(options);
        rig.browser_ends();
        rig.finish();
        assert_eq!(rig.cluster.sent, [Sent::Input(vec![3, 4]), Sent::Close(Some(1000))], "{grace}");
    }
}

/// A paste longer than the outbox waited for `cat`, and `cat` for somebody to take its output;
/// the cluster was not read because of the paste, so both waited for ever.
#[test]
fn output_flows_while_a_process_does_not_read_its_input() {
    let mut rig = Rig::new(options(Dialect::V1, false));
    rig.drain();
    let paste = typed(&vec![b'x'; 60_000]);
    rig.fill(Session::wants_browser, |rig| rig.browser_sends(&paste));
    assert!(
        rig.session.wants_cluster(),
        "a full outbox for the cluster is no reason not to read it"
    );
    rig.cluster_sends(&stdout(b"echo"));
    rig.browser_takes(usize::MAX);
    assert_eq!(rig.browser.output(), b"echo");
}

/// With an outbox smaller than one read, output that a stalled browser did not take kept the
/// browser from being read, too, and with it the interrupt.
#[test]
fn an_interrupt_passes_output_that_nobody_takes_however_small_the_outbox() {
    for dialect in [Dialect::Seed, Dialect::V1] {
        let mut options = options(dialect, true);
        Arc::make_mut(&mut options.limits).outbox = 1024;
        let mut rig = Rig::new(options);
        rig.drain();
        rig.cluster_sends(&stdout(&vec![b'y'; 60_000]));
        assert!(rig.session.wants_browser());
        rig.browser_sends(&typed(b"\x03"));
        rig.cluster_takes(usize::MAX);
        assert_eq!(rig.cluster.sent, [Sent::Input(vec![3])]);
    }
}

/// The first status in a hang-up closed the leg, a second in the same read closed it again and
/// made the known exit code unknown.
#[test]
fn only_the_first_status_of_a_hang_up_counts_and_there_is_one_close() {
    let mut rig = Rig::new(options(Dialect::V1, false));
    rig.browser_ends();
    rig.cluster_sends(&[status(SUCCESS), status(b"nonsense"), status(SUCCESS)].concat());
    let outcome = rig.finish();
    assert_eq!(outcome.process, Process::Ended(Some(0)));
    assert_eq!(rig.cluster.sent, [Sent::CloseInput, Sent::Close(Some(1000))]);
}

/// A text frame gives the cluster's leg up; a status behind it in the same read brought the leg
/// back to life, to send a close to a peer that had been given up.
#[test]
fn a_leg_that_was_given_up_stays_so() {
    let mut rig = Rig::new(options(Dialect::V1, false));
    rig.cluster_sends(&[frame(0x81, b"\x01hello", None), status(SUCCESS)].concat());
    assert!(rig.session.is_cluster_over());
    assert_eq!(rig.session.to_cluster(), b"");
    assert_eq!(rig.finish().process, Process::Unknown);
}

/// More than the window of output came together with the status, and the page, in a hidden tab,
/// acknowledged nothing: the cluster's close was never read, and the exit never told.
#[test]
fn a_page_that_stopped_to_acknowledge_hears_the_exit() {
    let mut rig = Rig::new(options(Dialect::V1, true));
    rig.drain();
    rig.browser_sends(&text(r#"{"type":"ack","bytes":0}"#));
    let flood = stdout(&vec![b'z'; 60_000]);
    rig.fill(Session::wants_cluster, |rig| {
        rig.cluster_sends(&flood);
        rig.browser_takes(usize::MAX);
    });
    rig.cluster_sends(&status(&exit_status("7")));
    assert!(rig.session.wants_cluster(), "all that is left to come is the close");
    rig.cluster_sends(&cluster_close(1000));
    let outcome = rig.finish();
    assert_eq!(outcome.ending.exit_code, Some(7));
    assert_eq!(rig.browser.last_json().unwrap()["exitCode"], 7);
}

/// A session with output that its browser does not take; how long it lives from now on.
fn life_of_a_stalled(act: impl FnOnce(&mut Rig)) -> Duration {
    let mut rig = Rig::new(options(Dialect::V1, true));
    rig.drain();
    rig.cluster_sends(&stdout(b"nobody takes this"));
    rig.wait(Duration::from_secs(10));
    let since = rig.now;
    act(&mut rig);
    rig.fill(
        |session| session.outcome().is_none(),
        |rig| {
            rig.cluster_takes(usize::MAX);
            if let Some(at) = rig.session.deadline() {
                rig.wait(at.saturating_sub(rig.now));
            }
        },
    );
    rig.now.saturating_sub(since)
}

/// A drain waited five minutes for a browser that took nothing, because that is how long one may
/// be slow while the session goes on.
#[test]
fn a_stopped_session_does_not_wait_for_a_browser_that_takes_nothing() {
    let limits = Limits::default();
    let life = life_of_a_stalled(|rig| rig.stop(Kind::Drain));
    assert!(life <= limits.hangup_grace + 2 * limits.close_wait, "{life:?}");
    let life = life_of_a_stalled(|rig| {
        rig.cluster_ends();
        rig.stop(Kind::Drain);
    });
    assert!(life <= limits.hangup_grace + 2 * limits.close_wait, "{life:?}");
}

/// A browser that had said goodbye was given five minutes to take the rest.
#[test]
fn a_browser_that_closed_is_not_waited_for() {
    let limits = Limits::default();
    let life = life_of_a_stalled(|rig| rig.browser_sends(&browser_close(1000)));
    assert!(life <= limits.hangup_grace + limits.close_wait, "{life:?}");
}

/// A browser that was given up as slow after a status was given the whole time again, because
/// the ending was then the exit.
#[test]
fn a_slow_browser_is_given_up_once() {
    let limits = Limits::default();
    let life = life_of_a_stalled(|rig| rig.cluster_sends(&status(SUCCESS)));
    assert!(life <= limits.slow_browser + limits.close_wait, "{life:?}");
}

/// Messages for somebody else were counted as mistakes when they used the name of a field of ours
/// for a value of another type; ten heartbeats ended a session.
#[test]
fn messages_of_an_unknown_type_may_have_any_fields() {
    let mut rig = Rig::new(options(Dialect::Seed, true));
    for _ in 0..20 {
        rig.browser_sends(&text(r#"{"type":"heartbeat","data":5,"rows":"x","id":{"a":[1]}}"#));
        rig.browser_sends(&text(r#"{"bytes":-1}"#));
    }
    rig.cluster_sends(&status(SUCCESS));
    let outcome = rig.finish();
    assert_eq!(outcome.ending.kind, Kind::Exit);
    assert_eq!(outcome.traffic.ignored, 40);
}

/// The oldest subprotocol tells a failure in words; the process was still called unknown.
#[test]
fn words_on_the_oldest_status_channel_mean_that_the_process_ended() {
    for browser_leaves in [false, true] {
        let mut options = options(Dialect::V1, true);
        options.subprotocol = Subprotocol::V1;
        let mut rig = Rig::new(options);
        if browser_leaves {
            rig.browser_ends();
        }
        rig.cluster_sends(&[status(b"command terminated"), cluster_close(1000)].concat());
        assert_eq!(rig.finish().process, Process::Ended(None));
    }
}

/// A failure without a message was told as an empty sentence.
#[test]
fn every_ending_has_a_sentence() {
    for failure in [&br#"{"status":"Failure"}"#[..], br#"{"status":"Failure","message":"  "}"#] {
        let mut rig = Rig::new(options(Dialect::Seed, true));
        rig.cluster_sends(&[status(failure), cluster_close(1000)].concat());
        let ending = rig.finish().ending;
        assert_eq!(ending.kind, Kind::Failed);
        assert!(!ending.message.trim().is_empty());
    }
}

/// A ping flood from a browser that takes nothing is bounded by the outbox, and so is one from a
/// cluster; neither bound may stop the other direction.
#[test]
fn pings_without_end_are_bounded_and_in_nobodys_way() {
    let mut options = options(Dialect::V1, true);
    Arc::make_mut(&mut options.limits).outbox = 4096;
    let mut rig = Rig::new(options);
    rig.drain();
    let ping = browser_frame(0x89, &[b'p'; 125]);
    rig.fill(Session::wants_browser, |rig| {
        rig.browser_sends(&ping);
        assert!(rig.session.to_browser().len() < 4096 + 200);
    });
    rig.browser_takes(1);
    assert!(!rig.session.wants_browser(), "the flood goes on when it was taken");
    rig.browser_takes(usize::MAX);
    assert!(rig.session.wants_browser());
    let ping = frame(0x89, &[b'q'; 125], None);
    rig.fill(Session::wants_cluster, |rig| {
        rig.cluster_sends(&ping);
        assert!(rig.session.to_cluster().len() < 4096 + 200);
    });
    rig.cluster_takes(usize::MAX);
    assert!(rig.session.wants_cluster());
}

/// A timer fired so late that an unfinished message and a slow browser were due at once: the first
/// ended the session, and the second dropped the connection before it could take the last words.
#[test]
fn last_words_are_offered_even_when_everything_is_due_at_once() {
    let mut options = options(Dialect::V1, true);
    Arc::make_mut(&mut options.limits).slow_browser = Duration::from_secs(30);
    let mut rig = Rig::new(options);
    rig.browser_sends(&text("{}{}{}")[..8]);
    // As late as a busy machine may be.
    rig.now = Duration::from_secs(34);
    rig.timeout();
    assert!(!rig.session.is_browser_over());
    let outcome = rig.finish();
    assert_eq!(outcome.ending.kind, Kind::SlowBrowser);
    assert_eq!(rig.browser.close().map(|(code, _)| code), Some(4408));
}

/// On the oldest subprotocol a normal close means that the process ended; it still did when it
/// stood behind a broken frame, but only if both came in one read.
#[test]
fn a_close_behind_a_broken_frame_says_nothing_about_the_process() {
    let mut options = options(Dialect::V1, true);
    options.subprotocol = Subprotocol::V1;
    let mut rig = Rig::new(options);
    rig.cluster_sends(&[frame(0x81, b"\x01text", None), cluster_close(1000)].concat());
    assert_eq!(rig.finish().process, Process::Unknown);
}

/// Sixteen bytes that only text needs to spare were kept free in every frame, so a read of 64 KiB
/// left as a frame of 65519 bytes and one of 7: twice the messages for the page.
#[test]
fn what_one_read_brings_leaves_as_one_frame() {
    let mut session = Session::new(options(Dialect::V1, true));
    let ready = session.to_browser().len();
    session.browser_took(ready, Time::ZERO);
    session.browser_flushed(Time::ZERO);
    let frame = stdout(&vec![b'x'; 32 * 1024]);
    let mut read = frame.repeat(2);
    read.truncate(64 * 1024);
    session.on_cluster(&mut read, Time::ZERO);
    let [0x82, 126, high, low, payload @ ..] = session.to_browser() else {
        panic!("no such frame")
    };
    assert_eq!(payload.len(), usize::from(u16::from_be_bytes([*high, *low])));
    assert_eq!(payload.len(), 64 * 1024 - 2 * 4 - 2, "two headers and two channel bytes are gone");
}

/// TLS had taken the last words but not sent them; the two seconds that a close may take ran, and
/// the connection was dropped with the end of the output, the exit and the close still in it.
#[test]
fn last_words_that_tls_holds_back_are_waited_for() {
    let limits = Limits::default();
    let mut session = Session::new(options(Dialect::V1, true));
    session.on_cluster(
        &mut [stdout(b"out"), status(&exit_status("3")), cluster_close(1000)].concat(),
        ms(0),
    );
    session.browser_took(session.to_browser().len(), ms(1));
    assert_eq!(session.deadline(), Some(ms(1) + limits.slow_browser));
    session.on_timeout(ms(1) + limits.close_wait);
    assert!(!session.is_browser_over());
    session.browser_flushed(ms(5000));
    assert_eq!(session.deadline(), Some(ms(5000) + limits.close_wait));
}

/// The keys of a hang-up were typed once; a shell that was still starting lost them and lived on.
#[test]
fn a_hang_up_is_tried_again_until_the_process_ends() {
    let mut rig = Rig::new(options(Dialect::V1, true));
    rig.browser_ends();
    rig.wait(ms(2500));
    rig.drain();
    assert_eq!(rig.cluster.sent, [Sent::Input([3, 4].repeat(3))]);
    rig.cluster_sends(&status(&exit_status("130")));
    assert_eq!(rig.finish().process, Process::Ended(Some(130)));
    assert_eq!(rig.cluster.sent, [Sent::Input([3, 4].repeat(3)), Sent::Close(Some(1000))]);
}

/// Limits as long as a duration can be were added to the time, and overflowed.
#[test]
fn limits_may_be_for_ever() {
    let mut options = options(Dialect::V1, true);
    let limits = Arc::make_mut(&mut options.limits);
    for limit in [&mut limits.hangup_grace, &mut limits.close_wait, &mut limits.slow_browser] {
        *limit = Duration::MAX;
    }
    Arc::make_mut(&mut options.limits).message_time = Duration::MAX;
    let mut rig = Rig::new(options);
    rig.now = ms(10);
    rig.browser_sends(&frame(0x01, b"{", Some([0; 4])));
    rig.stop(Kind::Drain);
    assert!(rig.session.deadline().is_some());
    rig.timeout();
}
