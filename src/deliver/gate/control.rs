//! What an operator can see of a gate, and do to it.

use tokio::{sync::watch, time::Instant};

use super::shared::Gate;

/// The state of a gate at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GateState {
    /// Requests without an answer yet.
    pub(crate) in_flight: usize,
    /// How many there may be.
    pub(crate) limit: usize,
    /// Requests that wait to begin.
    pub(crate) waiting: usize,
    pub(crate) breaker: BreakerState,
    /// When the pause that the endpoint asked for ends, if there is one.
    pub(crate) paused_until: Option<Instant>,
    /// Whether an operator paused it.
    pub(crate) held: bool,
}

/// Whether a breaker lets requests through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    Closed,
    /// Until the next probe.
    Open(Instant),
    /// A probe is on its way.
    HalfOpen,
}

impl GateState {
    /// Returns when the breaker and the pause will let requests through.
    pub(in crate::deliver) fn next(&self) -> Option<Instant> {
        let breaker = match self.breaker {
            BreakerState::Open(until) => Some(until),
            BreakerState::Closed | BreakerState::HalfOpen => None,
        };
        breaker.max(self.paused_until)
    }
}

impl Gate {
    /// Returns its state.
    pub(in crate::deliver) fn state(&self) -> GateState {
        let now = Instant::now();
        let state = self.lock();
        let breaker = match state.breaker.open_until() {
            None => BreakerState::Closed,
            Some(_) if state.breaker.is_probing() => BreakerState::HalfOpen,
            Some(until) => BreakerState::Open(until),
        };
        GateState {
            in_flight: state.slots.under_way(),
            limit: state.slots.limit(now),
            waiting: state.waiting(),
            breaker,
            paused_until: state.paused_until.filter(|until| *until > now),
            held: state.held,
        }
    }

    /// Counts how often an operator asked to retry now.
    pub(in crate::deliver) fn retries_now(&self) -> watch::Receiver<u64> {
        self.retries_now.subscribe()
    }

    /// Ends the pause that the endpoint asked for and the waits between attempts, and makes a probe of the breaker due.
    pub(in crate::deliver) fn retry_now(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state.paused_until = None;
        state.breaker.probe_now(now);
        state.wake(now);
        drop(state);
        self.retries_now.send_modify(|times| *times += 1);
    }

    /// Lets no request through until [`Self::resume`], except the last attempts of messages whose deadline has passed.
    pub(in crate::deliver) fn pause(&self) {
        self.lock().held = true;
    }

    /// Ends [`Self::pause`].
    pub(in crate::deliver) fn resume(&self) {
        let mut state = self.lock();
        state.held = false;
        state.wake(Instant::now());
    }
}
