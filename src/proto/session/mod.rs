//! The session machine: bytes of either leg in, bytes for either leg out, exactly one ending.
//!
//! Whoever drives it reads where [`Session::wants_browser`] and [`Session::wants_cluster`] say so,
//! hands over what was read, writes what [`Session::to_browser`] and [`Session::to_cluster`] hold,
//! and calls [`Session::on_timeout`] when [`Session::deadline`] has come. Backpressure is nothing
//! more than the two questions: a leg with unsent bytes makes the other one unwanted, and itself
//! only if they answer its own pings and questions.
//! `proto-notes/session.md` has the states and what moves them. What it must never know: sockets,
//! TLS, HTTP, what time it is (a [`Time`] is handed in).

mod browser;
mod cluster;
mod options;
mod outcome;

use std::fmt;
use std::time::Duration;

use super::channel::{self, STATUS_MAX, Status, Subprotocol};
use super::ending::{Ending, Kind};
use super::frame::{Event, Kind as MessageKind};
use super::message::{Dialect, FromBrowser, ToBrowser};

pub use self::options::{Limits, Options};
use self::outcome::{End, ending_of, ending_of_v1, lost, process_of};
pub use self::outcome::{Outcome, Process, Traffic};

/// Time since the session began.
pub type Time = Duration;

/// Messages that are not understood end the session at this number: a page that keeps sending
/// them is broken or is not one of ours.
const MISUNDERSTOOD_MAX: u8 = 10;

/// One session. See the module's text.
pub struct Session {
    browser: browser::Leg,
    cluster: cluster::Leg,
    limits: Limits,
    ending: Option<Ending>,
    process: Process,
    traffic: Traffic,
}

impl fmt::Debug for Session {
    /// Where the legs stand. What is in them is the user's, and is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (browser, cluster) = (self.browser.state, self.cluster.state);
        write!(f, "Session(browser {browser:?}, cluster {cluster:?}, ending {:?})", self.ending)
    }
}

impl Session {
    /// A session whose two connections are open. With a terminal its size is queued for the
    /// cluster, and what the browser wants to hear first for the browser.
    pub fn new(options: Options) -> Self {
        let Options { dialect, subprotocol, place, stdin, size, mask_seed, limits } = options;
        let frame_max = limits.cluster_frame_max;
        let cluster = cluster::Leg::new(subprotocol, place.tty, stdin, frame_max, mask_seed);
        let mut session = Self::of(dialect, cluster, limits);
        session.browser.tell(&ToBrowser::Ready(&place));
        if let Some(size) = size {
            session.cluster.resize(size);
            session.cluster.send_size(Time::ZERO, true);
        }
        session
    }

    /// A session that ended before there was a cluster's leg: it only says its last words.
    pub fn refused(dialect: Dialect, limits: Limits, ending: Ending) -> Self {
        let cluster = cluster::Leg::new(Subprotocol::V5, false, false, 0, 0);
        let mut session = Self::of(dialect, cluster, limits);
        session.cluster.gone();
        session.end(ending, Time::ZERO);
        session
    }

    fn of(dialect: Dialect, cluster: cluster::Leg, limits: Limits) -> Self {
        Self {
            browser: browser::Leg::new(dialect, limits.message_max, limits.slow_browser),
            cluster,
            limits,
            ending: None,
            process: Process::Unknown,
            traffic: Traffic::default(),
        }
    }

