//! Delivery behind a spool: takes what is stored, lane by lane, through the pipeline, and writes down what is settled.
//!
//! What has to be sent again waits on disk and not in memory: its record is let go, and read once more when its time has
//! come. In order ([`strict`]) all of the lane waits behind it, otherwise ([`parking`]) the messages themselves, or their
//! keys, wait alone.

mod budget;
mod parked;
mod parking;
mod progress;
mod strict;
mod window;

use std::{
    collections::HashSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{runtime::Builder, task, time::Instant};
use tracing::{error, warn};

use self::{
    budget::{Admission, Budget, Share},
    progress::{InSpool, Selection, Shared},
    window::{Index, Kind, Window},
};
use crate::{
    batch::Batch,
    config::{Config, Ordering},
    each_minute::EachMinute,
    pipeline::Pipeline,
    plan,
    settle::Account,
    spool::{LaneKey, Record, Spool, SpoolError},
};

/// The waits before what could not be settled is tried again: the first, doubled each time, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The memory for the records of all lanes that are on their way, and how much of it one takes: its own bytes, those of its
/// bodies, and what tells its messages apart.
const MEMORY: usize = 64 * 1024 * 1024;
const OF_RECORD: usize = 3;

/// Why messages wait whose dead letters failed.
const UNWRITTEN: &str = "its dead letter cannot be written";

/// How many parked messages of all lanes are known in memory; with more, no further record is read.
const MOST_PARKED: usize = 100_000;

/// What encodes what is stored: a thread, or in a simulated world a task.
#[derive(Debug)]
pub(crate) enum Drain {
    Thread(thread::JoinHandle<()>),
    Task(task::JoinHandle<()>),
}

impl Drain {
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(name: String, pipeline: Arc<Pipeline>, spool: Arc<Spool>) -> io::Result<Self> {
        if !pipeline.world.is_real() {
            return Ok(Self::Task(task::spawn(async move { Lanes::of(pipeline, spool).run().await })));
        }
        let executor = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            let run = || executor.block_on(Lanes::of(pipeline.clone(), spool.clone()).run());
            // Nothing in memory outlives a panic but the spool and the pipeline, which bear one.
            while catch_unwind(AssertUnwindSafe(run)).is_err() {
                error!("delivery from the spool has panicked, and begins anew with what is stored");
                if pipeline.is_closing() {
                    break;
                }
                // What it had under way must not go on beside what begins anew.
                executor.block_on(pipeline.all_stopped());
                thread::sleep(WAITS.0);
            }
        })?;
        Ok(Self::Thread(thread))
    }

    /// Waits until what is under way has ended, once the connector is being closed: then nothing more begins.
    pub(crate) async fn join(self) {
        match self {
            // Its panics are caught.
            Self::Thread(thread) => drop(thread.join()),
            Self::Task(task) => task.await.expect("a panic ends a simulation"),
        }
    }
}

/// All lanes of a spool.
struct Lanes {
    pipeline: Arc<Pipeline>,
    spool: Arc<Spool>,
    budget: Arc<Budget>,
    /// How many messages are parked, in all lanes.
    parked: AtomicUsize,
    /// That messages stay whose dead letters cannot be written.
    unwritten: EachMinute,
}

/// A record that is in memory.
struct Opened {
    record: Record,
    /// What its messages have in common with others that may share bodies with them.
    kind: Option<Kind>,
    _memory: Share,
}

impl Lanes {
    fn of(pipeline: Arc<Pipeline>, spool: Arc<Spool>) -> Self {
        let budget = Budget::of(MEMORY, &pipeline.world);
        Self { pipeline, spool, budget, parked: AtomicUsize::new(0), unwritten: EachMinute::default() }
    }

