//! A lock for each partition: its batches are delivered one after the other, even where calls bring them concurrently.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::deliver::Origin;

/// The locks of the partitions that some call holds or waits for, by a digest of each partition: two partitions with the same
/// digest share a lock.
#[derive(Debug, Default)]
pub(crate) struct KeyedLock {
    locks: Mutex<HashMap<Origin, Arc<AsyncMutex<()>>>>,
}

/// Holds the lock of one partition until it is dropped.
#[derive(Debug)]
pub(crate) struct KeyedGuard<'l> {
    of: &'l KeyedLock,
    partition: Origin,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyedLock {
    /// Waits until no other batch of the same partition is being delivered; first come, first served.
    pub(crate) async fn lock(&self, partition: Origin) -> KeyedGuard<'_> {
        let lock = self.locks().entry(partition).or_default().clone();
        KeyedGuard { of: self, partition, guard: Some(lock.lock_owned().await) }
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<Origin, Arc<AsyncMutex<()>>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeyedGuard<'_> {
    fn drop(&mut self) {
        let mut locks = self.of.locks();
        self.guard = None;
        // Only the map still holds a reference: nobody waits.
        if locks.get(&self.partition).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.partition);
        }
    }
}
