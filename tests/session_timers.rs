//! What a session does of its own accord: pings, keepalive, limits with their warnings. Time is an
//! argument, so a day takes no longer than a test.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::sync::Arc;
use std::time::Duration;

use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::{Limits, Options, Outcome, Process, Time};

use session::readers::{Sent, Told};
use session::{
    Rig, SUCCESS, browser_frame, cluster_close, frame, ms, size, status, stdout, text, typed,
};

/// A session and two peers who answer pings, or do not.
struct Life {
    rig: Rig,
    browser_answers: bool,
    cluster_answers: bool,
    seen: (usize, usize),
    data_at: Time,
    longest_without_data: Duration,
}

impl Life {
    fn new(options: Options) -> Self {
        Self {
            rig: Rig::new(options),
            browser_answers: true,
            cluster_answers: true,
            seen: (0, 0),
            data_at: Time::ZERO,
            longest_without_data: Duration::ZERO,
        }
    }

    /// Lets time pass, until there is an outcome if there is one.
    fn live(&mut self, time: Duration) -> Option<Outcome> {
        let until = self.rig.now + time;
        loop {
            self.exchange();
            if let Some(outcome) = self.rig.session.outcome() {
                return Some(outcome);
            }
            let Some(at) = self.rig.session.deadline().filter(|at| *at <= until) else {
                self.rig.now = until;
                return None;
            };
            self.rig.wait(at.saturating_sub(self.rig.now));
        }
    }

    /// Both take what there is and answer what is asked.
    fn exchange(&mut self) {
        self.rig.drain();
        for sent in self.rig.cluster.sent.split_off(self.seen.0.min(self.rig.cluster.sent.len())) {
            if let Sent::Ping(payload) = &sent {
                if self.cluster_answers {
                    self.rig.cluster_sends(&frame(0x8a, payload, None));
                }
            } else {
                self.longest_without_data =
                    self.longest_without_data.max(self.rig.now.saturating_sub(self.data_at));
                self.data_at = self.rig.now;
            }
            self.rig.cluster.sent.push(sent);
            self.seen.0 = self.rig.cluster.sent.len();
        }
        let told = self.rig.browser.told.len();
        let pings =
            self.rig.browser.told[self.seen.1..].iter().filter(|told| **told == Told::Ping).count();
        self.seen.1 = told;
        for _ in 0..pings {
            if self.browser_answers {
                self.rig.browser_sends(&browser_frame(0x8a, b""));
            }
        }
    }

    fn pings(&self) -> (usize, usize) {
        let to_browser = self.rig.browser.told.iter().filter(|told| **told == Told::Ping);
        let to_cluster = self.rig.cluster.sent.iter().filter(|sent| matches!(sent, Sent::Ping(_)));
        (to_browser.count(), to_cluster.count())
    }

    fn notices(&self) -> Vec<String> {
        let kinds = self.rig.browser.told.iter().filter_map(|told| match told {
            Told::Json(json) if json["type"] == "notice" => json["kind"].as_str(),
            _ => None,
        });
        kinds.map(str::to_owned).collect()
    }
}

fn options(tty: bool, change: impl FnOnce(&mut Limits)) -> Options {
    let mut limits = Limits::default();
    limits.idle_timeout = None;
    limits.max_session = None;
    change(&mut limits);
    let options = session::options(Dialect::V1, tty);
    Options { size: size(80, 24).filter(|_| tty), limits: Arc::new(limits), ..options }
}

const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn an_idle_session_lives_for_a_day() {
    for (tty, keepalive) in [(true, true), (true, false), (false, true)] {
        let options = options(tty, |limits| {
            limits.size_keepalive = limits.size_keepalive.filter(|_| keepalive);
        });
        let mut life = Life::new(options);
        assert_eq!(life.live(DAY).map(|it| it.ending), None);
        let (browser, cluster) = life.pings();
        assert!((4300..=4320).contains(&browser), "{browser} pings for the browser");
        assert!((8600..=8640).contains(&cluster), "{cluster} pings for the cluster");
        // Pings are no data for the server's timer of four hours.
        let most = if tty && keepalive { MINUTE } else { Duration::from_hours(1) };
        assert!(life.longest_without_data <= most, "{:?}", life.longest_without_data);
        let sizes = life.rig.cluster.sizes();
        assert!(sizes.iter().all(|size| *size == (80, 24)));
        let expected = if tty && keepalive { 1400..=1442 } else { usize::from(tty)..=1 };
        assert!(expected.contains(&sizes.len()), "{} sizes", sizes.len());
        life.rig.browser_sends(&typed(b"still"));
        life.rig.drain();
        assert!(life.rig.cluster.input().ends_with(b"still"));
        let outcome = life.rig.finish_with_status();
        assert_eq!(outcome.ending.exit_code, Some(0));
    }
}

