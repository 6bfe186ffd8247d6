//! What the threads of a spool share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicU64};

use tokio::sync::{Notify, watch};

use super::{
    buffers::Buffers,
    clock::Clock,
    options::{LanesBy, SyncMode, WhenFull},
    state::{Phase, State},
};
use crate::files::Files;

/// The sizes of a segment.
pub(in crate::spool) const SEGMENT: (u64, u64) = (1024 * 1024, 16 * 1024 * 1024);

/// What the threads of a spool share.
#[derive(Debug)]
pub(in crate::spool) struct Shared {
    pub(in crate::spool) files: Arc<dyn Files>,
    pub(in crate::spool) max_bytes: u64,
    pub(in crate::spool) segment_bytes: u64,
    pub(in crate::spool) when_full: WhenFull,
    pub(in crate::spool) sync: SyncMode,
    pub(in crate::spool) lanes: LanesBy,
    pub(in crate::spool) clock: Arc<Clock>,
    pub(in crate::spool) state: Mutex<State>,
    /// Notified when a group of records was written.
    pub(in crate::spool) committed: Condvar,
    /// Notified when there may be space, or the connector closes.
    pub(in crate::spool) freed: Notify,
    /// Notified when there is something to sync.
    pub(in crate::spool) unsynced: Notify,
    /// Notified when it is time to stop.
    pub(in crate::spool) ending: Notify,
    /// Counts changes that consumers of the lanes may wait for.
    pub(in crate::spool) version: watch::Sender<u64>,
    /// Counts how often the first unsettled record of a lane was settled.
    pub(in crate::spool) heads: watch::Sender<u64>,
    /// The time that batches have waited for room, in microseconds.
    pub(in crate::spool) waited: AtomicU64,
    pub(in crate::spool) buffers: Arc<Buffers>,
}

impl Shared {
    pub(in crate::spool) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(in crate::spool) fn end(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = state.phase.max(phase);
    }

    /// The maximum size of damaged pieces that are kept.
    pub(in crate::spool) fn damaged_limit(&self) -> u64 {
        (self.max_bytes / 16).max(SEGMENT.0)
    }
}

pub(in crate::spool) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
