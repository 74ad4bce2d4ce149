//! What the cluster says, and what the session makes of it.

use super::super::channel::{self, STATUS_MAX, Status, Subprotocol};
use super::super::ending::{Ending, Kind};
use super::super::frame::{Event, Kind as MessageKind};
use super::held::Said;
use super::outcome::{End, ending_of, ending_of_v1, lost, process_of};
use super::{Process, Session, Time, cluster};

impl Session {
    pub(super) fn on_cluster_event(&mut self, event: Event<'_>, now: Time) {
        match event {
            // It was given up in the middle of a read: what comes behind that is not believed.
            _ if self.is_cluster_over() => {}
            Event::Close(code) => self.conclude(End::Close(code), now),
            Event::Ping(payload) => self.cluster.pong(payload.as_slice()),
            Event::Pong(payload) => self.cluster.on_pong(payload.as_slice()),
            Event::Data { kind: MessageKind::Text, .. } => {
                self.cluster_broke("the cluster sent a text frame".to_owned(), now);
            }
            Event::Data { kind: MessageKind::Binary, payload, end } => {
                self.traffic.cluster_messages += u64::from(end);
                self.cluster.data_at = now;
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
                if self.ending.is_some() {
                    return;
                }
                if !bytes.is_empty() {
                    // Somebody is there and reads.
                    self.held = None;
                    self.browser.output(channel, bytes);
                } else if end {
                    self.browser.stream_is_there(channel);
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
        if self.cluster.exec.subprotocol == Subprotocol::V1 || !end {
            return;
        }
        if let Some(status) = Status::parse(&self.cluster.status_text) {
            let until = now.saturating_add(self.limits.close_wait);
            self.process = process_of(&status);
            if self.ending.is_some() {
                // The process answered the hang-up.
                self.cluster.close(now, self.limits.close_wait);
            } else if self.is_no_start(&status) {
                self.try_another(ending_of(status));
            } else {
                if status != Status::Malformed {
                    self.browser.status(self.cluster.exec.subprotocol, &self.cluster.status_text);
                }
                self.cluster.status_seen(status, until);
            }
        }
    }

    /// Whether a status says that the program was not there to be started, and another exec can
    /// be tried: in words, or as some runtimes do it by a code. Without a terminal a script that
    /// was typed may have ended with that code, silently, and must not run twice; a terminal
    /// echoes what is typed, and so tells that there was somebody.
    fn is_no_start(&self, status: &Status) -> bool {
        let nothing_sent = self.held.as_ref().is_some_and(|held| held.input.is_empty());
        let no_start = match status {
            Status::Failed(_) => true,
            Status::Exited(126 | 127) => self.cluster.exec.tty || nothing_sent,
            _ => false,
        };
        no_start && self.may_be_unstarted()
    }

    fn try_another(&mut self, why: Ending) {
        if let Some(held) = &mut self.held {
            let status = std::mem::take(&mut self.cluster.status_text);
            held.said = Some(Said { why: why.clone(), status });
            held.why = Some(why);
        }
        self.cluster.unstarted();
    }

    pub(super) fn cluster_broke(&mut self, message: String, now: Time) {
        if matches!(self.cluster.state, cluster::State::Unstarted { .. }) {
            return;
        }
        self.end(Ending::new(Kind::ClusterProtocol, message), now);
        self.cluster.gone();
    }

    /// The cluster will say nothing more: what it said decides.
    pub(super) fn conclude(&mut self, end: End, now: Time) {
        let ending = match self.cluster.status.take() {
            Some(status) => self.ending_of(*status),
            None if self.cluster.exec.subprotocol == Subprotocol::V1 => self.conclude_v1(end),
            None if !self.cluster.status_text.is_empty() => ending_of(Status::Malformed),
            None => Ending::new(Kind::ClusterLost, lost(end)),
        };
        // On v1 what was not started is told in words like what failed.
        let is_told = self.cluster.exec.subprotocol == Subprotocol::V1
            && !matches!(ending.kind, Kind::Exit | Kind::ClusterLost);
        if is_told && self.ending.is_none() && self.may_be_unstarted() {
            self.try_another(ending);
            return;
        }
        if self.cluster.exec.subprotocol == Subprotocol::V1 && !self.cluster.status_text.is_empty()
        {
            self.browser.status(Subprotocol::V1, &self.cluster.status_text);
        }
        self.left |= self.ending.is_none()
            && matches!(ending.kind, Kind::ClusterLost | Kind::ClusterProtocol);
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
}
