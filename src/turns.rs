//! Batches of one partition go one after the other, even where several calls bring them at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::batch::Batch;

type Partition = (String, String, u32);

/// Who is working on which partition. It holds no more entries than there are calls.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    partitions: Mutex<HashMap<Partition, Arc<Turn<()>>>>,
}

/// The turn of one batch; over when dropped.
#[derive(Debug)]
pub(crate) struct InTurn<'t> {
    turns: &'t Turns,
    partition: Partition,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until no other batch of the same partition is under way; first come, first served.
    pub(crate) async fn take(&self, batch: &Batch<'_>) -> InTurn<'_> {
        let partition = (batch.stream.to_owned(), batch.topic.to_owned(), batch.partition_id);
        let turn = self.lock().entry(partition.clone()).or_default().clone();
        InTurn { turns: self, partition, turn: Some(turn.lock_owned().await) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Arc<Turn<()>>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InTurn<'_> {
    fn drop(&mut self) {
        let mut partitions = self.turns.lock();
        self.turn = None;
        // Only the map itself still knows it: nobody waits.
        if partitions.get(&self.partition).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            partitions.remove(&self.partition);
        }
    }
}