#[test]
fn a_peer_that_falls_silent_is_noticed_within_a_minute_and_a_second() {
    for typing in [false, true] {
        for dead in [Kind::BrowserLost, Kind::ClusterLost] {
            let mut life = Life::new(options(true, |_| {}));
            assert!(life.live(MINUTE * 10).is_none());
            if typing && dead == Kind::ClusterLost {
                life.rig.browser_sends(&typed(b"ls\r"));
            }
            let since = life.rig.now;
            match dead {
                Kind::BrowserLost => life.browser_answers = false,
                _ => life.cluster_answers = false,
            }
            let outcome = life.live(MINUTE * 10).unwrap();
            assert_eq!(outcome.ending.kind, dead);
            assert!(outcome.left, "nobody knows of an end of the process");
            let took = life.rig.now.saturating_sub(since);
            let most = match dead {
                // The hang-up, and the last words.
                Kind::BrowserLost => ms(61_000 + 5000 + 2000),
                _ => ms(61_000 + 2000),
            };
            assert!(took <= most, "{dead:?} after {took:?}");
            if dead == Kind::ClusterLost {
                assert_eq!(life.rig.browser.close().unwrap().0, 4502);
            } else {
                assert!(life.rig.cluster.input().ends_with(&[3, 4]));
            }
        }
    }
}

