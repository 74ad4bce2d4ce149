//! Random operations against a session, and a model that foresees what comes of them.
//!
//! `SESSION_SEED=n` runs the one case that a failure named; `SESSION_CASES=n` runs that many.

// A test ends at the first thing that is not as expected; that is what these are for.
#![allow(clippy::unwrap_used, clippy::panic)]

mod session;

use std::time::Duration;

use podwire::proto::channel::Subprotocol;
use podwire::proto::ending::Kind;
use podwire::proto::message::Dialect;
use podwire::proto::session::{Options, Time};

use session::model::{Cluster, Expect, Model};
use session::readers::{Told, assert_prefix};
use session::tape::{Random, Tape, random_options};
use session::{Rig, ms};

#[test]
fn whatever_happens_bytes_arrive_once_in_order_and_there_is_one_ending() {
    let number = |name| std::env::var(name).ok().map(|it| it.parse::<u64>().unwrap());
    if let Some(seed) = number("SESSION_SEED") {
        return case(seed);
    }
    for seed in 0..number("SESSION_CASES").unwrap_or(1500) {
        case(seed);
    }
}

/// Names the seed if the case fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see this case alone: SESSION_SEED={}", self.0);
        }
    }
}

fn case(seed: u64) {
    let _named = Named(seed);
    let mut run = Run::new(Random(seed));
    for _ in 0..20 + run.random.below(200) {
        run.step();
        run.check();
        if run.rig.session.outcome().is_some() {
            break;
        }
    }
    run.settle();
    run.finish();
    run.judge();
}

struct Run {
    random: Random,
    options: Options,
    rig: Rig,
    model: Model,
    browser_tape: Tape,
    cluster_tape: Tape,
    /// In percent: how often something is said that may end a session.
    wild: usize,
    read_max: usize,
    browser_gone: bool,
    deaf: bool,
    waiting_since: Option<Time>,
    longest_read: (usize, usize),
}

impl Run {
    fn new(mut random: Random) -> Self {
        let options = random_options(&mut random);
        let mut model = Model::new(&options);
        let mut rig = Rig::new(options.clone());
        rig.lends = random.percent(70);
        if options.dialect == Dialect::V1 {
            let place = serde_json::to_value(&options.place).unwrap();
            let mut ready = serde_json::json!({"type": "ready"});
            ready.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
            model.told.push(Told::Json(ready));
        }
        if options.dialect == Dialect::Ttyd {
            model.told.push(Told::Ttyd(b'1', " ()".to_owned()));
            model.told.push(Told::Ttyd(b'2', "{}".to_owned()));
        }
        if options.place.tty && options.size.is_some() {
            model.sizes.push((80, 24));
        }
        Self {
            wild: random.pick(&[0, 5, 50, 100]),
            read_max: random.pick(&[3, 100, 4096, 64 * 1024]),
            random,
            rig,
            model,
            browser_tape: Tape::default(),
            cluster_tape: Tape::default(),
            browser_gone: false,
            deaf: false,
            waiting_since: matches!(options.dialect, Dialect::V1 | Dialect::Ttyd)
                .then_some(Time::ZERO),
            options,
            longest_read: (0, 0),
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=29 => self.browser_says(),
            30..=59 => self.cluster_says(),
            60..=71 => {
                let n = self.some();
                self.browser_takes(n);
            }
            72..=83 => {
                let n = self.some();
                self.cluster_takes(n);
            }
            84..=97 => {
                let time = self.random.pick(&[ms(0), ms(1), ms(20), ms(50), ms(800), ms(4000)]);
                self.wait(time);
            }
            98 if self.random.percent(self.wild) => self.end_something(),
            _ => self.rig.lends = !self.rig.lends,
        }
    }

    fn some(&mut self) -> usize {
        self.random.pick(&[1, 7, 500, 20_000, usize::MAX])
    }

    fn browser_says(&mut self) {
        if self.browser_gone || !self.rig.session.wants_browser() {
            return;
        }
        while self.browser_tape.is_empty() || self.random.percent(30) {
            let wild = self.random.percent(self.wild);
            let (dialect, max) = (self.options.dialect, self.options.limits.message_max);
            self.browser_tape.browser(&mut self.random, dialect, max, wild);
        }
        self.feed_browser();
    }

