//! What a spool is opened with.

use std::{path::PathBuf, time::Duration};

/// What a spool is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its folder; made where there is none.
    pub path: PathBuf,
    /// What it takes on disk at most. Progress is written also when it is full.
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
    /// The messages of a partition. Batches that may hold several are in order with each of them.
    Partition,
    /// All of a topic: the reader keeps their keys in order.
    Topic,
    /// Batches with the same label, whatever they hold: there is no order.
    Label,
}

/// What happens to a batch while the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Consume waits for space.
    Block,
    /// The caller gets [`SpoolError::Full`](crate::spool::SpoolError::Full) at once, and puts it to the dead letters.
    DeadLetter,
}

/// When a batch counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// When it survives a crash of the machine.
    Batch,
    /// When it survives a crash of the process; that of the machine after this time.
    Within(Duration),
}
