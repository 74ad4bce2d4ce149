//! What was typed before anybody is known to have read it.

use super::super::ending::Ending;
use super::Time;

/// How long a copy of what is typed is kept while nothing comes out of an exec: the contract's. A
/// cluster that takes longer to find out that a program does not exist is rare, and people who
/// have typed into nothing for so long have stopped.
const HOLD: Time = Time::from_secs(2);

/// A copy of the input of an exec that may turn out never to have started, so that the next one
/// gets it whole.
#[derive(Default)]
pub(super) struct Held {
    pub(super) input: Vec<u8>,
    /// Whether the end of input was said, too.
    pub(super) eof: bool,
    /// Why the exec was never started, until somebody asks.
    pub(super) why: Option<Ending>,
    /// The same, and in which words the cluster said it.
    pub(super) said: Option<Said>,
    /// When the copy is given up.
    until: Time,
}

/// Why an exec was never started.
pub(super) struct Said {
    pub(super) why: Ending,
    /// What stood on the status channel.
    pub(super) status: Vec<u8>,
}

impl Held {
    pub(super) fn new(now: Time) -> Self {
        Self { until: now.saturating_add(HOLD), ..Self::default() }
    }

    /// The next exec begins.
    pub(super) fn again(&mut self, now: Time) {
        self.until = now.saturating_add(HOLD);
        self.said = None;
    }

    /// When the copy is given up; never while there is nothing in it.
    pub(super) fn until(&self) -> Option<Time> {
        (!self.input.is_empty()).then_some(self.until)
    }

    /// Takes a copy of what is sent. Not if it would become more than `max`, nor late: then
    /// another exec would miss something.
    pub(super) fn push(&mut self, bytes: &[u8], max: usize, now: Time) -> bool {
        let fits = now < self.until && self.input.len() + bytes.len() <= max;
        if fits {
            self.input.extend_from_slice(bytes);
        }
        fits
    }
}
