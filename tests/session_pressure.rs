//! Backpressure and time: who waits for whom, for how long, and who does not.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::time::Duration;

use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::{Limits, Process, Session};

use session::readers::Sent;
use session::{
    Rig, SUCCESS, browser_close, browser_frame, cluster_close, exit_status, frame, ms, options,
    resize, status, stdout, text, typed,
};

/// A terminal whose first words were taken.
fn terminal(dialect: Dialect) -> Rig {
    let mut rig = Rig::new(options(dialect, true));
    rig.drain();
    rig
}

#[test]
fn a_flood_to_a_stalled_browser_waits_in_the_cluster_and_an_interrupt_passes_it() {
    for dialect in [Dialect::Seed, Dialect::V1] {
        let mut rig = terminal(dialect);
        rig.cluster_sends(&stdout(&vec![b'y'; 30_000]));
        assert!(!rig.session.wants_cluster());
        rig.browser_takes(29_999);
        assert!(!rig.session.wants_cluster(), "a rest is a rest");
        rig.browser_sends(&typed(b"\x03"));
        rig.cluster_takes(usize::MAX);
        assert_eq!(rig.cluster.sent, [Sent::Input(vec![3])]);
        rig.browser_takes(usize::MAX);
        assert!(rig.session.wants_cluster());
    }
}

/// P7, with what waits measured at every step.
#[test]
fn sixty_four_mebibytes_pass_in_order_and_little_of_it_ever_waits() {
    const READ: usize = 64 * 1024;
    let mut rig = terminal(Dialect::V1);
    let pattern: Vec<u8> =
        (0..32_749_u32).map(|at| at.to_be_bytes()[3] ^ at.to_be_bytes()[2]).collect();
    let frame = stdout(&pattern);
    let mut wire = frame.iter().copied().cycle();
    let mut passed = 0;
    while passed < 64 << 20 {
        let read: Vec<u8> = wire.by_ref().take(READ).collect();
        assert!(rig.session.wants_cluster());
        rig.cluster_sends(&read);
        assert!(rig.session.to_browser().len() <= READ + 64);
        rig.browser_takes(10_000);
        assert!(!rig.session.wants_cluster());
        rig.browser_takes(usize::MAX);
        let got = rig.browser.output();
        for byte in got.chunks(4096) {
            let at = passed % pattern.len();
            let first = byte.len().min(pattern.len() - at);
            assert!(byte[..first] == pattern[at..at + first]);
            assert!(byte[first..] == pattern[..byte.len() - first]);
            passed += byte.len();
        }
        rig.browser.told.clear();
    }
}

/// P18.
#[test]
fn a_process_that_reads_no_input_has_its_paste_wait_and_its_output_shown() {
    let mut rig = terminal(Dialect::V1);
    let paste = typed(&vec![b'p'; 50_000]);
    let pasted = 50_000 * rig.fill(Session::wants_browser, |rig| rig.browser_sends(&paste));
    assert!((256 * 1024..256 * 1024 + 50_000).contains(&pasted));
    assert!(rig.session.to_cluster().len() < 256 * 1024 + 60_000);
    for _ in 0..100 {
        assert!(rig.session.wants_cluster());
        rig.cluster_sends(&stdout(&vec![b'o'; 10_000]));
        rig.browser_takes(usize::MAX);
    }
    assert_eq!(rig.browser.output().len(), 1_000_000);
    rig.cluster_takes(usize::MAX);
    assert!(rig.session.wants_browser());
    assert_eq!(rig.cluster.input().len(), pasted);
    // It never became a matter of time: the cluster decides how long its process may be busy.
    assert_eq!(rig.session.deadline(), None);
}

