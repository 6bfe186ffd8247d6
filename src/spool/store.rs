//! A spool that is open.

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{Mutex as Turn, Notify, watch};

use crate::world::World;

use super::{
    Damage, LaneKey, SpoolError,
    clock::Clock,
    files::{Files, Lock},
    read::Reader,
    recover::{Mend, Recovered, recover},
    state::{Phase, State},
    sync::Syncer,
    window::{Topic, Windows},
};

/// So many messages are recognised when they come again. A checkpoint takes 8 bytes for each.
const REMEMBERED: usize = 131_072;
/// The sizes of a segment.
const SEGMENT: (u64, u64) = (1024 * 1024, 16 * 1024 * 1024);
/// So many buffers for records are kept, none larger than this.
const BUFFERS: (usize, usize) = (4, 4 * 1024 * 1024);

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
    /// All of a topic: whoever takes records out puts their keys in order.
    Topic,
    /// Batches with the same label, whatever they hold: there is no order.
    Label,
}

/// What happens to a batch while the spool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Consume waits for space.
    Block,
    /// The caller gets [`SpoolError::Full`] at once, and puts it to the dead letters.
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

/// What was found when a spool was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How many messages wait to be delivered.
    pub messages: u64,
    /// In how many lanes.
    pub lanes: usize,
    /// What could not be read. It is told once: it was set aside.
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
    /// The time that batches have waited for room, all together.
    pub waited: Duration,
    /// How many things are kept in memory for what is unsettled. It grows with segments and lanes, and
    /// with what is settled out of order, but not with the messages.
    pub runs: usize,
    /// How many messages are remembered, to recognise them when they come again.
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
    /// How long ago consume took the oldest of them, where its record was read since the spool was opened.
    pub oldest: Option<Duration>,
}

/// A durable queue of batches, in lanes.
#[derive(Debug)]
pub struct Spool {
    pub(super) shared: Arc<Shared>,
    pub(super) turns: Mutex<HashMap<Topic, Arc<Turn<()>>>>,
    pub(super) readers: Mutex<HashMap<LaneKey, Arc<Mutex<Reader>>>>,
    /// Syncs from time to time.
    syncer: Option<Syncer>,
    /// Keeps other owners away; the last to be dropped.
    _lock: Option<Lock>,
}

/// What the threads of a spool share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) max_bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) when_full: WhenFull,
    pub(super) sync: SyncMode,
    pub(super) lanes: LanesBy,
    pub(super) clock: Arc<Clock>,
    pub(super) state: Mutex<State>,
    /// A group of records was written.
    pub(super) committed: Condvar,
    /// There may be space now, or the connector closes.
    pub(super) freed: Notify,
    /// There is something to sync.
    pub(super) unsynced: Notify,
    /// It is time to stop.
    pub(super) ending: Notify,
    /// Counts what consumers of the lanes may wait for.
    pub(super) news: watch::Sender<u64>,
    /// Counts how often nothing was left in a lane.
    pub(super) emptied: watch::Sender<u64>,
    /// The time that batches have waited for room, in microseconds.
    pub(super) waited: AtomicU64,
    /// Memory for records, used again and again.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn end(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = state.phase.max(phase);
    }

    /// Memory for a record.
    pub(super) fn buffer(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_default()
    }

    /// Keeps the memory of a record for another.
    pub(super) fn give_back(&self, buffer: Vec<u8>) {
        let (count, bytes) = BUFFERS;
        let mut buffers = lock(&self.buffers);
        if buffers.len() < count && buffer.capacity() <= bytes {
            buffers.push(buffer);
        }
    }

    /// What is kept of damaged pieces.
    pub(super) fn damaged_limit(&self) -> u64 {
        (self.max_bytes / 16).max(SEGMENT.0)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    /// Opens a spool, and makes it where there is none. What a crash left is there again.
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
            // Nobody else is there.
            return Self::start_in(world, files, None, options);
        }
        let lock = match Lock::take(&options.path).map_err(failed)? {
            Ok(lock) => lock,
            Err(process) => return Err(SpoolError::InUse { path: options.path.clone(), process }),
        };
        Self::start_in(world, files, Some(lock), options)
    }

    #[cfg(test)]
    pub(super) fn start(
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
        // As its records: a segment that is there now must be there after the next crash.
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
            news: watch::Sender::new(0),
            emptied: watch::Sender::new(0),
            waited: AtomicU64::new(0),
            buffers: Mutex::default(),
        });
        let syncer = match options.sync {
            SyncMode::Batch => None,
            SyncMode::Within(interval) => Some(
                Syncer::start(world, shared.clone(), interval)
                    .map_err(SpoolError::io("no thread can be started"))?,
            ),
        };
        let (turns, readers) = (Mutex::default(), Mutex::default());
        Ok((Self { shared, turns, readers, syncer, _lock: lock }, recovery))
    }

    /// The lanes with unsettled records.
    pub fn lanes(&self) -> Vec<LaneKey> {
        let state = self.shared.lock();
        state.lanes.iter().filter(|(_, lane)| !lane.is_empty()).map(|(key, _)| key.clone()).collect()
    }

    /// Changes whenever records were added, and when [`close_begins`](Self::close_begins) was called.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.shared.news.subscribe()
    }

    /// Changes whenever nothing is left in a lane.
    pub fn emptied(&self) -> watch::Receiver<u64> {
        self.shared.emptied.subscribe()
    }

    /// Ends the waiting of batches that wait for space: they are not stored.
    pub fn close_begins(&self) {
        self.shared.end(Phase::Closing);
        self.shared.freed.notify_waiters();
        self.shared.news.send_modify(|news| *news += 1);
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

/// As many messages are remembered as a checkpoint should hold, which every segment begins with.
pub(super) fn windows(segment_bytes: u64) -> Windows {
    Windows::new(usize::try_from(segment_bytes / 64).unwrap_or(REMEMBERED).clamp(64, REMEMBERED))
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages in {} lanes wait to be delivered", self.messages, self.lanes)?;
        self.damages.iter().try_for_each(|damage| write!(f, "; {damage}"))
    }
}
