//! What an attempt passes on its way out. All lanes of an endpoint pass the same gate.
//!
//! It is one queue, first come first served: an attempt that failed comes again at its end, so that a message that
//! always fails delays its own lane alone. The breaker, a pause that the endpoint asked for, the rate and the slots are
//! policies that know no clock and wait for nothing; whoever is next in the queue does the waiting for them.

mod control;
mod origin;
mod pass;
mod queue;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

pub(super) use self::pass::Pass;
use self::queue::{Queued, State, Verdict};
pub(crate) use self::{
    control::{BreakerState, GateState},
    origin::Origin,
};
use super::patience::{Ended, Patience};
use crate::config::Config;

/// The gate of one endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    /// Counts how often the breaker has closed.
    closed: watch::Sender<u64>,
    /// Counts how often an operator asked to retry now.
    retries_now: watch::Sender<u64>,
}

/// An attempt that asks for leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) origin: Origin,
    /// Whether an attempt before it has failed.
    pub(super) tried: bool,
    /// Whether its messages are kept elsewhere, so that it comes again in place of waiting here for long.
    pub(super) parks: bool,
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// Why an attempt does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The deadline is over, and waiting would have to go on.
    Deadline,
    /// The deadline is over, and the breaker is open.
    BreakerOpen,
    /// The connector is closed.
    Closed,
    /// It is to come again.
    Later {
        until: Instant,
        /// It may come earlier once the breaker has closed.
        for_breaker: bool,
    },
}

impl Gate {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            state: Mutex::new(State::new(config)),
            closed: watch::Sender::new(0),
            retries_now: watch::Sender::new(0),
        }
    }

    /// Waits until an attempt may begin.
    ///
    /// With the deadline over, what was tried is refused unless only a pause kept it: then it has its last attempt. What was
    /// not tried yet waits on for the rate and a slot, since behind them is an endpoint at work, but for no breaker.
    pub(super) async fn enter(&self, patience: &mut Patience, asking: Asking) -> Result<Pass<'_>, Refused> {
        let now = Instant::now();
        if patience.is_stopped(now) {
            return Err(Refused::Closed);
        }
        let (number, woken) = {
            let mut state = self.lock();
            if state.waiting() == 0
                && let Verdict::Go { probe } = state.alone(&asking, patience.deadline(), now)
            {
                return Ok(Pass::new(self, &mut state, &asking, probe, now));
            }
            if let Some(later) = state.later(&asking, patience.deadline(), now) {
                return Err(later);
            }
            state.queue_up(asking, patience.deadline())
        };
        let queued = Queued { gate: self, number };
        loop {
            let now = Instant::now();
            let over = patience.deadline() <= now;
            let verdict = {
                let mut state = self.lock();
                let verdict = state.verdict(queued.number, now);
                if let Verdict::Go { probe } = verdict {
                    let pass = Pass::new(self, &mut state, &asking, probe, now);
                    drop(state);
                    // Leaving the queue wakes the next.
                    drop(queued);
                    return Ok(pass);
                }
                if over {
                    if !state.breaker.look(now, asking.stranger()).goes() {
                        return Err(Refused::BreakerOpen);
                    }
                    if asking.tried {
                        return Err(Refused::Deadline);
                    }
                }
                if let Some(later) = state.later(&asking, patience.deadline(), now) {
                    return Err(later);
                }
                verdict
            };
            let ended = if let Verdict::NotBefore(time) = verdict {
                let time = if over { time } else { time.min(patience.deadline()) };
                tokio::select! {
                    waited = patience.wait_beyond(time) => waited.err(),
                    () = woken.notified() => None,
                }
            } else {
                tokio::select! {
                    biased;
                    ended = patience.ended(!over) => Some(ended),
                    () = woken.notified() => None,
                }
            };
            if ended == Some(Ended::Closed) {
                return Err(Refused::Closed);
            }
        }
    }

    /// Why an attempt at what was not tried yet would be refused now, without a wait.
    pub(super) fn refuses(&self, patience: &Patience) -> Option<Refused> {
        let now = Instant::now();
        if patience.is_stopped(now) {
            return Some(Refused::Closed);
        }
        let open = patience.deadline() <= now && !self.lock().breaker.look(now, None).goes();
        open.then_some(Refused::BreakerOpen)
    }

    /// Changes whenever the breaker has closed.
    pub(super) fn closed(&self) -> watch::Receiver<u64> {
        self.closed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// The origin whose failures say nothing about it, if it has not failed itself.
    fn stranger(&self) -> Option<Origin> {
        (!self.tried).then_some(self.origin)
    }
}