#[test]
fn a_page_that_acknowledges_is_never_more_than_the_window_behind() {
    let mut rig = terminal(Dialect::V1);
    let flood = stdout(&vec![b'f'; 100_000]);
    let ack = |bytes: u64| text(&format!(r#"{{"type":"ack","bytes":{bytes}}}"#));
    for _ in 0..10 {
        rig.cluster_sends(&flood);
        rig.browser_takes(usize::MAX);
    }
    assert!(rig.session.wants_cluster(), "a page that never acknowledges is trusted");
    rig.browser_sends(&ack(1_000_000 - 512 * 1024 - 1));
    assert!(!rig.session.wants_cluster());
    rig.browser_sends(&ack(0));
    rig.browser_sends(&ack(1_000_000 - 512 * 1024));
    assert!(rig.session.wants_cluster());
    rig.browser_sends(&ack(1_000_000 - 512 * 1024 - 1));
    assert!(rig.session.wants_cluster(), "an acknowledgement is not taken back");
    rig.browser_sends(&ack(u64::MAX));
    rig.cluster_sends(&[&flood[..], &flood, &flood, &flood, &flood, &flood].concat());
    rig.browser_takes(usize::MAX);
    assert!(!rig.session.wants_cluster(), "nobody has consumed what was not sent yet");
    rig.browser_sends(&typed(b"\x03"));
    rig.cluster_takes(usize::MAX);
    assert_eq!(rig.cluster.sent, [Sent::Input(vec![3])]);
}

#[test]
fn the_clock_of_a_slow_browser_starts_with_the_first_byte_that_waits() {
    let slow = Limits::default().slow_browser;
    let mut rig = terminal(Dialect::V1);
    rig.wait(Duration::from_hours(1));
    assert_eq!(rig.session.deadline(), None);
    rig.cluster_sends(&stdout(b"output"));
    let since = rig.now;
    assert_eq!(rig.session.deadline(), Some(since + slow));
    rig.wait(ms(1000));
    rig.browser_sends(&typed(b"typing is not taking"));
    assert_eq!(rig.session.deadline(), Some(since + slow));
    rig.wait(Duration::from_mins(4));
    rig.browser_takes(1);
    let since = rig.now;
    assert_eq!(rig.session.deadline(), Some(since + slow), "one byte is progress");
    rig.wait(slow.checked_sub(ms(1)).unwrap());
    assert!(!rig.browser.will_close(rig.session.to_browser()));
    rig.wait(ms(1));
    assert!(rig.browser.will_close(rig.session.to_browser()));
    rig.wait(Limits::default().close_wait);
    assert!(rig.session.is_browser_over(), "it is offered its last words, but not for long");
    rig.cluster_takes(usize::MAX);
    let outcome = rig.finish();
    assert_eq!((outcome.ending.kind, outcome.process), (Kind::SlowBrowser, Process::Unknown));
}

#[test]
fn the_clock_of_a_message_stops_while_it_is_us_who_do_not_read() {
    let mut rig = terminal(Dialect::V1);
    let paste = typed(&vec![b'p'; 60_000]);
    rig.fill(Session::wants_browser, |rig| rig.browser_sends(&paste));
    rig.browser_sends(&browser_frame(0x01, b"{"));
    rig.wait(Duration::from_hours(1));
    assert!(!rig.browser.will_close(rig.session.to_browser()));
    rig.cluster_takes(usize::MAX);
    rig.wait(ms(30_000));
    assert_eq!(rig.finish().ending.kind, Kind::ProtocolError);
}

#[test]
fn a_size_waits_for_its_turn_and_no_longer() {
    let mut rig = terminal(Dialect::V1);
    rig.wait(ms(1000));
    rig.browser_sends(&resize(1, 1));
    rig.drain();
    assert_eq!(rig.cluster.sizes(), [(1, 1)], "the first one does not wait");
    rig.wait(ms(10));
    rig.browser_sends(&[resize(2, 2), resize(3, 3)].concat());
    rig.drain();
    assert_eq!(rig.session.deadline(), Some(ms(1050)));
    rig.wait(ms(39));
    rig.drain();
    assert_eq!(rig.cluster.sizes(), [(1, 1)]);
    rig.wait(ms(1));
    rig.drain();
    assert_eq!(rig.cluster.sizes(), [(1, 1), (3, 3)]);
    rig.browser_sends(&[resize(4, 4), resize(3, 3)].concat());
    assert_eq!(rig.session.deadline(), None, "a size that was taken back is not sent");
}

#[test]
fn a_hang_up_has_its_grace_and_ends_with_the_status() {
    let Limits { hangup_grace, close_wait, .. } = Limits::default();
    let mut rig = terminal(Dialect::V1);
    rig.browser_ends();
    assert_eq!(rig.session.deadline(), Some(ms(200)), "the end of input is typed apart");
    rig.cluster_takes(usize::MAX);
    assert_eq!(rig.cluster.sent, [Sent::Input(vec![3])]);
    rig.wait(ms(200));
    rig.cluster_takes(usize::MAX);
    assert_eq!(rig.cluster.sent, [Sent::Input(vec![3, 4])]);
    assert_eq!(rig.session.deadline(), Some(ms(1000)), "both are typed again");
    assert!(rig.session.wants_cluster(), "output is read and discarded, or no status would come");
    rig.cluster_sends(&stdout(&vec![b'd'; 60_000]));
    rig.cluster_sends(&frame(0x89, b"alive?", None));
    assert!(rig.session.wants_cluster());
    rig.cluster_takes(usize::MAX);
    assert_eq!(rig.cluster.sent.last(), Some(&Sent::Pong(b"alive?".to_vec())));
    let mut silent = terminal(Dialect::V1);
    silent.browser_ends();
    silent.wait(hangup_grace + close_wait);
    let outcome = silent.session.outcome();
    assert!(outcome.is_some(), "a cluster that takes nothing is left after its time, too");
    rig.cluster_sends(&status(&exit_status("129")));
    assert_eq!(rig.finish().process, Process::Ended(Some(129)));
    assert_eq!(rig.now, ms(200));
}

#[test]
fn an_exit_does_not_wait_for_ever_for_the_close_behind_it() {
    let close_wait = Limits::default().close_wait;
    let mut rig = terminal(Dialect::V1);
    rig.cluster_sends(&[stdout(b"out"), status(SUCCESS)].concat());
    rig.wait(Duration::from_mins(1));
    assert!(!rig.browser.will_close(rig.session.to_browser()), "output that waits hides the close");
    rig.browser_takes(usize::MAX);
    rig.wait(close_wait);
    assert!(rig.browser.will_close(rig.session.to_browser()));
    assert!(rig.session.is_cluster_over());
}

#[test]
fn a_browser_that_was_told_the_end_has_time_to_hear_it() {
    let close_wait = Limits::default().close_wait;
    for answers in [true, false] {
        let mut rig = terminal(Dialect::V1);
        rig.cluster_sends(&[status(SUCCESS), cluster_close(1000)].concat());
        rig.browser_takes(usize::MAX);
        assert_eq!(rig.session.deadline(), Some(rig.now + close_wait));
        assert!(rig.session.wants_browser() && !rig.session.is_browser_over());
        if answers {
            rig.browser_sends(&browser_close(1000));
        } else {
            rig.wait(close_wait);
        }
        assert!(rig.session.outcome().is_some());
    }
}

#[test]
fn a_session_at_rest_owns_no_buffers_and_has_no_timer() {
    let mut rig = terminal(Dialect::Seed);
    rig.cluster_sends(&stdout(b"$ "));
    rig.browser_sends(&typed(b"ls\r"));
    rig.drain();
    assert_eq!(rig.session.deadline(), None);
    assert!(rig.session.wants_browser() && rig.session.wants_cluster());
    let (mut for_browser, mut for_cluster) = (Vec::with_capacity(10), Vec::with_capacity(20));
    rig.session.lend(&mut for_browser, &mut for_cluster);
    assert_eq!((for_browser.capacity(), for_cluster.capacity()), (0, 0), "it takes what is lent");
    rig.session.reclaim(&mut for_browser, &mut for_cluster);
    assert_eq!((for_browser.capacity(), for_cluster.capacity()), (10, 20), "and gives it back");
}
