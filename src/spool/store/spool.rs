//! An open spool.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use iggy_connector_sdk::BorrowedMessage;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

use crate::{files::Files, world::World};

use super::{read::Reader, record::Record, sync::Syncer};
use crate::spool::{
    error::SpoolError,
    lanes::{
        dedup::Windows,
        key::{LaneKey, Topic},
        mixed,
    },
    log::{
        clock::Clock,
        damage::Damage,
        lock::Lock,
        options::{Options, SyncMode},
        shared::{SEGMENT, Shared, lock},
        state::{Phase, State},
    },
    recovery::{Mend, Recovered, recover},
};

/// The dedup window: messages per topic that are kept to recognise duplicates. A checkpoint takes 8 bytes for each.
const REMEMBERED: usize = 131_072;

/// What was found when a spool was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How many messages wait to be delivered.
    pub messages: u64,
    /// In how many lanes.
    pub lanes: usize,
    /// The damage that was found. It is reported once: it was set aside.
    pub damages: Vec<Damage>,
}

/// What a spool holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk, without those set aside as damaged.
    pub bytes: u64,
    /// What they can be at most.
    pub max_bytes: u64,
    /// Unsettled messages.
    pub messages: u64,
    /// The total time that batches have waited for space.
    pub waited: Duration,
    /// How many entries are kept in memory for unsettled records. It grows with segments and lanes, and with what is settled
    /// out of order, but not with the messages.
    pub runs: usize,
    /// How many messages are remembered, to recognize repeats.
    pub remembered: usize,
}

/// What a lane holds at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneHeld {
    /// The lane.
    pub lane: LaneKey,
    /// Unsettled messages.
    pub messages: u64,
    /// The bytes of their records.
    pub bytes: u64,
    /// How long ago consume accepted the oldest of them, if its record was read since the spool was opened.
    pub oldest: Option<Duration>,
}

/// A durable queue of batches, in lanes.
#[derive(Debug)]
pub struct Spool {
    pub(in crate::spool) shared: Arc<Shared>,
    pub(in crate::spool) topic_locks: Mutex<HashMap<Topic, Arc<AsyncMutex<()>>>>,
    pub(in crate::spool) readers: Mutex<HashMap<LaneKey, Arc<Mutex<Reader>>>>,
    /// Syncs from time to time.
    syncer: Option<Syncer>,
    /// Keeps other owners away; the last to be dropped.
    _lock: Option<Lock>,
}

impl Spool {
    /// Opens a spool, and creates it if there is none. What a crash left is recovered.
    ///
    /// # Errors
    /// [`SpoolError::InUse`], [`SpoolError::Version`], or the folder cannot be read or written.
    pub fn open(options: &Options) -> Result<(Self, Recovery), SpoolError> {
        Self::open_in(&World::real(), options)
    }

