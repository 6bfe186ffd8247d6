//! The deadline of a batch: until when its messages may wait.

use std::{future, time::Duration};

use tokio::{sync::watch, time::Instant};

/// The longest duration, a century: the clock cannot represent much more.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// The deadline of a batch, and that of the whole connector once it is being closed.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    at: Instant,
    closing: watch::Receiver<Option<Instant>>,
    /// How much earlier than the end of a close the time of these messages ends.
    ahead: Duration,
    /// Whether the messages are kept elsewhere, so that a close ends all waits at once.
    kept: bool,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The deadline of the messages.
    Deadline,
    /// The close of the connector.
    Closed,
}

impl Deadline {
    /// The deadline of messages accepted now.
    pub(crate) fn from_now(max_duration: Duration, closing: watch::Receiver<Option<Instant>>) -> Self {
        let at = Instant::now() + max_duration.min(LONGEST);
        Self { at, closing, ahead: Duration::ZERO, kept: false }
    }

    /// The same for messages whose route has less time than the connector after a close has begun.
    pub(crate) fn closed_ahead(self, ahead: Duration) -> Self {
        Self { ahead, ..self }
    }

    /// The same, but at most this far from now.
    pub(crate) fn at_most(self, longest: Duration) -> Self {
        Self { at: self.at.min(Instant::now() + longest.min(LONGEST)), ..self }
    }

    /// The same for messages that a close does not lose: it ends all waits at once, and leaves its time to requests in
    /// flight.
    pub(crate) fn of_kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// Whether nothing more should begin: the messages are kept, and the connector is being closed.
    pub(crate) fn stops(&self) -> bool {
        self.kept && self.closing.borrow().is_some()
    }

    /// Whether the messages are kept elsewhere.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// When it passes, unless a close comes first.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Whether the close of the connector leaves no time to begin anything.
    pub(super) fn is_stopped(&self, now: Instant) -> bool {
        self.closing.borrow().is_some_and(|closed| self.kept || earlier(closed, self.ahead) <= now)
    }

    /// Whether it has passed.
    pub(super) fn has_passed(&self) -> bool {
        self.at <= Instant::now()
    }

    /// Waits until `end`; returns at once if that is after the deadline or the close.
    pub(super) async fn wait_until(&mut self, end: Instant) -> Result<(), Ended> {
        if end > self.at && end > Instant::now() {
            return Err(Ended::Deadline);
        }
        self.wait_beyond(end).await
    }

    /// Waits until `end`, past the deadline if need be; only a close ends it.
    pub(super) async fn wait_beyond(&mut self, end: Instant) -> Result<(), Ended> {
        // The timer takes a millisecond even for a wait of zero.
        while end > Instant::now() {
            // A close may begin during the wait, and then no wait beyond its end makes sense.
            let Self { kept, ahead, .. } = *self;
            if self.closing.borrow_and_update().is_some_and(|closed| kept || end > earlier(closed, ahead)) {
                return Err(Ended::Closed);
            }
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                changed = self.closing.changed() => if changed.is_err() { return Err(Ended::Closed) },
            }
        }
        Ok(())
    }

    /// Returns when the close or, if `deadline_counts`, the deadline ends it.
    pub(super) async fn ended(&mut self, deadline_counts: bool) -> Ended {
        let deadline = self.at;
        tokio::select! {
            biased;
            () = self.stopped() => Ended::Closed,
            () = async {
                if deadline_counts { tokio::time::sleep_until(deadline).await } else { future::pending().await }
            } => Ended::Deadline,
        }
    }

    /// Returns when a close ends all waits.
    async fn stopped(&mut self) {
        if self.kept {
            // An error means that the connector is gone, which ends waits as well.
            let _ = self.closing.wait_for(Option::is_some).await;
        } else {
            self.closed().await;
        }
    }

    /// Returns when the time of a close is over; never if there is no close.
    pub(super) async fn closed(&mut self) {
        loop {
            let closed = *self.closing.borrow_and_update();
            match closed {
                Some(closed) => return tokio::time::sleep_until(earlier(closed, self.ahead)).await,
                None => {
                    if self.closing.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Returns `time` minus `ahead`, or now if the clock does not reach back that far.
fn earlier(time: Instant, ahead: Duration) -> Instant {
    time.checked_sub(ahead).unwrap_or_else(Instant::now)
}
