//! Bytes on their way to one peer.

/// The largest buffer that goes back to the thread: what one turn of ordinary traffic needs.
const SCRATCH_KEEP: usize = 256 * 1024;

/// Moving fewer bytes than this to the front is not worth it.
const COMPACT_MIN: usize = 64 * 1024;

/// Bytes for one peer, in the order in which they leave.
///
/// While a turn lasts it works in a buffer lent by the thread; afterwards it owns heap only for
/// what the peer did not take, and nothing when that is nothing.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    lent: bool,
    answers: usize,
}

impl Outbox {
    /// Takes the thread's buffer for this turn, unless a rest of an earlier one is still here.
    pub(super) fn lend(&mut self, scratch: &mut Vec<u8>) {
        if self.bytes.capacity() == 0 {
            std::mem::swap(&mut self.bytes, scratch);
            self.lent = true;
        }
    }

    /// Gives the thread's buffer back and keeps a copy of what is left in it.
    pub(super) fn reclaim(&mut self, scratch: &mut Vec<u8>) {
        if self.lent {
            let rest = self.pending().to_vec();
            std::mem::swap(&mut self.bytes, scratch);
            scratch.clear();
            scratch.shrink_to(SCRATCH_KEEP);
            *self = Self { bytes: rest, sent: 0, lent: false, answers: self.answers };
        } else if self.is_empty() {
            *self = Self::default();
        }
    }

    /// What has not been sent.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes note that the peer took the first `n` pending bytes. What was sent is forgotten when
    /// it is more than what is left, so that a peer that is always a little behind costs little.
    pub(super) fn advance(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.bytes.len());
        if self.sent >= COMPACT_MIN.max(self.len()) || self.is_empty() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        if self.is_empty() {
            self.answers = 0;
        }
    }

    /// Where frames are appended.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes note that what was appended since the length was `before` answers the peer itself.
    pub(super) fn answered(&mut self, before: usize) {
        self.answers += self.len() - before;
    }

    /// The most that pending bytes can be answers to the peer itself. Only these are a reason not
    /// to read from it: what others have for the peer must not keep it from being heard.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what the peer will never take.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.answers = 0;
    }
}
