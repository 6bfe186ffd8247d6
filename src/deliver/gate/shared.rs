//! The part of a gate that all attempts share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::{sync::watch, time::Instant};

use super::queue::State;
use crate::config::Config;

/// The gate of one endpoint.
#[derive(Debug)]
pub(in crate::deliver) struct Gate {
    pub(super) state: Mutex<State>,
    /// Counts how often the breaker has closed.
    pub(super) closed: watch::Sender<u64>,
    /// Counts how often an operator asked to retry now.
    pub(super) retries_now: watch::Sender<u64>,
}

impl Gate {
    pub(in crate::deliver) fn new(config: &Config) -> Self {
        Self {
            state: Mutex::new(State::new(config)),
            closed: watch::Sender::new(0),
            retries_now: watch::Sender::new(0),
        }
    }

    /// Changes whenever the breaker closes.
    pub(in crate::deliver) fn closed(&self) -> watch::Receiver<u64> {
        self.closed.subscribe()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt's entry in the queue, removed when dropped.
pub(super) struct Queued<'g> {
    pub(super) gate: &'g Gate,
    pub(super) number: u64,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.gate.lock().leave(self.number, Instant::now());
    }
}
