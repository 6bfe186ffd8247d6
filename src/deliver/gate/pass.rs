//! The permit for one attempt, and what the gate learns from its end.

use std::time::Duration;

use tokio::time::Instant;

use super::{asking::Asking, queue::State, shared::Gate};
use crate::deliver::{adaptive::Load, breaker::Change, classify::Class, origin::Origin};

/// The permit for one attempt. Reporting how the attempt ended consumes it; if it is dropped instead, the attempt was
/// aborted.
#[derive(Debug)]
pub(in crate::deliver) struct Pass<'g> {
    gate: &'g Gate,
    origin: Origin,
    /// Whether an attempt before it has failed.
    tried: bool,
    pub(in crate::deliver) probe: bool,
    began: Instant,
    /// Its number among all attempts.
    number: u64,
    given_back: bool,
}

impl<'g> Pass<'g> {
    /// A permit to begin now.
    pub(super) fn new(gate: &'g Gate, state: &mut State, asking: &Asking, probe: bool, now: Instant) -> Self {
        let number = state.begin(asking, probe, now);
        let Asking { origin, tried, .. } = *asking;
        Self { gate, origin, tried, probe, began: now, number, given_back: false }
    }

    /// The attempt ended. A pause that the endpoint asked for holds all lanes.
    pub(in crate::deliver) fn ended(mut self, class: Class, asked: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.gate.lock();
        if let Some(until) = asked.and_then(|asked| now.checked_add(asked)) {
            state.paused_until = state.paused_until.max(Some(until));
        }
        let load = match class {
            Class::Throttled | Class::TimedOut => Load::Refused,
            Class::Success => Load::Answered(now.saturating_duration_since(self.began)),
            _ => Load::Unknown,
        };
        state.slots.ended(load, self.tried, now);
        let change = if class == Class::Stale {
            // This says nothing about the endpoint. Giving the pass back allows another probe.
            Change::None
        } else if class.is_transient() && (asked.is_none() || self.probe)
            || class == Class::Hold && self.probe
        {
            // A probe that was asked to wait has not found the endpoint recovered.
            let begun = state.begun;
            state.breaker.failed(self.probe, self.origin, self.number, begun, now)
        } else {
            // An endpoint that says when to come back is alive, and so is one that refuses for good.
            state.breaker.succeeded(self.probe)
        };
        if change == Change::Closed {
            self.gate.closed.send_modify(|times| *times += 1);
        }
        if change == Change::Opened || asked.is_some() {
            state.wake_those_that_park();
        }
        self.probe &= class == Class::Stale;
        self.give_back(&mut state, now);
    }

    /// Records that this machine was short of something for the attempt, so fewer may be in flight from now on. Returns how
    /// many, if that should be logged.
    pub(in crate::deliver) fn fell_short(mut self) -> Option<usize> {
        let now = Instant::now();
        let mut state = self.gate.lock();
        let limit = state.slots.fell_short(now);
        self.give_back(&mut state, now);
        limit
    }

    fn give_back(&mut self, state: &mut State, now: Instant) {
        self.given_back = true;
        state.slots.give_back();
        if self.probe {
            state.breaker.abandoned(now);
        }
        state.wake(now);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.given_back {
            let gate = self.gate;
            self.give_back(&mut gate.lock(), Instant::now());
        }
    }
}