    /// The same in another world.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in(world: &World, options: &Options) -> Result<(Self, Recovery), SpoolError> {
        let failed = |why: io::Error| {
            SpoolError::io(format!("the spool {} cannot be opened", options.path.display()))(why)
        };
        let files = world.folder(&options.path).map_err(failed)?;
        if !world.is_real() {
            // Nobody else can have it open.
            return Self::start_in(world, files, None, options);
        }
        let lock = match Lock::take(&options.path).map_err(failed)? {
            Ok(lock) => lock,
            Err(process) => return Err(SpoolError::InUse { path: options.path.clone(), process }),
        };
        Self::start_in(world, files, Some(lock), options)
    }

    #[cfg(test)]
    pub(in crate::spool) fn start(
        files: Arc<dyn Files>,
        lock: Option<Lock>,
        options: &Options,
    ) -> Result<(Self, Recovery), SpoolError> {
        Self::start_in(&World::real(), files, lock, options)
    }

    fn start_in(
        world: &World,
        files: Arc<dyn Files>,
        lock: Option<Lock>,
        options: &Options,
    ) -> Result<(Self, Recovery), SpoolError> {
        let segment_bytes = (options.max_bytes / 64).clamp(SEGMENT.0, SEGMENT.1).min(options.max_bytes / 4);
        let damaged_limit = (options.max_bytes / 16).max(SEGMENT.0);
        let Recovered { mut lanes, windows, segments, base, damages, time, .. } =
            recover(&*files, windows(segment_bytes), Mend::Within(damaged_limit))?;
        // Like its records: a segment that exists now must exist after the next crash.
        files
            .sync_names()
            .map_err(SpoolError::io(format!("{} cannot be synced", files.path("").display())))?;
        let newest = segments.last_key_value().map_or(0, |(number, _)| *number);
        for lane in lanes.values_mut() {
            lane.told_in = newest;
        }
        let recovery = Recovery {
            messages: lanes.values().map(|lane| lane.messages).sum(),
            lanes: lanes.values().filter(|lane| !lane.is_empty()).count(),
            damages,
        };
        let clock = Arc::new(Clock::going_on_from(time));
        let state = State {
            clock: clock.clone(),
            next_segment: segments.last_key_value().map_or(1, |(number, _)| number + 1),
            bytes: segments.values().map(|segment| segment.length).sum(),
            lanes,
            next_of_forgotten: 0,
            windows,
            settled: segments
                .iter()
                .filter(|(_, segment)| segment.live == 0)
                .map(|(number, _)| *number)
                .collect(),
            segments,
            active: None,
            covering: base,
            queue: Vec::new(),
            queued_bytes: 0,
            outcomes: HashMap::new(),
            tickets: 0,
            committing: false,
            emptied: None,
            wanted: 0,
            phase: Phase::Open,
            delayed: options.sync != SyncMode::Batch,
            unsynced: Vec::new(),
            dirty: false,
        };
        let shared = Arc::new(Shared {
            files,
            max_bytes: options.max_bytes,
            segment_bytes,
            when_full: options.when_full,
            sync: options.sync,
            lanes: options.lanes,
            clock,
            state: Mutex::new(state),
            committed: Condvar::new(),
            freed: Notify::new(),
            unsynced: Notify::new(),
            ending: Notify::new(),
            version: watch::Sender::new(0),
            heads: watch::Sender::new(0),
            waited: AtomicU64::new(0),
            buffers: Arc::default(),
        });
        let syncer = match options.sync {
            SyncMode::Batch => None,
            SyncMode::Within(interval) => Some(
                Syncer::start(world, shared.clone(), interval)
                    .map_err(SpoolError::io("no thread can be started"))?,
            ),
        };
        let (topic_locks, readers) = (Mutex::default(), Mutex::default());
        Ok((Self { shared, topic_locks, readers, syncer, _lock: lock }, recovery))
    }

    /// Returns the first unsettled record of a lane after the one with the sequence `after`; 0 for the first of all. `None`
    /// if there is none yet.
    ///
    /// A record that was damaged since it was stored is logged, set aside and skipped.
    ///
    /// # Errors
    /// The record cannot be read now.
    pub fn next(&self, lane: &LaneKey, after: u64) -> Result<Option<Record>, SpoolError> {
        let reader = lock(&self.readers).entry(lane.clone()).or_default().clone();
        lock(&reader).next(&self.shared, lane, after)
    }

    /// Updates a record that was read: which of its messages are settled, and which are sent together. Returns whether any is
    /// unsettled.
    pub fn refresh(&self, record: &mut Record) -> bool {
        let state = self.shared.lock();
        let Some(lane) = state.lanes.get(&record.lane) else { return false };
        if lane.run(record.sequence).is_none() {
            return false;
        }
        record.settled = lane.partly.get(&record.sequence).cloned().unwrap_or_default();
        record.bodies = lane.bodies.get(&record.sequence).cloned().unwrap_or_default();
        true
    }

    /// Reads a record that [`next`](Self::next) returned again from disk; `None` once it is settled.
    ///
    /// # Errors
    /// That of [`next`](Self::next).
    pub fn again(&self, lane: &LaneKey, sequence: u64) -> Result<Option<Record>, SpoolError> {
        let record = Reader::default().next(&self.shared, lane, sequence.saturating_sub(1))?;
        Ok(record.filter(|record| record.sequence == sequence))
    }

    /// Returns whether a record of a lane may be delivered now, together with those after it that hold these messages, all
    /// with the same label: records of another lane that arrived before it, and may be of the same partition, go first.
    ///
    /// # Errors
    /// A record of another lane cannot be read now.
    pub fn turn(
        &self,
        record: &Record,
        label: u32,
        messages: &[BorrowedMessage<'_>],
    ) -> Result<Turn, SpoolError> {
        let beside: Vec<(LaneKey, bool)> = {
            let state = self.shared.lock();
            let beside = mixed::beside(&state.lanes, &record.lane, label, messages);
            beside.into_iter().map(|(lane, may_share)| (lane.clone(), may_share)).collect()
        };
        let mut before = None;
        for (lane, may_share) in beside {
            let Some((sequence, came)) = self.head(&lane)? else { continue };
            // Records of an earlier release have no time, and count as the oldest: first those of a single partition.
            if (came, lane.is_of_several()) > (record.came, record.lane.is_of_several()) {
                before = Some(before.unwrap_or(u64::MAX).min(came.unwrap_or(0)));
            } else if may_share {
                return Ok(Turn::Behind(lane, sequence));
            }
        }
        Ok(Turn::Now(before))
    }

    /// Whether there are records in other lanes that may have to wait for those of a lane.
    pub fn is_waited_for(&self, lane: &LaneKey) -> bool {
        mixed::is_waited_for(&self.shared.lock().lanes, lane)
    }

    /// Returns the sequence of the first unsettled record of a lane, and when it arrived, if that is known.
    fn head(&self, lane: &LaneKey) -> Result<Option<(u64, Option<u64>)>, SpoolError> {
        let (head, came) = {
            let state = self.shared.lock();
            let Some(held) = state.lanes.get(lane) else { return Ok(None) };
            (held.head(), held.oldest())
        };
        match head {
            Some(sequence) if came.is_some() => Ok(Some((sequence, came))),
            None => Ok(None),
            // It was not read yet.
            Some(_) => {
                let first = Reader::default().next(&self.shared, lane, 0)?;
                Ok(first.map(|record| (record.sequence, record.came)))
            }
        }
    }

    /// Returns once a record is settled.
    pub async fn until_settled(&self, lane: &LaneKey, sequence: u64) {
        let mut heads = self.shared.heads.subscribe();
        while self.shared.lock().lanes.get(lane).is_some_and(|lane| lane.run(sequence).is_some()) {
            // The spool outlives this, so there is no error.
            let _ = heads.changed().await;
        }
    }

    /// The lanes with unsettled records.
    pub fn lanes(&self) -> Vec<LaneKey> {
        let state = self.shared.lock();
        state.lanes.iter().filter(|(_, lane)| !lane.is_empty()).map(|(key, _)| key.clone()).collect()
    }

    /// Changes whenever records were added, and when [`close_begins`](Self::close_begins) was called.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Ends the waits of batches for space: they are not stored.
    pub fn close_begins(&self) {
        self.shared.end(Phase::Closing);
        self.shared.freed.notify_waiters();
        self.shared.version.send_modify(|version| *version += 1);
    }

    /// What each lane holds that is not empty.
    pub fn held(&self) -> Vec<LaneHeld> {
        let state = self.shared.lock();
        let held = state.lanes.iter().filter(|(_, lane)| !lane.is_empty());
        held.map(|(key, lane)| LaneHeld {
            lane: key.clone(),
            messages: lane.messages,
            bytes: lane.bytes,
            oldest: lane.oldest().map(|came| self.shared.clock.since(Some(came))),
        })
        .collect()
    }

    /// The messages that wait, and how many lanes they are in.
    pub(crate) fn waiting(&self) -> (u64, usize) {
        let state = self.shared.lock();
        let lanes = state.lanes.values().map(|lane| lane.messages).filter(|messages| *messages > 0);
        lanes.fold((0, 0), |(all, lanes), messages| (all + messages, lanes + 1))
    }

    /// What it holds.
    pub fn usage(&self) -> Usage {
        let state = self.shared.lock();
        Usage {
            bytes: state.bytes,
            max_bytes: self.shared.max_bytes,
            messages: state.lanes.values().map(|lane| lane.messages).sum(),
            waited: Duration::from_micros(self.shared.waited.load(Relaxed)),
            runs: state.lanes.values().map(|lane| lane.runs() + lane.known.len() + lane.partly.len()).sum(),
            remembered: state.windows.held(),
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close_begins();
        self.shared.end(Phase::Ending);
        self.shared.ending.notify_one();
        match self.syncer.take() {
            Some(syncer) => syncer.end(&self.shared),
            // Progress alone is not synced. If that fails, some messages may be delivered again.
            None => drop(self.shared.lock().active.as_ref().map(|active| active.file.sync())),
        }
    }
}

/// Whether a record may be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Now, with those after it that arrived before this time of the spool, if given.
    Now(Option<u64>),
    /// Once the record with this sequence in another lane is settled.
    Behind(LaneKey, u64),
}

/// Creates windows for as many messages as a checkpoint, with which every segment begins, should hold.
pub(in crate::spool) fn windows(segment_bytes: u64) -> Windows {
    Windows::new(usize::try_from(segment_bytes / 64).unwrap_or(REMEMBERED).clamp(64, REMEMBERED))
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages in {} lanes wait to be delivered", self.messages, self.lanes)?;
        self.damages.iter().try_for_each(|damage| write!(f, "; {damage}"))
    }
}
