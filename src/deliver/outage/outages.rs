//! The outages of an endpoint, shared by its attempts.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};

use super::Outage;

/// The outages of an endpoint, logged as they happen.
#[derive(Debug, Default)]
pub(in crate::deliver) struct Outages {
    /// Whether there is an outage that a success would end: each success asks.
    pub(super) is_failing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) outage: Outage,
    /// Whether somebody watches the minutes.
    pub(super) watched: bool,
}

impl Outages {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