    fn feed_browser(&mut self) {
        let n = 1 + self.random.below(self.read_max);
        let wire = self.browser_tape.take(n, &mut self.model, self.rig.now);
        self.longest_read.0 = self.longest_read.0.max(wire.len());
        self.rig.browser_sends(&wire);
        if self.model.acked_at.take().is_some() {
            self.waiting_since = Some(self.rig.now);
        }
    }

    fn cluster_says(&mut self) {
        if !self.rig.session.wants_cluster() {
            return;
        }
        while self.cluster_tape.is_empty() || self.random.percent(30) {
            let wild = self.random.percent(self.wild);
            let v1 = self.options.subprotocol == Subprotocol::V1;
            self.cluster_tape.cluster(&mut self.random, v1, wild);
        }
        self.feed_cluster();
    }

    fn feed_cluster(&mut self) {
        let n = 1 + self.random.below(self.read_max);
        let wire = self.cluster_tape.take(n, &mut self.model, self.rig.now);
        self.longest_read.1 = self.longest_read.1.max(wire.len());
        self.rig.cluster_sends(&wire);
    }

    fn browser_takes(&mut self, n: usize) {
        if !self.browser_gone && !self.rig.session.to_browser().is_empty() {
            self.rig.browser_takes(n);
            // A page that is behind takes bytes without showing them.
            if !self.model.is_behind() {
                let waits = !self.rig.session.to_browser().is_empty();
                self.waiting_since = waits.then_some(self.rig.now);
            }
        }
    }

    fn cluster_takes(&mut self, n: usize) {
        if !self.deaf {
            self.rig.cluster_takes(n);
        }
    }

    fn end_something(&mut self) {
        let now = self.rig.now;
        match self.random.below(4) {
            0 if !self.browser_gone => self.browser_ends(),
            1 if self.rig.session.wants_cluster() => {
                self.rig.cluster_ends();
                self.model.conclude(None, now);
            }
            2 => self.stop(),
            _ => {
                self.deaf = true;
                self.model.deaf();
                self.rig.session.on_cluster_deaf();
            }
        }
    }

    fn browser_ends(&mut self) {
        self.rig.browser_ends();
        self.browser_gone = true;
        self.model.end(Expect::of(Kind::BrowserLost), self.rig.now);
    }

    fn stop(&mut self) {
        let kind = self.random.pick(&[Kind::Drain, Kind::Idle, Kind::Revoked, Kind::MaxSession]);
        self.rig.stop(kind);
        self.model.end(Expect::of(kind), self.rig.now);
    }

    fn wait(&mut self, time: Duration) {
        let until = self.rig.now + time;
        let mut timeouts = 0;
        while let Some(at) = self.rig.session.deadline().filter(|at| *at <= until) {
            // Whoever drives it may be late.
            self.rig.now = if self.random.percent(80) { at.max(self.rig.now) } else { until };
            self.on_timeout();
            self.check();
            timeouts += 1;
            assert!(timeouts < 10_000, "the timer never stops: {:?}", self.rig.session);
        }
        self.rig.now = until;
    }

    fn on_timeout(&mut self) {
        let now = self.rig.now;
        let slow_at = self.waiting_since.map(|since| since + self.options.limits.slow_browser);
        let slow = slow_at.is_some_and(|at| at <= now);
        self.model.timeout(now);
        self.rig.timeout();
        if self.model.ended.is_some() {
            return;
        }
        if self.rig.browser.will_close(self.rig.session.to_browser()) {
            let kind = if slow { Kind::SlowBrowser } else { Kind::ProtocolError };
            let due = slow || self.model.message_open || self.model.status.is_some();
            assert!(due, "the session ended for no reason: {:?}", self.rig.session);
            self.model.end(Expect::of(kind), now);
            self.model.timeout(now);
        } else {
            assert!(
                !slow,
                "a browser that takes nothing is given up in time: {:?} {:?} {:?}",
                self.waiting_since, self.rig.now, self.rig.session
            );
        }
    }

