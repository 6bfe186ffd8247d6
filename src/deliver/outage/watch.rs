//! Logs the outages of an endpoint as they happen.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Failed, Line, rounded};
use crate::deliver::{
    attempt::{Answer, in_words},
    classify::Class,
    delivery::Delivery,
    endpoint::Endpoint,
    fault::Fault,
    gate::{BreakerState, GateState},
};

impl Delivery {
    /// Records that an attempt ended; its messages are sent again after `wait`, if at all.
    pub(in crate::deliver) fn watch_outage(
        &self,
        class: Class,
        ended: Option<&Result<Answer, Fault>>,
        wait: Option<Duration>,
    ) {
        match (class, ended) {
            (Class::Success | Class::Permanent | Class::Split | Class::Isolate, _) => {
                self.endpoint.answered();
            }
            (Class::Retry | Class::Throttled | Class::TimedOut | Class::Hold, Some(ended)) => {
                let again = wait.filter(|wait| !wait.is_zero()).map(|wait| Instant::now() + wait);
                self.endpoint.failed(self.client.now(), in_words(ended), again);
            }
            // These say nothing about the endpoint, or another attempt follows at once.
            _ => {}
        }
    }

    /// Logs the last line of an outage that has not ended: the connector is closed, and everything it held is settled or
    /// kept.
    pub(crate) fn log_closed(&self) {
        self.endpoint.closed();
    }
}

impl Endpoint {
    /// Records that an attempt failed in a transient way; its messages are sent again at `again`, if at all.
    pub(in crate::deliver) fn failed(
        self: &Arc<Self>,
        at: SystemTime,
        cause: String,
        again: Option<Instant>,
    ) {
        let now = Instant::now();
        let gate = self.gate.state();
        let failed = Failed {
            at,
            cause,
            next: gate.next().max(again),
            is_open: gate.breaker != BreakerState::Closed,
            outcomes: self.counters.outcomes(),
        };
        let mut state = self.outages.lock();
        self.outages.is_failing.store(true, Relaxed);
        if let Some(line) = state.outage.failed(now, failed) {
            self.log(&line, &gate, now);
        }
        if !state.watched && state.outage.due(now).is_some() {
            state.watched = true;
            drop(state);
            let endpoint = Arc::downgrade(self);
            // It ends with the outage, or with the connector.
            tokio::spawn(async move {
                while let Some(due) = endpoint.upgrade().and_then(|endpoint| endpoint.minute()) {
                    tokio::time::sleep_until(due).await;
                }
            });
        }
    }

    /// Records that the endpoint accepted a request, or refused it for good.
    pub(in crate::deliver) fn answered(&self) {
        if !self.outages.is_failing.load(Relaxed) {
            return;
        }
        let (now, gate) = (Instant::now(), self.gate.state());
        if gate.breaker != BreakerState::Closed {
            // It was sent before the breaker opened.
            return;
        }
        let mut state = self.outages.lock();
        let line = state.outage.answered(now);
        self.outages.is_failing.store(state.outage.is_failing(), Relaxed);
        if let Some(line) = line {
            self.log(&line, &gate, now);
        }
    }

    /// Logs the last line of an outage that has not ended when the connector is closed.
    fn closed(&self) {
        let now = Instant::now();
        let line = self.outages.lock().outage.closed(now);
        if let Some(line) = line {
            self.log(&line, &self.gate.state(), now);
        }
    }

    /// Logs what is due, and returns when the next line is.
    fn minute(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.outages.lock();
        if let Some(line) = state.outage.minute(now) {
            self.log(&line, &self.gate.state(), now);
        }
        let due = state.outage.due(now);
        state.watched = due.is_some();
        due
    }

    fn log(&self, line: &Line, gate: &GateState, now: Instant) {
        let (label, held) = (&self.label, self.counters.held());
        // An endpoint for dead letters holds none of its own.
        let held = if held.messages() == 0 { String::new() } else { format!("; the connector holds {held}") };
        match line {
            Line::Warn { next, .. } => warn!("{label} {line}; {}{held}", next_attempt(gate, *next, now)),
            Line::Info { before, .. } => {
                let meanwhile = self.counters.outcomes().since(before);
                info!("{label} {line}; meanwhile the connector settled {meanwhile}{held}");
            }
            Line::Closed { before, .. } => {
                let meanwhile = self.counters.outcomes().since(before);
                warn!("{label} {line}; meanwhile the connector settled {meanwhile}{held}");
            }
        }
    }
}

/// Says when the next attempt is made, and what it waits for.
fn next_attempt(gate: &GateState, again: Option<Instant>, now: Instant) -> String {
    if gate.held {
        return "an operator has paused it".to_owned();
    }
    let why = match gate.breaker {
        BreakerState::HalfOpen => return "a probe of the circuit breaker is under way".to_owned(),
        BreakerState::Open(_) => ", as the circuit breaker allows",
        BreakerState::Closed if gate.paused_until.is_some() => ", as it asked for",
        BreakerState::Closed => "",
    };
    match gate.next().max(again).map(|next| next.saturating_duration_since(now)) {
        Some(wait) if !wait.is_zero() => format!("next attempt in {}{why}", rounded(wait)),
        _ => "the next attempt is due".to_owned(),
    }
}
