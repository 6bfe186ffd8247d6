//! How long the messages of a batch may still be waited for.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// The deadline of a batch, and that of the whole connector once it is being closed.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    deadline: Instant,
    closing: watch::Receiver<Option<Instant>>,
}

impl Patience {
    /// For messages accepted now.
    pub(crate) fn from_now(max_duration: Duration, closing: watch::Receiver<Option<Instant>>) -> Self {
        let now = Instant::now();
        // A duration beyond what the clock can hold is no limit; a century is none either.
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        Self { deadline: now.checked_add(max_duration).unwrap_or(now + century), closing }
    }

    /// Waits, unless that would end after the deadline: then `false`, at once.
    pub(super) async fn wait(&mut self, duration: Duration) -> bool {
        let Some(end) = Instant::now().checked_add(duration) else {
            return false;
        };
        if end > self.deadline {
            return false;
        }
        loop {
            // A close may begin during the wait, and then no wait beyond its end makes sense.
            if self.closing.borrow_and_update().is_some_and(|closed| end > closed) {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep_until(end) => return true,
                changed = self.closing.changed() => if changed.is_err() { return false },
            }
        }
    }

    /// Returns when the time of a close is over; never, where there is none.
    pub(super) async fn closed(&mut self) {
        loop {
            let closed = *self.closing.borrow_and_update();
            let changed = self.closing.changed();
            match closed {
                Some(closed) => return tokio::time::sleep_until(closed).await,
                None if changed.await.is_err() => return,
                None => {}
            }
        }
    }
}
