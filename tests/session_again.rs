//! Sessions whose execs are not started, one by one and at random: every key arrives once, at the
//! exec that starts.
//!
//! `SESSION_SEED=n` runs the one case that a failure named.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::sync::Arc;
use std::time::Duration;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::{Ending, Kind};
use podwire::proto::message::Dialect;
use podwire::proto::session::{Limits, Options, Process};

use session::readers::{ClusterReader, Sent};
use session::tape::Random;
use session::{
    Rig, SUCCESS, cluster_close, exit_status, internal_error, ms, resize, size, status, stdout,
    text, typed,
};

const MISSING: &str = "OCI runtime exec failed: exec: sh: executable file not found in $PATH";

/// A session on v5 that has another exec to try.
fn shell(tty: bool) -> Rig {
    let options = session::options(Dialect::V1, tty);
    Rig::new(Options { again: true, size: size(80, 24).filter(|_| tty), ..options })
}

#[test]
fn what_was_typed_at_nothing_is_typed_again_once_at_the_next() {
    let mut rig = shell(true);
    rig.browser_sends(&typed(b"ab"));
    rig.browser_sends(&text(r#"{"type":"resize","rows":30,"cols":100}"#));
    rig.drain();
    rig.cluster_sends(
        &[stdout(b""), status(&internal_error(MISSING)), cluster_close(1000)].concat(),
    );
    assert!(rig.session.is_cluster_over() && !rig.session.wants_cluster());
    let why = rig.session.unstarted().unwrap();
    assert!(why.kind == Kind::Failed && why.message.contains("not found"), "{why}");
    assert_eq!(rig.session.unstarted(), None, "it is asked once");
    // Between the two connections the browser goes on.
    rig.browser_sends(&typed(b"cd"));
    rig.browser_sends(&text(r#"{"type":"resize","rows":40,"cols":120}"#));
    rig.browser_sends(&text(r#"{"type":"ping","id":1}"#));
    rig.cluster = ClusterReader::default();
    rig.session.on_another(Subprotocol::V5, rig.now);
    rig.drain();
    assert_eq!(rig.cluster.sent, [Sent::Size(120, 40), Sent::Input(b"abcd".to_vec())]);
    // The same once more.
    rig.cluster_sends(&[status(&exit_status("127")), cluster_close(1000)].concat());
    assert_eq!(rig.session.unstarted().unwrap().exit_code, Some(127));
    rig.cluster = ClusterReader::default();
    rig.session.on_another(Subprotocol::V4, rig.now);
    rig.cluster_sends(&stdout(b"$ "));
    rig.browser_sends(&typed(b"e"));
    rig.drain();
    assert_eq!(rig.cluster.input(), b"abcde");
    // Somebody is there now, so what comes is no reason to start anything.
    rig.cluster_sends(&[status(&exit_status("127")), cluster_close(1000)].concat());
    assert_eq!(rig.session.unstarted(), None);
    let outcome = rig.finish();
    assert_eq!(outcome.ending.exit_code, Some(127));
    assert_eq!((outcome.traffic.input, outcome.left), (5, false));
}

#[test]
fn without_a_terminal_the_end_of_input_goes_with_the_input() {
    let mut rig = shell(false);
    rig.browser_sends(&typed(b"echo hi\n"));
    rig.browser_sends(&text(r#"{"type":"eof"}"#));
    rig.drain();
    rig.cluster_sends(&status(&internal_error(MISSING)));
    assert!(rig.session.unstarted().is_some());
    rig.cluster = ClusterReader::default();
    rig.session.on_another(Subprotocol::V5, rig.now);
    rig.drain();
    assert_eq!(rig.cluster.sent, [Sent::Input(b"echo hi\n".to_vec()), Sent::CloseInput]);
}

#[test]
fn a_script_that_may_have_run_is_not_run_again() {
    // It may have been the script that ended with the code, silently.
    let mut rig = shell(false);
    rig.browser_sends(&typed(b"rm x; exit 127\n"));
    rig.drain();
    rig.cluster_sends(&[status(&exit_status("127")), cluster_close(1000)].concat());
    assert_eq!(rig.session.unstarted(), None);
    assert_eq!(rig.finish().ending.exit_code, Some(127));
    // Too much was typed, or too early, to be kept.
    for late in [false, true] {
        let mut rig = shell(true);
        rig.browser_sends(&typed(&vec![b'x'; if late { 1 } else { 300_000 }]));
        rig.drain();
        rig.wait(if late { ms(2000) } else { ms(0) });
        assert!(!rig.session.may_be_unstarted());
        rig.cluster_sends(&[status(&internal_error(MISSING)), cluster_close(1000)].concat());
        assert_eq!(rig.session.unstarted(), None);
        assert_eq!(rig.finish().ending.kind, Kind::Failed);
    }
    // Nothing was typed, so it does not matter how late it is.
    let mut rig = shell(true);
    rig.wait(ms(20_000));
    rig.cluster_sends(&status(&internal_error(MISSING)));
    assert!(rig.session.unstarted().is_some());
}

#[test]
fn the_next_exec_has_two_seconds_of_its_own() {
    let mut rig = shell(true);
    rig.browser_sends(&typed(b"a"));
    rig.wait(ms(1900));
    for key in [b"b", b"c"] {
        rig.cluster_sends(&status(&internal_error(MISSING)));
        assert!(rig.session.unstarted().is_some());
        rig.cluster = ClusterReader::default();
        rig.session.on_another(Subprotocol::V5, rig.now);
        rig.wait(ms(1900));
        rig.browser_sends(&typed(key));
        rig.drain();
    }
    assert_eq!(rig.cluster.input(), b"abc");
    assert!(rig.session.may_be_unstarted());
    rig.wait(ms(100));
    assert!(!rig.session.may_be_unstarted());
}

#[test]
fn where_nothing_else_can_be_started_the_ending_says_why() {
    let mut rig = shell(true);
    rig.cluster_sends(&[status(&internal_error(MISSING)), cluster_close(1000)].concat());
    let why = rig.session.unstarted().unwrap();
    rig.session.on_no_other(why, rig.now);
    let outcome = rig.finish();
    assert_eq!((outcome.ending.kind, outcome.process), (Kind::Failed, Process::Ended(None)));
    assert!(!outcome.left, "nothing was left because nothing was started");
    assert_eq!(rig.browser.close().unwrap().0, 4422);
}

#[test]
fn a_browser_that_leaves_between_two_execs_leaves_nothing_behind() {
    let mut rig = shell(true);
    rig.browser_sends(&typed(b"ab"));
    rig.cluster_sends(&status(&internal_error(MISSING)));
    assert!(rig.session.unstarted().is_some());
    rig.browser_ends();
    assert_eq!(rig.session.outcome().map(|it| it.ending), None, "one is on its way");
    rig.cluster = ClusterReader::default();
    rig.session.on_another(Subprotocol::V5, rig.now);
    let outcome = rig.finish();
    assert_eq!(outcome.ending.kind, Kind::BrowserLost);
    assert!(rig.cluster.input().ends_with(&[3, 4, 3, 4]) && outcome.left);
}

#[test]
fn much_that_is_typed_between_two_execs_waits_with_the_browser() {
    let mut rig = shell(true);
    rig.drain();
    rig.cluster_sends(&status(&internal_error(MISSING)));
    assert!(rig.session.unstarted().is_some());
    let often = rig.fill(podwire::proto::session::Session::wants_browser, |rig| {
        rig.browser_sends(&typed(&[b'x'; 10_000]));
    });
    assert!((26..=28).contains(&often), "{often}");
    rig.cluster = ClusterReader::default();
    rig.session.on_another(Subprotocol::V5, rig.now);
    rig.drain();
    assert_eq!(rig.cluster.input().len(), often * 10_000);
}

#[test]
fn an_end_of_input_that_the_next_exec_cannot_have_is_told() {
    let mut rig = shell(false);
    rig.browser_sends(&typed(b"cat\n"));
    rig.browser_sends(&text(r#"{"type":"eof"}"#));
    rig.cluster_sends(&status(&internal_error("error sending request")));
    assert!(rig.session.unstarted().is_some());
    rig.cluster = ClusterReader::default();
    rig.session.on_another(Subprotocol::V4, rig.now);
    rig.drain();
    assert_eq!(rig.cluster.sent, [Sent::Input(b"cat\n".to_vec())]);
    assert_eq!(rig.browser.last_json().unwrap()["type"], "error");
}

#[test]
fn what_is_being_opened_when_the_session_ends_is_awaited_for_the_grace() {
    let mut rig = shell(true);
    rig.cluster_sends(&status(&internal_error(MISSING)));
    assert!(rig.session.unstarted().is_some());
    rig.stop(Kind::Revoked);
    rig.drain();
    rig.wait(ms(4999));
    assert_eq!(rig.session.outcome().map(|it| it.ending), None);
    rig.wait(ms(1));
    let outcome = rig.session.outcome().unwrap();
    assert_eq!(outcome.ending.kind, Kind::Revoked);
    assert!(outcome.left, "it may start yet");
}

#[expect(clippy::struct_excessive_bools, reason = "a case is a list of what is known")]
struct Case {
    random: Random,
    rig: Rig,
    tty: bool,
    /// Everything that was typed, and everything that the exec of the moment got.
    typed: Vec<u8>,
    eof: bool,
    size: (u64, u64),
    /// Set once there was output: somebody reads.
    started: bool,
    /// Whether the exec of the moment is known not to have started.
    between: bool,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let tty = random.percent(60);
        let mut limits = Limits::default();
        limits.outbox = random.pick(&[100, 5000, 256 * 1024]);
        let options = session::options(Dialect::V1, tty);
        let first = size(80, 24).filter(|_| tty);
        let rig =
            Rig::new(Options { again: true, size: first, limits: Arc::new(limits), ..options });
        let (started, between, eof) = (false, false, false);
        Self { random, rig, tty, typed: Vec::new(), eof, size: (80, 24), started, between }
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0..=3 if self.rig.session.wants_browser() && !self.eof => {
                let len = self.random.pick(&[1, 3, 40, 700]);
                let keys: Vec<u8> = (0..len)
                    .map(|n| b"abcdefghijklmnopqrstuvwxyz"[(self.typed.len() + n) % 26])
                    .collect();
                self.rig.browser_sends(&typed(&keys));
                self.typed.extend(keys);
            }
            4 if self.rig.session.wants_browser() => {
                let (cols, rows) =
                    (self.random.pick(&[1, 80, 500]), self.random.pick(&[1, 24, 300]));
                self.size = (cols.into(), rows.into());
                self.rig.browser_sends(&resize(cols, rows));
            }
            5 if !self.tty && !self.started && self.rig.session.wants_browser() => {
                self.rig.browser_sends(&text(r#"{"type":"eof"}"#));
                self.eof = true;
            }
            6 => self.rig.drain(),
            7 => {
                let time = self.random.pick(&[ms(1), ms(60), ms(700), ms(2500)]);
                self.rig.wait(time);
            }
            8 if self.between => self.next_exec(),
            8 | 9 if !self.started && !self.between && self.random.percent(70) => self.fails(),
            9 if !self.between && self.random.percent(30) => {
                self.rig.cluster_sends(&stdout(b"$ "));
                self.started = true;
            }
            _ => {}
        }
    }

    fn fails(&mut self) {
        let keeps = self.rig.session.may_be_unstarted();
        let by_code = self.tty && self.random.percent(30);
        let why = if by_code { exit_status("127") } else { internal_error("no such file") };
        self.rig.cluster_sends(&[stdout(b""), status(&why), cluster_close(1000)].concat());
        let asked = self.rig.session.unstarted();
        assert_eq!(asked.is_some(), keeps, "{:?}", self.rig.session);
        self.between = keeps;
        self.started |= !keeps;
    }

    fn next_exec(&mut self) {
        self.rig.cluster = ClusterReader::default();
        self.rig.session.on_another(Subprotocol::V5, self.rig.now);
        self.between = false;
        // It has everything from the first moment, and the newest size before it.
        self.rig.cluster_takes(usize::MAX);
        self.check();
        if self.tty {
            assert_eq!(self.rig.cluster.sent.first(), Some(&Sent::Size(self.size.0, self.size.1)));
        }
    }

    /// What the exec of the moment got is what was typed, whole if nothing was lost.
    fn check(&self) {
        assert_eq!(self.rig.cluster.input(), self.typed);
        let closed = self.rig.cluster.sent.contains(&Sent::CloseInput);
        assert_eq!(closed, self.eof);
    }

    fn finish(mut self) {
        if self.rig.session.outcome().is_some() {
            return;
        }
        if self.between && self.random.percent(50) {
            let ending = Ending::new(Kind::NoShell, "none");
            self.rig.session.on_no_other(ending, self.rig.now);
            assert_eq!(self.rig.finish().ending.kind, Kind::NoShell);
            return;
        }
        if self.between {
            self.next_exec();
        }
        self.rig.wait(Duration::from_millis(60));
        self.rig.drain();
        if self.rig.session.outcome().is_none() && !self.rig.session.is_cluster_over() {
            self.check();
            self.rig.cluster_sends(&[status(SUCCESS), cluster_close(1000)].concat());
        }
        let outcome = self.rig.finish();
        assert!(matches!(outcome.ending.kind, Kind::Exit | Kind::Failed), "{}", outcome.ending);
        assert_eq!(outcome.traffic.input, self.typed.len() as u64);
    }
}

#[test]
fn every_key_arrives_once_at_the_exec_that_starts() {
    let one = std::env::var("SESSION_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = one.map_or(0..3000, |seed| seed..seed + 1);
    for seed in seeds {
        let result = std::panic::catch_unwind(|| {
            let mut case = Case::new(seed);
            for _ in 0..60 {
                case.step();
                if case.rig.session.is_cluster_over() && !case.between {
                    break;
                }
            }
            case.finish();
        });
        assert!(result.is_ok(), "to see this case alone: SESSION_SEED={seed}");
    }
}
