//! How long nothing has moved: the timers that end a connection nobody uses.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A limit, and when something moved last.
pub(crate) struct Idle {
    limit: Option<Duration>,
    moved: Mutex<Instant>,
}

impl Idle {
    pub(crate) fn new(limit: Option<Duration>) -> Idle {
        Idle { limit, moved: Mutex::new(Instant::now()) }
    }

    /// Something moves: the time starts again, for who waits already too.
    pub(crate) fn moves(&self) {
        if self.limit.is_some() {
            *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    /// Waits until nothing has moved for as long as the limit says.
    pub(crate) async fn over(&self) {
        loop {
            let moved = *self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            // A limit beyond what a clock can show is none.
            let Some(due) = self.limit.and_then(|limit| moved.checked_add(limit)) else {
                return std::future::pending().await;
            };
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}
