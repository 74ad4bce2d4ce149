//! Whether a peer is still there: how long it has been silent, and when it is asked.

use super::Time;

/// The pulse of one peer.
///
/// Silence counts only while it means something: a leg that is not read cannot be heard, and a
/// peer that does not take what there is for it may be busy. Meanwhile the clock stands.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    silent_since: Time,
    /// Since when silence has not counted, while it does not.
    stopped_at: Option<Time>,
    /// When a ping was last sent, or could have been.
    asked_at: Time,
}

impl Pulse {
    pub(super) fn new(now: Time) -> Self {
        Self { silent_since: now, stopped_at: None, asked_at: now }
    }

    /// The peer said something, whatever it was.
    pub(super) fn heard(&mut self, now: Time) {
        self.silent_since = now;
        self.stopped_at = self.stopped_at.map(|_| now);
    }

    /// Says whether silence counts from now on.
    pub(super) fn settle(&mut self, counts: bool, now: Time) {
        if !counts {
            self.stopped_at.get_or_insert(now);
        } else if let Some(at) = self.stopped_at.take() {
            self.silent_since = self.silent_since.saturating_add(now.saturating_sub(at));
        }
    }

    /// When the peer is given up, if it stays silent; never while silence does not count.
    pub(super) fn dead_at(&self, dead_after: Time) -> Option<Time> {
        self.stopped_at.is_none().then(|| self.silent_since.saturating_add(dead_after))
    }

    /// When the peer is to be pinged, whatever it says.
    pub(super) fn ping_at(&self, every: Time) -> Time {
        self.asked_at.saturating_add(every)
    }

    /// When the peer is to be pinged if it stays silent.
    pub(super) fn question_at(&self, every: Time) -> Time {
        self.asked_at.max(self.silent_since).saturating_add(every)
    }

    pub(super) fn asked(&mut self, now: Time) {
        self.asked_at = now;
    }
}
