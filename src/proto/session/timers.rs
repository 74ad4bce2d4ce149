//! What is due when, and what is then done.

use std::time::Duration;

use super::held::Held;
use super::outcome::End;
use super::{Ending, Kind, NO_EOF_ON_V4, Session, Time, browser, cluster};

/// A timer that is so late was not late by itself: the program was stopped, or its machine.
const ASLEEP: Time = Time::from_secs(5);

impl Session {
    /// When [`Session::on_timeout`] is to be called, if nothing else happens.
    ///
    /// It is asked after every read and write, so it is one walk with one number in hand.
    pub fn deadline(&self) -> Option<Time> {
        let limits = &self.limits;
        // A limit as long as a duration can be is none.
        let mut soonest = Time::MAX;
        let mut due = |at: Option<Time>| soonest = soonest.min(at.unwrap_or(Time::MAX));
        let (browser, cluster) = (&self.browser, &self.cluster);
        match browser.state {
            browser::State::Lingering { until } => due(Some(until)),
            browser::State::Closing => due(browser.slow_at()),
            browser::State::Open => {
                due(browser.slow_at());
                due(Some(browser.pulse.ping_at(limits.browser_ping)));
                due(browser.pulse.dead_at(limits.dead_after));
            }
            browser::State::Gone => {}
        }
        match cluster.state {
            cluster::State::HangingUp { until, key } => {
                due(Some(key.map_or(until, |(at, _)| at.min(until))));
            }
            cluster::State::StatusSeen { until } | cluster::State::Closing { until } => {
                due(Some(until));
            }
            cluster::State::Open => {
                due(Some(cluster.pulse.question_at(limits.cluster_ping)));
                due(cluster.pulse.dead_at(limits.dead_after));
                due(Some(cluster.data_due(limits)));
                due(self.held.as_deref().and_then(Held::until));
            }
            cluster::State::Unstarted { until } => due(until),
            cluster::State::Gone => {}
        }
        due(browser.message_until(limits.message_time));
        due(cluster.size_due());
        if self.ending.is_none() {
            due(self.idle().map(|it| it.next(self.idle_warned)));
            due(self.lifetime().map(|it| it.next(self.lifetime_warned)));
            due(self.stopping.as_ref().map(|stopping| stopping.0));
        }
        (soonest < Time::MAX).then_some(soonest)
    }

    /// Does whatever is due.
    pub fn on_timeout(&mut self, now: Time) {
        if self.deadline().is_some_and(|due| now.saturating_sub(due) >= ASLEEP) {
            self.wake_up(now);
        }
        // Before anything is said to the browser here, which would have to be taken first.
        let reads_cluster = self.wants_cluster();
        self.cluster.send_size(now, false);
        if self.held.as_ref().is_some_and(|held| held.until().is_some_and(|at| at <= now))
            && self.cluster.state == cluster::State::Open
        {
            self.held = None;
        }
        if self.ending.is_none() {
            self.on_limits(now);
        }
        self.on_browser_timers(now);
        self.on_cluster_timers(reads_cluster, now);
        self.settle(now);
    }

    /// It was us who were silent: nobody was asked, and what was said has not been read yet.
    fn wake_up(&mut self, now: Time) {
        self.browser.pulse.heard(now);
        self.cluster.pulse.heard(now);
        self.browser.progress_at = now;
        if let Some(message) = &mut self.browser.unfinished {
            message.since = now;
        }
    }

    /// The limits of the whole session, and the time that a stop leaves to the user.
    fn on_limits(&mut self, now: Time) {
        if let Some(stopping) = self.stopping.take_if(|stopping| stopping.0 <= now) {
            return self.end_soon(stopping.1, now);
        }
        if let Some(idle) = self.idle() {
            if idle.end <= now {
                let message = format!("nothing was typed for {}", in_words(idle.limit));
                return self.end_soon(Ending::new(Kind::Idle, message), now);
            }
            if idle.warn <= now && !self.idle_warned {
                self.idle_warned = true;
                self.notice(Notice::Idle, now);
            }
        }
        if let Some(lifetime) = self.lifetime() {
            if lifetime.end <= now {
                let message = format!("a session may last for {}", in_words(lifetime.limit));
                return self.end_soon(Ending::new(Kind::MaxSession, message), now);
            }
            if lifetime.warn <= now && !self.lifetime_warned {
                self.lifetime_warned = true;
                self.notice(Notice::Lifetime, now);
            }
        }
    }

    /// Tells what happens or is going to, unless it is not any more. In a stream of bytes it waits for
    /// the end of a character that has begun.
    pub(super) fn notice(&mut self, notice: Notice, now: Time) {
        self.late = self.browser.is_cut().then_some(notice);
        if self.late.is_some() {
            return;
        }
        match notice {
            Notice::Idle => {
                let Some(idle) = self.idle().filter(|_| self.idle_warned) else { return };
                let left = in_words(idle.end.saturating_sub(now));
                let message = format!("the session ends in {left} unless you type something");
                self.browser.notice("idle_warning", &message);
            }
            Notice::Lifetime => {
                let Some(lifetime) = self.lifetime() else { return };
                let left = in_words(lifetime.end.saturating_sub(now));
                let message =
                    format!("the session has reached its longest time and ends in {left}");
                self.browser.notice("max_session_warning", &message);
            }
            Notice::Drain => {
                let Some(stopping) = &self.stopping else { return };
                self.browser.notice("drain", &stopping.1.message);
            }
            Notice::NoEof => self.browser.notice("no_eof", NO_EOF_ON_V4),
        }
    }