#[test]
fn any_frame_is_life() {
    let mut life = Life::new(options(true, |_| {}));
    (life.browser_answers, life.cluster_answers) = (false, false);
    for _ in 0..100 {
        assert!(life.live(ms(59_999)).is_none());
        life.rig.cluster_sends(&stdout(b"."));
        life.rig.browser_sends(&text(r#"{"type":"nonsense"}"#));
    }
}

#[test]
fn a_process_that_does_not_read_its_input_is_not_dead() {
    let paste = vec![b'x'; 100 * 1024];
    // The server answers no ping while it waits for the process, whether the bytes lie with it or
    // still with us.
    for taken in [true, false] {
        let mut life = Life::new(options(true, |_| {}));
        assert!(life.live(MINUTE).is_none());
        life.rig.browser_sends(&typed(&paste));
        life.cluster_answers = false;
        if taken {
            assert!(life.live(MINUTE * 20).is_none());
        } else {
            for _ in 0..60 {
                life.rig.browser_takes(usize::MAX);
                life.rig.wait(ms(20_000));
                life.rig.browser_sends(&browser_frame(0x8a, b""));
            }
        }
        assert_eq!(life.rig.session.outcome().map(|it| it.ending), None);
        // Once it reads, pongs come, and silence counts again.
        life.cluster_answers = true;
        assert!(life.live(MINUTE).is_none());
        for sent in life.rig.cluster.sent.clone() {
            if let Sent::Ping(payload) = sent {
                life.rig.cluster_sends(&frame(0x8a, &payload, None));
            }
        }
        assert!(life.live(MINUTE).is_none());
        life.cluster_answers = false;
        let outcome = life.live(MINUTE * 3).unwrap();
        assert_eq!(outcome.ending.kind, Kind::ClusterLost);
    }
}

#[test]
fn a_pong_that_is_no_answer_says_nothing_of_the_input() {
    let mut life = Life::new(options(true, |_| {}));
    assert!(life.live(MINUTE).is_none());
    life.rig.browser_sends(&typed(&vec![b'x'; 70_000]));
    life.cluster_answers = false;
    for payload in [&b""[..], b"12345", &[0, 0, 0, 1], &[0xff; 4]] {
        life.rig.cluster_sends(&frame(0x8a, payload, None));
    }
    // The highest number there may be is that of the last ping, which was before the input.
    assert!(life.live(MINUTE * 5).is_none());
}

#[test]
fn a_browser_that_takes_nothing_is_slow_and_not_dead() {
    let mut life = Life::new(options(true, |_| {}));
    life.rig.drain();
    life.rig.cluster_sends(&stdout(b"output"));
    life.rig.wait(MINUTE * 4);
    assert_eq!(life.rig.session.outcome().map(|it| it.ending), None);
    assert!(!life.rig.session.wants_cluster(), "the cluster waits for the browser");
    life.rig.wait(MINUTE + ms(1));
    assert!(life.rig.browser.close().is_none());
    let outcome = life.rig.finish();
    assert_eq!(outcome.ending.kind, Kind::SlowBrowser);
    assert!(outcome.traffic.cluster_paused_us > 4 * 60 * 1_000_000);
}

#[test]
fn an_idle_session_is_told_and_then_ended_unless_something_is_typed() {
    let half_an_hour = MINUTE * 30;
    let mut life = Life::new(options(true, |it| it.idle_timeout = Some(half_an_hour)));
    assert!(life.live(ms(29 * 60_000 - 1)).is_none());
    assert!(life.notices().is_empty());
    assert!(life.live(ms(1)).is_none());
    assert_eq!(life.notices(), ["idle_warning"]);
    // What is no input does not help: output, sizes, questions, acknowledgements.
    life.rig.cluster_sends(&stdout(b"output"));
    for message in [
        r#"{"type":"resize","rows":50,"cols":100}"#,
        r#"{"type":"ping","id":1}"#,
        r#"{"type":"ack","bytes":6}"#,
        r#"{"type":"input","input":""}"#,
    ] {
        life.rig.browser_sends(&text(message));
    }
    assert!(life.live(ms(59_000)).is_none());
    life.rig.browser_sends(&typed(b"x"));
    assert!(life.live(ms(29 * 60_000 - 1)).is_none());
    assert_eq!(life.notices().len(), 1);
    let outcome = life.live(MINUTE * 2).unwrap();
    assert_eq!(life.notices().len(), 2);
    assert_eq!(outcome.ending.kind, Kind::Idle);
    assert!(outcome.left && outcome.ending.message.contains("30 min"), "{}", outcome.ending);
    assert_eq!(life.rig.browser.close().unwrap().0, 4408);
}

#[test]
fn a_long_session_is_told_and_then_ended_whatever_is_typed() {
    let mut life = Life::new(options(true, |it| it.max_session = Some(MINUTE * 60)));
    for _ in 0..59 {
        assert!(life.live(ms(59_999)).is_none());
        life.rig.browser_sends(&typed(b"x"));
        life.rig.cluster_sends(&stdout(b"x"));
    }
    assert!(life.notices().is_empty());
    assert!(life.live(MINUTE).is_none());
    assert_eq!(life.notices(), ["max_session_warning"]);
    let outcome = life.live(MINUTE).unwrap();
    assert_eq!(outcome.ending.kind, Kind::MaxSession);
    assert_eq!(life.rig.browser.output(), [b'x'; 59]);
    assert_eq!(life.rig.browser.close().unwrap().0, 4408);
}

#[test]
fn short_limits_warn_at_half_of_their_time() {
    let mut life = Life::new(options(true, |it| it.idle_timeout = Some(ms(4000))));
    assert!(life.live(ms(1999)).is_none());
    assert!(life.notices().is_empty());
    assert!(life.live(ms(1)).is_none());
    assert_eq!(life.notices(), ["idle_warning"]);
}

/// A log that is watched, or a job that takes long: who could type nothing is not idle.
#[test]
fn without_input_nobody_is_idle() {
    for (tty, attached) in [(true, true), (true, false), (false, true), (false, false)] {
        let limits = |it: &mut Limits| {
            it.idle_timeout = Some(MINUTE * 30);
            it.max_session = Some(MINUTE * 120);
        };
        let mut life = Life::new(Options { stdin: false, attached, ..options(tty, limits) });
        assert!(life.live(MINUTE * 100).is_none());
        // What is typed all the same goes nowhere, and begins nothing.
        life.rig.browser_sends(&typed(b"lost"));
        assert!(life.live(MINUTE * 19).is_none());
        assert_eq!(life.notices(), ["max_session_warning"]);
        assert_eq!(life.rig.cluster.input(), b"");
        assert_eq!(life.live(MINUTE * 2).unwrap().ending.kind, Kind::MaxSession);
    }
}

#[test]
fn a_notice_is_a_line_of_text_where_there_are_no_messages() {
    let change = |limits: &mut Limits| limits.max_session = Some(MINUTE * 60);
    let options = Options { dialect: Dialect::Seed, ..options(true, change) };
    let mut life = Life::new(options);
    // In the middle of a character, which is whole in the end.
    life.rig.cluster_sends(&stdout(&"ä".as_bytes()[..1]));
    assert!(life.live(MINUTE * 59).is_none());
    life.rig.cluster_sends(&stdout(&"ä".as_bytes()[1..]));
    life.rig.drain();
    let all = String::from_utf8(life.rig.browser.output()).unwrap();
    assert!(all.starts_with("\r\n[podwire: the session") && all.ends_with("]\r\nä"), "{all}");
}

#[test]
fn a_drain_is_told_and_leaves_a_moment() {
    let mut life = Life::new(options(true, |_| {}));
    life.rig.cluster_sends(&stdout(b"out"));
    life.rig.stop(Kind::Drain);
    assert!(life.live(ms(4999)).is_none());
    assert_eq!(life.notices(), ["drain"]);
    // One that ends by itself meanwhile has ended by itself.
    let mut other = Life::new(options(true, |_| {}));
    other.rig.stop(Kind::Drain);
    assert_eq!(other.rig.finish_with_status().ending.exit_code, Some(0));

    let outcome = life.live(ms(8000)).unwrap();
    assert_eq!(outcome.ending.kind, Kind::Drain);
    assert_eq!(life.rig.browser.close().unwrap().0, 1012);
    assert!(life.rig.cluster.input().starts_with(&[3, 4]));
    // Other reasons from outside do not wait.
    let mut revoked = Life::new(options(true, |_| {}));
    revoked.rig.stop(Kind::Revoked);
    revoked.exchange();
    assert_eq!(revoked.rig.browser.close().unwrap().0, 4403);
}

#[test]
fn a_process_that_was_attached_to_is_left_alone() {
    let attached = || Options { attached: true, ..options(true, |_| {}) };
    let mut rig = Rig::new(attached());
    rig.drain();
    rig.wait(ms(100));
    rig.drain();
    // A new size makes programs draw again what was drawn before somebody attached.
    assert_eq!(rig.cluster.sizes(), [(81, 25), (80, 24)]);
    rig.browser_ends();
    let outcome = rig.finish();
    assert_eq!(rig.cluster.without_sizes(), [Sent::Close(Some(1000))]);
    assert_eq!((outcome.ending.kind, outcome.process), (Kind::BrowserLost, Process::Unknown));

    let mut rig = Rig::new(attached());
    rig.cluster_sends(&[stdout(b"bye"), status(SUCCESS), cluster_close(1000)].concat());
    let outcome = rig.finish();
    assert_eq!((outcome.ending.kind, outcome.ending.exit_code), (Kind::Exit, None));
    assert_eq!(rig.browser.output(), b"bye");
}

#[test]
fn a_paste_that_was_read_does_not_hide_a_dead_cluster() {
    let mut life = Life::new(options(true, |_| {}));
    life.rig.browser_sends(&typed(&vec![b'x'; 200_000]));
    // The pong says that the server went past all of it.
    assert!(life.live(MINUTE).is_none());
    life.rig.browser_sends(&typed(b"ls\r"));
    life.cluster_answers = false;
    let outcome = life.live(MINUTE * 2).unwrap();
    assert_eq!(outcome.ending.kind, Kind::ClusterLost);
}

#[test]
fn a_relay_that_was_stopped_blames_nobody_for_its_own_silence() {
    let mut life = Life::new(options(true, |_| {}));
    assert!(life.live(MINUTE).is_none());
    life.rig.cluster_sends(&stdout(b"waits"));
    // A virtual machine that stood still for an hour.
    life.rig.now += MINUTE * 60;
    life.rig.timeout();
    assert!(life.live(MINUTE * 10).is_none());
    assert!(life.rig.browser.output().ends_with(b"waits"));
    // Afterwards as ever.
    life.browser_answers = false;
    assert_eq!(life.live(MINUTE * 2).unwrap().ending.kind, Kind::BrowserLost);
}

#[test]
fn a_page_that_acknowledges_no_more_is_slow() {
    let mut life = Life::new(options(true, |_| {}));
    life.rig.browser_sends(&text(r#"{"type":"ack","bytes":0}"#));
    let flood = vec![b'x'; 30_000];
    let mut told = 0;
    life.rig.drain();
    while life.rig.session.wants_cluster() {
        life.rig.cluster_sends(&stdout(&flood));
        life.rig.drain();
        told += flood.len();
    }
    assert!(told > 512 * 1024);
    // It answers pings and takes all bytes, and shows none of them.
    assert!(life.live(MINUTE * 4).is_none());
    let paused = life.rig.session.traffic(life.rig.now).cluster_paused_us;
    assert!(paused > 239 * 1_000_000, "{paused}");
    life.rig.browser_sends(&text(r#"{"type":"ack","bytes":1000}"#));
    assert!(life.live(MINUTE * 4).is_none(), "that was a little progress");
    let outcome = life.live(MINUTE * 2).unwrap();
    assert_eq!(outcome.ending.kind, Kind::SlowBrowser);
}
