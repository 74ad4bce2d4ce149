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
mod from_browser;
mod from_cluster;
mod held;
mod options;
mod outcome;
mod pulse;
mod timers;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::browser::Streams;
use self::held::Held;
pub use self::options::{Leaving, Limits, Options};
use self::outcome::{End, ending_of};
pub use self::outcome::{Outcome, Process, Traffic};
use self::timers::Notice;
use super::channel::{Status, Subprotocol};
use super::ending::{Ending, Kind};
use super::message::Dialect;

/// Time since the session began.
pub type Time = Duration;

/// What stands on stderr for a program that says so where the cluster cannot be told.
const NO_EOF_ON_V4: &str =
    "the cluster does not speak v5, so the command is not told that its input is over";

/// What a browser is told that says `eof` where it means nothing.
const NO_EOF: &str = "eof needs a session without a terminal and a cluster that speaks v5";

/// One session. See the module's text.
pub struct Session {
    browser: browser::Leg,
    cluster: cluster::Leg,
    limits: Arc<Limits>,
    ending: Option<Box<Ending>>,
    /// Whether the ending came before the process' own.
    left: bool,
    process: Process,
    traffic: Traffic,
    /// What was typed, while nothing has come out of the exec and there is another one to try.
    held: Option<Box<Held>>,
    /// An ending that the user was told of, and when it comes.
    stopping: Option<Box<(Time, Ending)>>,
    idle_warned: bool,
    lifetime_warned: bool,
    /// What could not be told in the middle of a character; of two the newer.
    late: Option<Notice>,
    /// Since when a leg is not read, while it is not.
    browser_paused_at: Option<Time>,
    cluster_paused_at: Option<Time>,
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
        let exec = cluster::Exec {
            subprotocol: options.subprotocol,
            tty: options.place.tty,
            stdin: options.stdin,
            attached: options.attached,
            leaving: if options.attached { Leaving::Nothing } else { options.leaving },
        };
        let cluster = cluster::Leg::new(exec, options.mask_seed, &options.limits, Time::ZERO);
        let mut session = Self::of(options.dialect, cluster, options.limits);
        session.held = options.again.then(|| Box::new(Held::new(Time::ZERO)));
        session.browser.streams = match (options.place.tty, options.stderr) {
            (true, _) => Streams::Terminal,
            (false, false) => Streams::Stdout,
            (false, true) => Streams::StdoutAndStderr,
        };
        if !options.stdin {
            session.browser.typed_at = Time::MAX;
        }
        session.browser.greet(&options.place);
        if let Some(size) = options.size {
            // What was drawn before somebody attached is drawn again for a size that is new, so it
            // is told a wrong one first, as kubectl does it (`k8s.io/kubectl/pkg/cmd/attach`).
            if options.attached {
                session.cluster.resize(size.other());
                session.cluster.send_size(Time::ZERO, true);
            }
            session.cluster.resize(size);
            session.cluster.send_size(Time::ZERO, !options.attached);
        }
        session
    }

    /// A session that ended before there was a cluster's leg: it only says its last words.
    pub fn refused(dialect: Dialect, limits: Arc<Limits>, ending: Ending) -> Self {
        let cluster = cluster::Leg::new(cluster::Exec::NONE, 0, &limits, Time::ZERO);
        let mut session = Self::of(dialect, cluster, limits);
        session.cluster.gone();
        session.end(ending, Time::ZERO);
        session
    }

    fn of(dialect: Dialect, cluster: cluster::Leg, limits: Arc<Limits>) -> Self {
        Self {
            browser: browser::Leg::new(dialect, &limits),
            cluster,
            limits,
            ending: None,
            left: false,
            process: Process::Unknown,
            traffic: Traffic::default(),
            held: None,
            stopping: None,
            idle_warned: false,
            lifetime_warned: false,
            late: None,
            browser_paused_at: None,
            cluster_paused_at: None,
        }
    }

    /// Takes bytes that came from the browser. They are unmasked in place.
    pub fn on_browser(&mut self, mut bytes: &mut [u8], now: Time) {
        self.browser.pulse.heard(now);
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
        self.settle(now);
    }

    /// The browser's connection ended: it will send nothing more, and takes nothing more either.
    pub fn on_browser_end(&mut self, now: Time) {
        self.end(Ending::new(Kind::BrowserLost, "the connection to the browser was lost"), now);
        self.browser.gone();
    }

    /// Takes bytes that came from the cluster.
    pub fn on_cluster(&mut self, mut bytes: &mut [u8], now: Time) {
        self.cluster.pulse.heard(now);
        self.browser.mark_progress(now);
        loop {
            match self.cluster.parser.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(event)) => self.on_cluster_event(event, now),
                Err(error) => {
                    self.cluster_broke(format!("the cluster broke the protocol: {error}"), now);
                }
            }
        }
        self.browser.finish();
        if let Some(late) = self.late {
            self.notice(late, now);
        }
        self.cluster.finish();
        self.settle(now);
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
    /// longer than the process, plus the time that a close may take. Before a drain the user is
    /// told, and has [`Limits::drain_notice`].
    pub fn on_stop(&mut self, ending: Ending, now: Time) {
        let notice = self.limits.drain_notice;
        let is_drain = ending.kind == Kind::Drain;
        if is_drain && self.ending.is_none() && self.stopping.is_none() && !notice.is_zero() {
            self.stopping = Some(Box::new((now.saturating_add(notice), ending)));
            self.notice(Notice::Drain, now);
        } else {
            self.end_soon(ending, now);
        }
        self.settle(now);
    }

    /// Why nothing was started, once, if that is so and another exec could be tried: the input is
    /// still here. Either [`Session::on_another`] or [`Session::on_no_other`] must follow.
    pub fn unstarted(&mut self) -> Option<Ending> {
        self.held.as_mut().and_then(|held| held.why.take())
    }

    /// Whether it may still turn out that nothing was started.
    pub fn may_be_unstarted(&self) -> bool {
        self.held.is_some()
    }

    /// There is another connection to the cluster, and an exec that gets everything that was
    /// typed so far. Nothing was read of it yet.
    pub fn on_another(&mut self, subprotocol: Subprotocol, now: Time) {
        self.process = Process::Unknown;
        self.cluster.replace(subprotocol, &self.limits, now);
        if let Some(held) = &mut self.held {
            held.again(now);
            self.cluster.input(&held.input, now);
            if held.eof && self.cluster.can_close_input() {
                self.cluster.close_input();
            } else if held.eof {
                self.no_eof(now);
            }
        }
        self.cluster.finish();
        if self.ending.is_some() {
            // It was not wanted any more when it came.
            self.cluster.hang_up(now, self.limits.hangup_grace, self.limits.close_wait);
        }
        self.settle(now);
    }

    /// There is no other exec to try, and this is why.
    pub fn on_no_other(&mut self, ending: Ending, now: Time) {
        let said = self.held.take().and_then(|held| held.said);
        if let Some(said) = said.filter(|said| said.why == ending) {
            self.browser.status(self.cluster.exec.subprotocol, &said.status);
        }
        self.cluster.gone();
        self.end(ending, now);
        self.settle(now);
    }

    /// Whether bytes of the browser's can be taken.
    pub fn wants_browser(&self) -> bool {
        match self.browser.state {
            // A process may never read what was typed; a close behind it should be seen all the
            // same, so this leg is read while the outbox has room. Output that the browser does
            // not take is no reason: an interrupt must get past it.
            browser::State::Open => {
                let held = self.held.as_ref().map_or(0, |held| held.input.len());
                let is_between = matches!(self.cluster.state, cluster::State::Unstarted { .. });
                self.cluster.outbox.len() < self.limits.outbox
                    && self.browser.outbox.answers() < self.limits.outbox
                    && !(is_between && held >= self.limits.outbox)
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
                self.browser.is_clear() && answers_fit && !self.browser.is_behind
            }
            // All that is left to come is the close. A page that acknowledges late, or never
            // again, shall hear the exit all the same.
            cluster::State::StatusSeen { .. } => self.browser.is_clear(),
            // Output is discarded now, so nobody needs to be waited for.
            cluster::State::HangingUp { .. } => answers_fit,
            cluster::State::Unstarted { .. }
            | cluster::State::Closing { .. }
            | cluster::State::Gone => false,
        }
    }

    /// Whether the browser's connection is not needed any more.
    pub fn is_browser_over(&self) -> bool {
        self.browser.state == browser::State::Gone
    }

    /// Whether the cluster's connection is not needed any more.
    pub fn is_cluster_over(&self) -> bool {
        matches!(self.cluster.state, cluster::State::Unstarted { .. } | cluster::State::Gone)
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
        self.browser.took(now);
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
        self.settle(now);
    }

    /// Bytes for the cluster.
    pub fn to_cluster(&self) -> &[u8] {
        self.cluster.outbox.pending()
    }

    /// Takes note that the cluster's side took the first `n` of them; see
    /// [`Session::cluster_flushed`].
    pub fn cluster_took(&mut self, n: usize) {
        self.cluster.outbox.advance(n);
        self.cluster.unflushed = true;
    }

    /// Takes note that nothing that was taken is held back any more.
    pub fn cluster_flushed(&mut self, now: Time) {
        self.cluster.unflushed = false;
        if self.cluster.outbox.is_empty()
            && matches!(self.cluster.state, cluster::State::Closing { .. })
        {
            self.cluster.gone();
        }
        self.settle(now);
    }

    /// How much went through so far.
    pub fn traffic(&self, now: Time) -> Traffic {
        let mut traffic = Traffic { output: self.browser.told, ..self.traffic };
        timers::add_pause(self.browser_paused_at, &mut traffic.browser_paused_us, now);
        timers::add_pause(self.cluster_paused_at, &mut traffic.cluster_paused_us, now);
        traffic
    }

    /// The outcome, once nothing more will come out.
    pub fn outcome(&self) -> Option<Outcome> {
        let over = self.browser.state == browser::State::Gone
            && self.cluster.state == cluster::State::Gone;
        let ending = self.ending.as_ref().filter(|_| over)?;
        // Neither leg is open any more, so no pause is going on.
        let (process, left, traffic) = (self.process, self.left, self.traffic(Time::ZERO));
        Some(Outcome { ending: ending.as_ref().clone(), process, left, traffic })
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

    /// Ends the session, and waits for a slow browser no longer than for the process.
    fn end_soon(&mut self, ending: Ending, now: Time) {
        self.end(ending, now);
        self.browser.hurry(self.limits.hangup_grace.saturating_add(self.limits.close_wait), now);
    }

    /// The first reason to end is the ending; later ones are not told. A status that was read is
    /// earlier than anything that comes while the cluster's close is awaited.
    fn end(&mut self, ending: Ending, now: Time) {
        if self.ending.is_some() {
            return;
        }
        self.browser.mark_progress(now);
        self.stopping = None;
        let status = self.cluster.status.take();
        let is_running =
            matches!(self.cluster.state, cluster::State::Open | cluster::State::Unstarted { .. });
        self.left |= status.is_none() && is_running;
        let mut ending = status.map_or(ending, |status| self.ending_of(*status));
        self.browser.last_words(&mut ending);
        if matches!(self.cluster.state, cluster::State::StatusSeen { .. }) {
            self.cluster.gone();
        }
        self.cluster.hang_up(now, self.limits.hangup_grace, self.limits.close_wait);
        self.ending = Some(Box::new(ending));
    }

    /// What a status comes to. A process that was attached to has no exit code here: `Success`
    /// says that its streams ended (`k8s.io/cri-streaming/pkg/streaming/remotecommand/attach.go`).
    fn ending_of(&self, status: Status) -> Ending {
        match status {
            Status::Success if self.cluster.exec.attached => {
                Ending::new(Kind::Exit, "ended; a process that was attached to tells no exit code")
            }
            status => ending_of(status),
        }
    }
}