    async fn run(&self) {
        let mut version = self.spool.subscribe();
        let mut lanes = FuturesUnordered::new();
        let mut under_way = HashSet::new();
        loop {
            version.mark_unchanged();
            for lane in self.spool.lanes() {
                if under_way.insert(lane.clone()) {
                    lanes.push(async move {
                        match self.terms(&lane).ordering {
                            Ordering::Partition => self.deliver_in_order(&lane).await,
                            Ordering::Key(_) | Ordering::None => self.deliver_side_by_side(&lane).await,
                        }
                        lane
                    });
                }
            }
            tokio::select! {
                biased;
                () = self.pipeline.closing() => break,
                Some(lane) = lanes.next() => {
                    under_way.remove(&lane);
                }
                // The spool outlives this, so there is no error.
                _ = version.changed() => {}
            }
        }
        while lanes.next().await.is_some() {}
    }

    /// Reads the first unsettled record behind the one with this sequence.
    fn open_next(
        &self,
        lane: &LaneKey,
        after: u64,
        admission: &Admission,
    ) -> Result<Option<Opened>, SpoolError> {
        Ok(self.spool.next(lane, after)?.map(|record| Opened::of(record, admission)))
    }

    /// Reads a record once more.
    fn open_again(
        &self,
        lane: &LaneKey,
        sequence: u64,
        admission: &Admission,
    ) -> Result<Option<Opened>, SpoolError> {
        Ok(self.spool.again(lane, sequence)?.map(|record| Opened::of(record, admission)))
    }

    /// Delivers the selected messages of some records.
    async fn deliver(
        &self,
        window: &Window,
        index: &Index,
        selection: &Selection,
        keys: Option<(&[u64], &Shared)>,
    ) -> Result<Account, SpoolError> {
        let stored = window.decode()?;
        self.pipeline.counters.together(window.records().count());
        let batch = Batch::borrowed(&stored.topic, &stored.metadata, &stored.messages);
        let deadline = self.pipeline.deadline(batch.stream, batch.topic, window.age()).of_kept();
        let progress = InSpool::of(&self.spool, window, index, selection, keys);
        let dead_letters = self.pipeline.dead_letters.as_ref();
        let account = self.pipeline.account(&batch, deadline, dead_letters, Some(&progress)).await;
        self.pipeline.counters.settled(&batch, account.ended());
        if !account.unwritten.is_empty()
            && !self.pipeline.is_closing()
            && let Some(times) = self.unwritten.happened(Instant::now())
        {
            warn!(
                "{}: {} messages are neither delivered nor dead letters, and stay in the spool{times}",
                window.lane(),
                account.unwritten.len()
            );
        }
        Ok(account)
    }

    /// The key of each of these messages by its index, where keys are kept in order.
    fn keys(&self, window: &Window, messages: &[usize]) -> Result<Vec<u64>, SpoolError> {
        let Ordering::Key(template) = &self.terms(window.lane()).ordering else { return Ok(Vec::new()) };
        let stored = window.decode()?;
        let batch = Batch::borrowed(&stored.topic, &stored.metadata, &stored.messages);
        let mut keys = vec![0; stored.messages.len()];
        for &message in messages {
            keys[message] = plan::hash(&template.key(&batch, &stored.messages[message]));
        }
        Ok(keys)
    }

    /// What applies to the messages of a lane.
    fn terms(&self, lane: &LaneKey) -> &Config {
        self.pipeline.terms(lane.stream(), lane.topic())
    }

    fn may_park_more(&self) -> bool {
        self.parked.load(Relaxed) < MOST_PARKED
    }
}

impl Opened {
    fn of(record: Record, admission: &Admission) -> Self {
        let memory = admission.take(record.length() * OF_RECORD);
        let kind = record.metadata().ok().map(|metadata| (metadata.partition_id, metadata.schema));
        Self { record, kind, _memory: memory }
    }

    /// The sequence up to which messages were sent together with its own; its own at least.
    fn together(&self) -> u64 {
        let bodies = self.record.bodies().iter().filter_map(|body| body.last());
        bodies.map(|(last, _)| *last).fold(self.record.sequence, u64::max)
    }
}
