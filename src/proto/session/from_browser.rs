//! What the browser says, and what the session makes of it.

use super::super::ending::{Ending, Kind};
use super::super::frame::{Event, Kind as MessageKind};
use super::super::message::{Dialect, FromBrowser, ToBrowser};
use super::browser::{Consumed, Unfinished};
use super::timers::Notice;
use super::{NO_EOF, Session, Time, browser, cluster};

/// Messages that are not understood end the session at this number: a page that keeps sending
/// them is broken or is not one of ours.
const MISUNDERSTOOD_MAX: u8 = 10;

impl Session {
    pub(super) fn on_browser_event(&mut self, event: Event<'_>, now: Time) {
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
            Event::Data { kind, payload, end } => {
                self.traffic.browser_messages += u64::from(end);
                match (self.browser.dialect, kind) {
                    (Dialect::Seed | Dialect::V1, MessageKind::Binary) | (Dialect::Raw, _) => {
                        self.input(payload, now);
                    }
                    (Dialect::Seed | Dialect::V1 | Dialect::Base64V4 | Dialect::Base64V1, _) => {
                        self.collect(payload, end, now);
                    }
                    (dialect, _) => self.on_tagged(dialect.input_tag(), payload, end, now),
                }
            }
        }
    }

    /// A run of a message that says with its first byte what it is. Input is passed on as it comes,
    /// however long the message; what else there is means something only as a whole.
    fn on_tagged(&mut self, input: u8, payload: &[u8], end: bool, now: Time) {
        let is_first = !self.browser.in_input && self.browser.unfinished.is_none();
        match payload {
            bytes if self.browser.in_input => self.input(bytes, now),
            [tag, bytes @ ..] if is_first && *tag == input => self.input(bytes, now),
            _ => return self.collect(payload, end, now),
        }
        self.browser.in_input = !end;
    }

    /// A run of a message that means something as a whole.
    fn collect(&mut self, payload: &[u8], end: bool, now: Time) {
        if end && self.browser.unfinished.is_none() {
            self.on_message(payload, now);
            return;
        }
        let begun = || Box::new(Unfinished { bytes: Vec::new(), since: now });
        self.browser.unfinished.get_or_insert_with(begun).bytes.extend_from_slice(payload);
        if end && let Some(message) = self.browser.unfinished.take() {
            self.on_message(&message.bytes, now);
        }
    }

    fn on_message(&mut self, message: &[u8], now: Time) {
        match self.browser.dialect.read(message) {
            Ok(FromBrowser::Input(bytes)) => self.input(&bytes, now),
            Ok(FromBrowser::Resize(Some(size))) => self.cluster.resize(size),
            Ok(FromBrowser::Eof) => self.on_eof(now),
            Ok(FromBrowser::Ack(bytes)) => self.browser.ack(bytes, now),
            Ok(FromBrowser::Pause) => self.browser.consumed = Consumed::Paused,
            Ok(FromBrowser::Resume) => self.browser.resume(now),
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
        if bytes.is_empty() || !self.cluster.exec.stdin {
            return;
        }
        self.browser.typed_at = now;
        self.idle_warned = false;
        if let Some(held) = self.held.as_mut().filter(|_| self.cluster.takes_input) {
            if matches!(self.cluster.state, cluster::State::Unstarted { .. }) {
                // Only here; and the browser is not read when it is much.
                held.input.extend_from_slice(bytes);
            } else if !held.push(bytes, self.limits.outbox, now) {
                self.held = None;
            }
        }
        self.cluster.input(bytes, now);
    }

    fn on_eof(&mut self, now: Time) {
        if self.cluster.can_close_input() {
            self.cluster.close_input();
            if let Some(held) = &mut self.held {
                held.eof = true;
            }
        } else {
            self.no_eof(now);
        }
    }

    /// The end of the input cannot be passed on. Who sent it through kubectl waits for what comes of
    /// it, perhaps for ever, and shall know why.
    pub(super) fn no_eof(&mut self, now: Time) {
        if self.browser.dialect == Dialect::KubeV5 && self.cluster.awaits_end_of_input() {
            self.cluster.takes_input = false;
            self.notice(Notice::NoEof, now);
        } else {
            self.browser.tell(&ToBrowser::Error { message: NO_EOF });
        }
    }
}