    /// Takes bytes that came from the browser. They are unmasked in place.
    pub fn on_browser(&mut self, mut bytes: &mut [u8], now: Time) {
        self.browser.mark_progress(now);
        loop {
            match self.browser.parser.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(event)) => self.on_browser_event(event, now),
                Err(error) => {
                    let ending = Ending::violation(error.close_code(), error.to_string());
                    self.end(ending, now);
                }
            }
        }
        self.cluster.finish();
        self.cluster.send_size(now, false);
        self.browser.finish();
    }

    /// The browser's connection ended: it will send nothing more, and takes nothing more either.
    pub fn on_browser_end(&mut self, now: Time) {
        self.end(Ending::new(Kind::BrowserLost, "the connection to the browser was lost"), now);
        self.browser.gone();
    }

    /// Takes bytes that came from the cluster.
    pub fn on_cluster(&mut self, mut bytes: &mut [u8], now: Time) {
        self.browser.mark_progress(now);
        loop {
            match self.cluster.parser.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(event)) => self.on_cluster_event(event, now),
                Err(error) => self.cluster_broke(format!("the cluster's {error}"), now),
            }
        }
        self.browser.finish();
        self.cluster.finish();
    }

    /// The cluster's connection ended, cleanly or not.
    pub fn on_cluster_end(&mut self, now: Time) {
        self.conclude(End::Eof, now);
    }

    /// The cluster's socket takes nothing more. That is not the end: the status may have come
    /// before it, and is still to be read.
    pub fn on_cluster_deaf(&mut self) {
        self.cluster.deaf();
    }

    /// Somebody outside wants the session to end. A browser that takes nothing is waited for no
    /// longer than the process, plus the time that a close may take.
    pub fn on_stop(&mut self, ending: Ending, now: Time) {
        self.end(ending, now);
        self.browser.hurry(self.limits.hangup_grace.saturating_add(self.limits.close_wait), now);
    }

    /// Whether bytes of the browser's can be taken.
    pub fn wants_browser(&self) -> bool {
        match self.browser.state {
            // A process may never read what was typed; a close behind it should be seen all the
            // same, so this leg is read while the outbox has room. Output that the browser does
            // not take is no reason: an interrupt must get past it.
            browser::State::Open => {
                self.cluster.outbox.len() < self.limits.outbox
                    && self.browser.outbox.answers() < self.limits.outbox
            }
            browser::State::Closing | browser::State::Lingering { .. } => true,
            browser::State::Gone => false,
        }
    }

    /// Whether bytes of the cluster's can be taken.
    pub fn wants_cluster(&self) -> bool {
        // Input that the process does not read is no reason: it may first want its output taken.
        let answers_fit = self.cluster.outbox.answers() < self.limits.outbox;
        match self.cluster.state {
            cluster::State::Open => {
                self.browser.is_clear()
                    && answers_fit
                    && self.browser.unacked() <= self.limits.ack_window
            }
            // All that is left to come is the close. A page that acknowledges late, or never
            // again, shall hear the exit all the same.
            cluster::State::StatusSeen { .. } => self.browser.is_clear(),
            // Output is discarded now, so nobody needs to be waited for.
            cluster::State::HangingUp { .. } => answers_fit,
            cluster::State::Closing { .. } | cluster::State::Gone => false,
        }
    }

    /// Whether the browser's connection is not needed any more.
    pub fn is_browser_over(&self) -> bool {
        self.browser.state == browser::State::Gone
    }

    /// Whether the cluster's connection is not needed any more.
    pub fn is_cluster_over(&self) -> bool {
        self.cluster.state == cluster::State::Gone
    }

    /// Bytes for the browser.
    pub fn to_browser(&self) -> &[u8] {
        self.browser.outbox.pending()
    }

    /// Takes note that the browser's side took the first `n` of them. They are on their way when
    /// [`Session::browser_flushed`] says so: TLS may hold them back.
    pub fn browser_took(&mut self, n: usize, now: Time) {
        self.browser.outbox.advance(n);
        self.browser.unflushed = true;
        self.browser.progress_at = now;
    }

    /// Takes note that nothing that was taken is held back any more.
    pub fn browser_flushed(&mut self, now: Time) {
        self.browser.unflushed = false;
        if self.browser.outbox.is_empty() && self.browser.state == browser::State::Closing {
            // After the browser's own close there is nothing left to wait for.
            if self.browser.closed {
                self.browser.gone();
            } else {
                let until = now.saturating_add(self.limits.close_wait);
                self.browser.state = browser::State::Lingering { until };
            }
        }
    }

    /// Bytes for the cluster.
    pub fn to_cluster(&self) -> &[u8] {
        self.cluster.outbox.pending()
    }

    /// Takes note that the cluster's side took the first `n` of them; see
    /// [`Session::cluster_flushed`].
    pub fn cluster_took(&mut self, n: usize) {
        self.cluster.outbox.advance(n);
    }

    /// Takes note that nothing that was taken is held back any more.
    pub fn cluster_flushed(&mut self) {
        if self.cluster.outbox.is_empty()
            && matches!(self.cluster.state, cluster::State::Closing { .. })
        {
            self.cluster.gone();
        }
    }

    /// When [`Session::on_timeout`] is to be called, if nothing else happens.
    pub fn deadline(&self) -> Option<Time> {
        let browser = match self.browser.state {
            browser::State::Lingering { until } => Some(until),
            browser::State::Open | browser::State::Closing => self.browser.slow_at(),
            browser::State::Gone => None,
        };
        let cluster = match self.cluster.state {
            cluster::State::HangingUp { until, key } => {
                Some(key.map_or(until, |(at, _)| at.min(until)))
            }
            cluster::State::StatusSeen { until } | cluster::State::Closing { until } => Some(until),
            cluster::State::Open | cluster::State::Gone => None,
        };
        let message = self.browser.message_until(self.limits.message_time);
        [browser, cluster, message, self.cluster.size_due()].into_iter().flatten().min()
    }

    /// Does whatever is due.
    pub fn on_timeout(&mut self, now: Time) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        self.cluster.send_size(now, false);
        match self.browser.state {
            browser::State::Lingering { until } if until <= now => self.browser.gone(),
            browser::State::Open if due(self.browser.slow_at()) => {
                self.end(Ending::new(Kind::SlowBrowser, "the browser took no output"), now);
                self.browser.hurry(self.limits.close_wait, now);
            }
            browser::State::Closing if due(self.browser.slow_at()) => self.browser.gone(),
            _ => {}
        }
        if due(self.browser.message_until(self.limits.message_time)) {
            if self.wants_browser() {
                let ending = Ending::new(Kind::ProtocolError, "a message was never finished");
                self.end(ending, now);
            } else {
                // It may be us who keep it waiting.
                self.browser.message_since = Some(now);
            }
        }
        match self.cluster.state {
            cluster::State::StatusSeen { until } if until <= now => {
                if self.wants_cluster() {
                    self.conclude(End::Eof, now);
                } else {
                    // The cluster's close may be waiting behind output that nobody takes.
                    self.cluster.state = cluster::State::StatusSeen {
                        until: now.saturating_add(self.limits.close_wait),
                    };
                }
            }
            cluster::State::HangingUp { .. } => {
                self.cluster.go_on_hanging_up(now, self.limits.close_wait);
            }
            cluster::State::Closing { until } if until <= now => self.cluster.gone(),
            _ => {}
        }
    }

    /// The outcome, once nothing more will come out.
    pub fn outcome(&self) -> Option<Outcome> {
        let over = self.browser.state == browser::State::Gone
            && self.cluster.state == cluster::State::Gone;
        let ending = self.ending.as_ref().filter(|_| over)?;
        let traffic = Traffic { output: self.browser.told, ..self.traffic };
        Some(Outcome { ending: ending.clone(), process: self.process, traffic })
    }

    /// Lends the thread's two buffers for a turn; [`Session::reclaim`] must follow before the
    /// turn ends. In between, the session allocates nothing for bytes that pass through.
    pub fn lend(&mut self, for_browser: &mut Vec<u8>, for_cluster: &mut Vec<u8>) {
        self.browser.outbox.lend(for_browser);
        self.cluster.outbox.lend(for_cluster);
    }

    /// Gives the buffers back and keeps a copy of what the peers did not take.
    pub fn reclaim(&mut self, for_browser: &mut Vec<u8>, for_cluster: &mut Vec<u8>) {
        self.browser.outbox.reclaim(for_browser);
        self.cluster.outbox.reclaim(for_cluster);
    }

    fn on_browser_event(&mut self, event: Event<'_>, now: Time) {
        match event {
            Event::Close(_) => {
                self.browser.closed = true;
                self.end(Ending::new(Kind::BrowserClosed, "the browser closed"), now);
                self.browser.hurry(self.limits.close_wait, now);
                if matches!(self.browser.state, browser::State::Lingering { .. }) {
                    self.browser.gone();
                }
            }
            Event::Ping(payload) => self.browser.pong(payload.as_slice()),
            _ if self.browser.state != browser::State::Open => {}
            Event::Pong(_) => {}
            Event::Data { kind: MessageKind::Binary, payload, .. } => self.input(payload, now),
            Event::Data { kind: MessageKind::Text, payload, end } => {
                if end && self.browser.message.is_empty() {
                    self.on_text(payload, now);
                    return;
                }
                self.browser.message.extend_from_slice(payload);
                self.browser.message_since.get_or_insert(now);
                if end {
                    let message = std::mem::take(&mut self.browser.message);
                    self.browser.message_since = None;
                    self.on_text(&message, now);
                }
            }
        }
    }

    fn on_text(&mut self, text: &[u8], now: Time) {
        match FromBrowser::parse(text) {
            Ok(FromBrowser::Input(bytes)) => self.input(&bytes, now),
            Ok(FromBrowser::Resize(Some(size))) => self.cluster.resize(size),
            Ok(FromBrowser::Eof) => self.on_eof(),
            // A page cannot have consumed more than it was told, nor take an ack back.
            Ok(FromBrowser::Ack(bytes)) => {
                let before = self.browser.acked.unwrap_or(0);
                self.browser.acked = Some(bytes.clamp(before, self.browser.told));
            }
            Ok(FromBrowser::Ping(id)) => self.browser.tell(&ToBrowser::Pong { id }),
            Ok(FromBrowser::Unknown) => self.traffic.ignored += 1,
            Ok(FromBrowser::Empty | FromBrowser::Resize(None)) => {}
            Err(message) => {
                self.browser.misunderstood += 1;
                if self.browser.misunderstood < MISUNDERSTOOD_MAX {
                    self.browser.tell(&ToBrowser::Error { message });
                } else {
                    self.end(Ending::new(Kind::ProtocolError, message), now);
                }
            }
        }
    }

    fn input(&mut self, bytes: &[u8], now: Time) {
        self.traffic.input += bytes.len() as u64;
        self.cluster.input(bytes, now);
    }

    fn on_eof(&mut self) {
        if self.cluster.can_close_input() {
            self.cluster.close_input();
        } else {
            let message = "eof needs a session without a terminal and a cluster that speaks v5";
            self.browser.tell(&ToBrowser::Error { message });
        }
    }

    fn on_cluster_event(&mut self, event: Event<'_>, now: Time) {
        match event {
            // It was given up in the middle of a read: what comes behind that is not believed.
            _ if self.cluster.state == cluster::State::Gone => {}
            Event::Close(code) => self.conclude(End::Close(code), now),
            Event::Ping(payload) => self.cluster.pong(payload.as_slice()),
            Event::Pong(_) => {}
            Event::Data { kind: MessageKind::Text, .. } => {
                self.cluster_broke("the cluster sent a text frame".to_owned(), now);
            }
            Event::Data { kind: MessageKind::Binary, payload, end } => {
                let mut payload = &*payload;
                let channel = self.cluster.channel.or_else(|| {
                    let (&channel, rest) = payload.split_first()?;
                    payload = rest;
                    Some(channel)
                });
                self.cluster.channel = channel.filter(|_| !end);
                self.on_channel(channel, payload, end, now);
            }
        }
    }

    /// A run of bytes on a channel; an empty message has none, and means nothing.
    fn on_channel(&mut self, channel: Option<u8>, bytes: &[u8], end: bool, now: Time) {
        match channel {
            Some(channel @ (channel::STDOUT | channel::STDERR)) => {
                if self.ending.is_none() {
                    self.browser.output(channel, bytes);
                }
            }
            Some(channel::STATUS) => self.on_status(bytes, end, now),
            Some(_) if end => self.traffic.ignored += 1,
            Some(_) | None => {}
        }
    }

    /// Status text is collected, because a server may cut it; the first whole one counts, and none
    /// once the leg is closing. On v1 it is not JSON and has no end but the connection's.
    fn on_status(&mut self, bytes: &[u8], end: bool, now: Time) {
        let room = STATUS_MAX - self.cluster.status_text.len().min(STATUS_MAX);
        let awaited =
            matches!(self.cluster.state, cluster::State::Open | cluster::State::HangingUp { .. });
        if !awaited || bytes.is_empty() && self.cluster.status_text.is_empty() {
            return;
        }
        self.cluster.status_text.extend_from_slice(&bytes[..room.min(bytes.len())]);
        if self.cluster.subprotocol == Subprotocol::V1 || !end {
            return;
        }
        if let Some(status) = Status::parse(&self.cluster.status_text) {
            let until = now.saturating_add(self.limits.close_wait);
            self.process = process_of(&status);
            if self.ending.is_some() {
                // The process answered the hang-up.
                self.cluster.close(now, self.limits.close_wait);
            } else {
                self.cluster.status_seen(status, until);
            }
        }
    }

    fn cluster_broke(&mut self, message: String, now: Time) {
        self.end(Ending::new(Kind::ClusterProtocol, message), now);
        self.cluster.gone();
    }

    /// The cluster will say nothing more: what it said decides.
    fn conclude(&mut self, end: End, now: Time) {
        let ending = match self.cluster.status.take() {
            Some(status) => ending_of(status),
            None if self.cluster.subprotocol == Subprotocol::V1 => self.conclude_v1(end),
            None if !self.cluster.status_text.is_empty() => ending_of(Status::Malformed),
            None => Ending::new(Kind::ClusterLost, lost(end)),
        };
        self.cluster.gone();
        self.end(ending, now);
    }

    /// v1 has no exit codes: text on the status channel is a failure, and a normal close without
    /// it is most likely, but not known to be, success.
    fn conclude_v1(&mut self, end: End) -> Ending {
        let text = String::from_utf8_lossy(&self.cluster.status_text).into_owned();
        match end {
            _ if !text.is_empty() => {
                self.process = Process::Ended(None);
                ending_of_v1(text)
            }
            End::Close(Some(1000)) => {
                self.process = Process::Ended(None);
                Ending::new(Kind::Exit, "ended; this cluster does not tell exit codes")
            }
            _ => Ending::new(Kind::ClusterLost, lost(end)),
        }
    }

    /// The first reason to end is the ending; later ones are not told. A status that was read is
    /// earlier than anything that comes while the cluster's close is awaited.
    fn end(&mut self, ending: Ending, now: Time) {
        if self.ending.is_some() {
            return;
        }
        self.browser.mark_progress(now);
        let ending = self.cluster.status.take().map_or(ending, ending_of);
        self.browser.last_words(&ending);
        if matches!(self.cluster.state, cluster::State::StatusSeen { .. }) {
            self.cluster.gone();
        }
        self.cluster.hang_up(now, self.limits.hangup_grace, self.limits.close_wait);
        self.ending = Some(ending);
    }
}