    fn on_browser_timers(&mut self, now: Time) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        match self.browser.state {
            browser::State::Lingering { until } if until <= now => self.browser.gone(),
            browser::State::Open if due(self.browser.slow_at()) => {
                self.end(Ending::new(Kind::SlowBrowser, "the browser took no output"), now);
                self.browser.hurry(self.limits.close_wait, now);
            }
            browser::State::Closing if due(self.browser.slow_at()) => self.browser.gone(),
            browser::State::Open => {
                if due(self.browser.pulse.dead_at(self.limits.dead_after)) {
                    let silence = in_words(self.limits.dead_after);
                    let message = format!("nothing was heard of the browser for {silence}");
                    self.end(Ending::new(Kind::BrowserLost, message), now);
                } else if self.browser.pulse.ping_at(self.limits.browser_ping) <= now {
                    self.browser.ping(now);
                }
            }
            _ => {}
        }
        if due(self.browser.message_until(self.limits.message_time)) {
            if self.wants_browser() {
                let ending = Ending::new(Kind::ProtocolError, "a message was never finished");
                self.end(ending, now);
            } else if let Some(message) = &mut self.browser.unfinished {
                // It may be us who keep it waiting.
                message.since = now;
            }
        }
    }

    fn on_cluster_timers(&mut self, reads: bool, now: Time) {
        let close_wait = self.limits.close_wait;
        match self.cluster.state {
            cluster::State::Open => {
                let dead_at = self.cluster.pulse.dead_at(self.limits.dead_after);
                if dead_at.is_some_and(|at| at <= now) {
                    self.conclude(End::Silence(self.limits.dead_after), now);
                    return;
                }
                self.cluster.keep_alive(&self.limits, reads, now);
            }
            cluster::State::StatusSeen { until } if until <= now => {
                if self.wants_cluster() {
                    self.conclude(End::Eof, now);
                } else {
                    // The cluster's close may be waiting behind output that nobody takes.
                    let until = now.saturating_add(close_wait);
                    self.cluster.state = cluster::State::StatusSeen { until };
                }
            }
            cluster::State::HangingUp { .. } => self.cluster.go_on_hanging_up(now, close_wait),
            cluster::State::Closing { until } if until <= now => self.cluster.gone(),
            cluster::State::Unstarted { until: Some(until) } if until <= now => self.cluster.gone(),
            _ => {}
        }
    }

    fn idle(&self) -> Option<Due> {
        Due::new(self.browser.typed_at, self.limits.idle_timeout?, self.limits.warning)
    }

    fn lifetime(&self) -> Option<Due> {
        Due::new(Time::ZERO, self.limits.max_session?, self.limits.warning)
    }

    /// Takes note of who is read and who is waited for. Everything that may change that ends with
    /// this.
    pub(super) fn settle(&mut self, now: Time) {
        let (browser_open, cluster_open) = (
            self.browser.state == browser::State::Open,
            self.cluster.state == cluster::State::Open,
        );
        let reads_browser = self.wants_browser();
        self.browser.settle(reads_browser, self.limits.ack_window, now);
        let reads_cluster = self.wants_cluster();
        let quick = self.cluster.is_clear() && !self.cluster.is_starved();
        self.cluster.pulse.settle(reads_cluster && quick, now);
        let paused = &mut self.traffic.browser_paused_us;
        note_pause(&mut self.browser_paused_at, browser_open && !reads_browser, paused, now);
        let paused = &mut self.traffic.cluster_paused_us;
        note_pause(&mut self.cluster_paused_at, cluster_open && !reads_cluster, paused, now);
    }
}

/// What a user is told that is no ending.
#[derive(Clone, Copy)]
pub(super) enum Notice {
    Idle,
    Lifetime,
    Drain,
    NoEof,
}

/// An end that can be foreseen, and is told beforehand.
struct Due {
    limit: Time,
    warn: Time,
    end: Time,
}

impl Due {
    fn new(since: Time, limit: Time, warning: Time) -> Option<Self> {
        // What is beyond the clock's end never comes.
        let end = since.checked_add(limit)?;
        Some(Self { limit, warn: end.saturating_sub(warning.min(limit / 2)), end })
    }

    fn next(&self, warned: bool) -> Time {
        if warned { self.end } else { self.warn }
    }
}

fn note_pause(since: &mut Option<Time>, is_paused: bool, total: &mut u64, now: Time) {
    if is_paused {
        since.get_or_insert(now);
    } else {
        add_pause(since.take(), total, now);
    }
}

/// Adds a pause that began then, in microseconds.
pub(super) fn add_pause(since: Option<Time>, total: &mut u64, now: Time) {
    let micros = since.map_or(0, |since| now.saturating_sub(since).as_micros());
    *total = total.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX));
}

/// A time as people say it.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    match seconds {
        7200.. if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        120.. if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
