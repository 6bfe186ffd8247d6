//! The lanes of a spool, and the records that are read from them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    budget::{Admission, Budget, Share},
    unit::Kind,
};
use crate::{
    config::Config,
    each_minute::EachMinute,
    pipeline::Pipeline,
    spool::{LaneKey, Record, Spool, SpoolError},
};

/// The waits before messages that could not be settled are tried again: the first, doubled each time, and the longest.
pub(super) const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The memory for all records that are being sent, of all lanes, and how much of it one record takes: its own bytes, those of
/// its bodies, and what identifies its messages.
const MEMORY: usize = 64 * 1024 * 1024;
const OF_RECORD: usize = 3;

/// Why messages wait if their dead letters could not be written.
pub(super) const UNWRITTEN: &str = "its dead letter cannot be written";

/// How many parked messages of all lanes are tracked in memory; with more, no further record is read.
const MOST_PARKED: usize = 100_000;

/// All lanes of a spool.
pub(super) struct Lanes {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) spool: Arc<Spool>,
    pub(super) budget: Arc<Budget>,
    /// How many messages are parked, in all lanes.
    pub(super) parked: AtomicUsize,
    /// Logs that messages stay because their dead letters cannot be written.
    pub(super) unwritten: EachMinute,
}

/// A record that is in memory.
pub(super) struct Opened {
    pub(super) record: Record,
    /// What other messages must have in common with its messages to share bodies with them.
    pub(super) kind: Option<Kind>,
    _memory: Share,
}

impl Lanes {
    pub(super) fn of(pipeline: Arc<Pipeline>, spool: Arc<Spool>) -> Self {
        let budget = Budget::of(MEMORY, &pipeline.world);
        Self { pipeline, spool, budget, parked: AtomicUsize::new(0), unwritten: EachMinute::default() }
    }

    /// Reads the first unsettled record after the one with this sequence.
    pub(super) fn open_next(
        &self,
        lane: &LaneKey,
        after: u64,
        admission: &Admission,
    ) -> Result<Option<Opened>, SpoolError> {
        Ok(self.spool.next(lane, after)?.map(|record| Opened::of(record, admission)))
    }

    /// Reads a record once more.
    pub(super) fn open_again(
        &self,
        lane: &LaneKey,
        sequence: u64,
        admission: &Admission,
    ) -> Result<Option<Opened>, SpoolError> {
        Ok(self.spool.again(lane, sequence)?.map(|record| Opened::of(record, admission)))
    }

    /// Returns the configuration that applies to the messages of a lane.
    pub(super) fn terms(&self, lane: &LaneKey) -> &Config {
        self.pipeline.terms(lane.stream(), lane.topic())
    }

    pub(super) fn may_park_more(&self) -> bool {
        self.parked.load(Relaxed) < MOST_PARKED
    }
}

impl Opened {
    fn of(record: Record, admission: &Admission) -> Self {
        let memory = admission.take(record.length() * OF_RECORD);
        let kind = record.metadata().ok().map(|metadata| (metadata.partition_id, metadata.schema));
        Self { record, kind, _memory: memory }
    }

    /// Returns the last sequence whose messages were sent together with its own; at least its own.
    pub(super) fn together(&self) -> u64 {
        let bodies = self.record.bodies().iter().filter_map(|body| body.last());
        bodies.map(|(last, _)| *last).fold(self.record.sequence, u64::max)
    }
}
