//! Random sessions whose execs are not started, again and again: every key arrives once, at the
//! one that starts.
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
use podwire::proto::session::{Limits, Options};

use session::readers::{ClusterReader, Sent};
use session::tape::Random;
use session::{
    Rig, SUCCESS, cluster_close, exit_status, internal_error, ms, resize, size, status, stdout,
    text, typed,
};

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
