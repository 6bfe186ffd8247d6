//! What a spool is opened with.

use std::{path::PathBuf, time::Duration};

/// What a spool is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its folder; created if it does not exist.
    pub path: PathBuf,
    /// The maximum size on disk, in bytes. Progress is recorded even when it is full.
    pub max_bytes: u64,
    /// What happens to a batch while it is full.
    pub when_full: WhenFull,
    /// When a batch counts as stored.
    pub sync: SyncMode,
    /// What is kept in order.
    pub lanes: LanesBy,
}

/// What shares a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanesBy {
    /// The messages of a partition. Batches that may hold several partitions are in order with each of them.
    Partition,
    /// All messages of a topic: the reader keeps their keys in order.
    Topic,
    /// Batches with the same label, whatever they contain: there is no order.
    Label,
}

/// What happens to a batch while the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Consume waits for space.
    Block,
    /// The caller gets [`SpoolError::Full`](crate::spool::SpoolError::Full) at once, and makes dead letters of it.
    DeadLetter,
}

/// When a batch counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// When it survives a crash of the machine.
    Batch,
    /// When it survives a crash of the process; it survives that of the machine after this time.
    Within(Duration),
}
