//! How long the messages of a batch may still be waited for.

use std::{future, time::Duration};

use tokio::{sync::watch, time::Instant};

/// A century stands for ever: the clock cannot hold much more.
const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);

/// The deadline of a batch, and that of the whole connector once it is being closed.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    deadline: Instant,
    closing: watch::Receiver<Option<Instant>>,
    /// How much earlier than the connector's these messages' time ends, once it is being closed.
    ahead: Duration,
    /// Whether the messages are kept elsewhere, so that with a close no wait makes sense any more.
    kept: bool,
}

/// What ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The deadline of the messages.
    Deadline,
    /// The close of the connector.
    Closed,
}

impl Patience {
    /// For messages accepted now.
    pub(crate) fn from_now(max_duration: Duration, closing: watch::Receiver<Option<Instant>>) -> Self {
        let deadline = Instant::now() + max_duration.min(FOR_EVER);
        Self { deadline, closing, ahead: Duration::ZERO, kept: false }
    }

    /// For messages whose route has a shorter time than the connector, once that is being closed.
    pub(crate) fn closed_ahead(self, ahead: Duration) -> Self {
        Self { ahead, ..self }
    }

    /// The same, but waited for no longer than so.
    pub(crate) fn at_most(self, longest: Duration) -> Self {
        Self { deadline: self.deadline.min(Instant::now() + longest.min(FOR_EVER)), ..self }
    }

    /// For messages that a close does not lose: it ends all waits at once, and leaves its time to requests that are on
    /// their way.
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

    /// When it is over.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the close of the connector leaves no time to begin anything.
    pub(super) fn is_stopped(&self, now: Instant) -> bool {
        self.closing.borrow().is_some_and(|closed| self.kept || earlier(closed, self.ahead) <= now)
    }

    /// Whether the deadline is over.
    pub(super) fn over(&self) -> bool {
        self.deadline <= Instant::now()
    }

    /// Waits; where that would end beyond the deadline or the close, it does not even begin.
    pub(super) async fn wait_until(&mut self, end: Instant) -> Result<(), Ended> {
        if end > self.deadline && end > Instant::now() {
            return Err(Ended::Deadline);
        }
        self.wait_beyond(end).await
    }

    /// Waits; the deadline does not matter, only the close.
    pub(super) async fn wait_beyond(&mut self, end: Instant) -> Result<(), Ended> {
        // The timer takes a millisecond even for no time at all.
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

    /// Returns when it is over: by the close or, if it `counts`, by the deadline.
    pub(super) async fn ended(&mut self, deadline_counts: bool) -> Ended {
        let deadline = self.deadline;
        tokio::select! {
            biased;
            () = self.stopped() => Ended::Closed,
            () = async {
                if deadline_counts { tokio::time::sleep_until(deadline).await } else { future::pending().await }
            } => Ended::Deadline,
        }
    }

    /// Returns when waiting for something makes no sense any more.
    async fn stopped(&mut self) {
        if self.kept {
            // An error means that nobody is left to close it, which is as much.
            let _ = self.closing.wait_for(Option::is_some).await;
        } else {
            self.closed().await;
        }
    }

    /// Returns when the time of a close is over; never, where there is none.
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

/// So much before a time; now, where the clock does not reach back so far.
fn earlier(time: Instant, ahead: Duration) -> Instant {
    time.checked_sub(ahead).unwrap_or_else(Instant::now)
}
