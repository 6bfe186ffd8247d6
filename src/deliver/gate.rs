//! The gate that each attempt passes before it is made. All lanes of an endpoint share one gate.
//!
//! It is one queue, first come first served. A retry joins at the end, so that a message that always fails delays only its
//! own lane. The breaker, a pause that the endpoint asked for, the rate limits and the slots are policies that have no clock
//! and never wait; the first in the queue waits for them.

mod asking;
mod control;
mod pass;
mod queue;
mod shared;

use tokio::time::Instant;

pub(crate) use self::control::{BreakerState, GateState};
pub(super) use self::{
    asking::{Asking, Refused},
    pass::Pass,
    shared::Gate,
};
use self::{queue::Verdict, shared::Queued};
use super::deadline::{Deadline, Ended};

impl Gate {
    /// Waits until an attempt may begin.
    ///
    /// Once the deadline has passed, a retry is refused unless only a pause held it back: then it gets a last attempt. A
    /// first attempt continues to wait for the rate limit and a slot, since these mean that the endpoint works, but not for
    /// the breaker.
    pub(super) async fn enter(&self, deadline: &mut Deadline, asking: Asking) -> Result<Pass<'_>, Refused> {
        let now = Instant::now();
        if deadline.is_stopped(now) {
            return Err(Refused::Closed);
        }
        let (number, woken) = {
            let mut state = self.lock();
            if state.waiting() == 0
                && let Verdict::Go { probe } = state.alone(&asking, deadline.at(), now)
            {
                return Ok(Pass::new(self, &mut state, &asking, probe, now));
            }
            if let Some(later) = state.later(&asking, deadline.at(), now) {
                return Err(later);
            }
            state.queue_up(asking, deadline.at())
        };
        let queued = Queued { gate: self, number };
        loop {
            let now = Instant::now();
            let passed = deadline.at() <= now;
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
                if passed {
                    if !state.breaker.admission(now, asking.stranger()).goes() {
                        return Err(Refused::BreakerOpen);
                    }
                    if asking.tried {
                        return Err(Refused::Deadline);
                    }
                }
                if let Some(later) = state.later(&asking, deadline.at(), now) {
                    return Err(later);
                }
                verdict
            };
            let ended = if let Verdict::NotBefore(time) = verdict {
                let time = if passed { time } else { time.min(deadline.at()) };
                tokio::select! {
                    waited = deadline.wait_beyond(time) => waited.err(),
                    () = woken.notified() => None,
                }
            } else {
                tokio::select! {
                    biased;
                    ended = deadline.ended(!passed) => Some(ended),
                    () = woken.notified() => None,
                }
            };
            if ended == Some(Ended::Closed) {
                return Err(Refused::Closed);
            }
        }
    }

    /// Returns why a first attempt would be refused now, without waiting.
    pub(super) fn refuses(&self, deadline: &Deadline) -> Option<Refused> {
        let now = Instant::now();
        if deadline.is_stopped(now) {
            return Some(Refused::Closed);
        }
        let open = deadline.at() <= now && !self.lock().breaker.admission(now, None).goes();
        open.then_some(Refused::BreakerOpen)
    }

    /// Returns how many bodies of a lane without order are worth having ready: as many as there are slots, or all if others
    /// wait for slots, since each that waits has an equal share.
    pub(super) fn worth_having_ready(&self) -> usize {
        let state = self.lock();
        if state.waiting() == 0 { state.slots.limit(Instant::now()) } else { usize::MAX }
    }
}
