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
    /// When the next ping is due.
    ping_at: Time,
}

impl Pulse {
    pub(super) fn new(now: Time, every: Time) -> Self {
        Self { silent_since: now, stopped_at: None, ping_at: now.saturating_add(every) }
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

    pub(super) fn ping_at(&self) -> Time {
        self.ping_at
    }

    /// Whether a ping is due; if so, the next one is due in a while.
    pub(super) fn ping_due(&mut self, every: Time, now: Time) -> bool {
        let due = self.ping_at <= now;
        if due {
            self.ping_at = now.saturating_add(every);
        }
        due
    }
}