    /// What holds at every moment.
    fn check(&mut self) {
        let session = &mut self.rig.session;
        if self.deaf && !session.to_cluster().is_empty() {
            session.on_cluster_deaf();
        }
        match self.waiting_since {
            _ if session.to_browser().is_empty() && !self.model.is_behind() => {
                self.waiting_since = None;
            }
            None => self.waiting_since = Some(self.rig.now),
            Some(_) => {}
        }
        let (limit, (from_browser, from_cluster)) = (self.options.limits.outbox, self.longest_read);
        let bound = limit + 3 * from_cluster + 8 * from_browser + 4096;
        assert!(session.to_browser().len() <= bound, "{} bytes wait", session.to_browser().len());
        let bound =
            limit + self.options.limits.message_max + 2 * from_browser + from_cluster + 4096;
        assert!(session.to_cluster().len() <= bound, "{} bytes wait", session.to_cluster().len());
        if self.model.cluster == Cluster::StatusSeen {
            assert!(session.to_cluster().is_empty(), "nothing is sent after a status");
        }
        let lives = session.wants_browser()
            || session.wants_cluster()
            || !session.to_browser().is_empty()
            || !session.to_cluster().is_empty()
            || session.deadline().is_some();
        assert!(lives || session.outcome().is_some(), "nothing can happen: {session:?}");
        if self.model.ended.is_none() {
            assert_prefix(&self.rig.browser.told, &self.model.told);
        }
        assert_prefix(&self.rig.cluster.without_sizes(), &self.model.sent);
    }

    /// While both peers are there, what is taken is all there was, and the last size arrives.
    fn settle(&mut self) {
        self.wait(ms(0));
        if self.model.ended.is_none() && !self.deaf {
            self.browser_takes(usize::MAX);
            self.cluster_takes(usize::MAX);
            self.wait(ms(60));
            self.cluster_takes(usize::MAX);
        }
        if self.model.cluster == Cluster::Open && !self.deaf {
            assert_eq!(self.rig.cluster.without_sizes(), self.model.sent);
            assert_eq!(self.rig.cluster.sizes().last(), self.model.sizes.last());
            if self.rig.session.to_browser().is_empty() {
                assert_eq!(self.rig.browser.told, self.model.told);
            }
        }
    }

    /// One of the ways in which it may go on from here leads to an outcome in a few steps.
    fn finish(&mut self) {
        let way = self.random.below(4);
        match way {
            0 if !self.browser_gone => self.browser_ends(),
            _ if self.model.ended.is_none() && self.model.status.is_none() => self.stop(),
            _ => {}
        }
        let mut steps = 0;
        while self.rig.session.outcome().is_none() {
            if way >= 2 {
                self.browser_takes(usize::MAX);
                self.cluster_takes(usize::MAX);
            }
            if way == 3 && self.rig.session.wants_cluster() && !self.cluster_tape.is_empty() {
                self.feed_cluster();
            } else {
                if let Some(at) = self.rig.session.deadline() {
                    self.wait(at.saturating_sub(self.rig.now));
                }
                steps += 1;
                assert!(steps < 400, "there is no outcome: {:?}", self.rig.session);
            }
            self.check();
        }
    }

    fn judge(&mut self) {
        let outcome = self.rig.session.outcome().unwrap();
        let ending = &outcome.ending;
        let expected = self.model.ended.unwrap();
        let came = Expect {
            kind: ending.kind,
            exit_code: ending.exit_code,
            close_code: ending.close_code,
        };
        assert_eq!(came, expected, "{ending}");
        assert_eq!(outcome.process, self.model.process);
        assert_eq!(outcome.traffic.output, self.model.output);
        let told = &self.rig.browser;
        let reason = &ending.message[..ending.message.floor_char_boundary(123)];
        self.model.last_words(&ending.message, reason);
        if told.is_closed() {
            assert_eq!(told.told, self.model.told);
        } else {
            assert_prefix(&told.told, &self.model.told);
        }
        assert_prefix(&self.rig.cluster.without_sizes(), &self.model.sent);
        let (sizes, mut asked) = (self.rig.cluster.sizes(), self.model.sizes.iter());
        assert!(sizes.iter().all(|size| asked.any(|it| it == size)), "{sizes:?}");
        assert!(sizes.windows(2).all(|pair| pair[0] != pair[1]), "repeats are dropped: {sizes:?}");
    }
}
