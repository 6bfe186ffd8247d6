//! Delivery behind a spool: takes what is stored, lane by lane, through the pipeline, and writes down what is settled.

use std::{
    collections::HashSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::runtime::Builder;
use tracing::{error, warn};

use crate::{
    batch::Batch,
    config::Ordering,
    pipeline::Pipeline,
    settle::{self, Progress},
    spool::{LaneKey, Record, Spool, SpoolError},
};

/// The waits before what could not be settled is tried again: the first, doubled each time, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The thread that encodes what is stored.
#[derive(Debug)]
pub(crate) struct Drain {
    thread: thread::JoinHandle<()>,
}

impl Drain {
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(name: String, pipeline: Arc<Pipeline>, spool: Arc<Spool>) -> io::Result<Self> {
        let executor = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            let run = || executor.block_on(Lanes { pipeline: &pipeline, spool: &spool }.run());
            // Nothing in memory outlives a panic but the spool and the pipeline, which bear one.
            while catch_unwind(AssertUnwindSafe(run)).is_err() {
                error!("delivery from the spool has panicked, and begins anew with what is stored");
                if pipeline.is_closing() {
                    break;
                }
                thread::sleep(WAITS.0);
            }
        })?;
        Ok(Self { thread })
    }

    /// Waits until what is under way has ended, once the connector is being closed: then nothing more begins.
    pub(crate) fn join(self) {
        // Its panics are caught.
        let _ = self.thread.join();
    }
}

struct Lanes<'d> {
    pipeline: &'d Pipeline,
    spool: &'d Spool,
}

impl Lanes<'_> {
    async fn run(&self) {
        let mut news = self.spool.news();
        let mut lanes = FuturesUnordered::new();
        let mut under_way = HashSet::new();
        loop {
            news.mark_unchanged();
            for lane in self.spool.lanes() {
                if under_way.insert(lane.clone()) {
                    lanes.push(async move {
                        self.lane(&lane).await;
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
                _ = news.changed() => {}
            }
        }
        while lanes.next().await.is_some() {}
    }

    /// Delivers what is stored in a lane, in order unless none is asked for.
    async fn lane(&self, lane: &LaneKey) {
        let at_once = match self.pipeline.config.ordering {
            Ordering::None => self.pipeline.config.concurrency.max().get() + 1,
            Ordering::Partition | Ordering::Key(_) => 1,
        };
        let mut records = FuturesUnordered::new();
        let (mut after, mut left, mut wait) = (0, false, WAITS.0);
        loop {
            while records.len() < at_once && !left && !self.pipeline.is_closing() {
                match self.spool.next(lane, after) {
                    Ok(Some(record)) => {
                        after = record.sequence;
                        records.push(self.record(record));
                    }
                    Ok(None) => break,
                    Err(why) => {
                        error!("{lane}: what is stored cannot be read: {why}");
                        left = true;
                    }
                }
            }
            match records.next().await {
                Some(Ok(0)) => wait = WAITS.0,
                Some(Ok(messages)) => {
                    left = true;
                    if !self.pipeline.is_closing() {
                        warn!(
                            "{lane}: {messages} messages are neither delivered nor dead letters, and stay in the spool"
                        );
                    }
                }
                Some(Err(why)) => {
                    left = true;
                    error!("{lane}: {why}");
                }
                None if left && !self.pipeline.is_closing() => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.pipeline.closing() => return,
                    }
                    (after, left, wait) = (0, false, (wait * 2).min(WAITS.1));
                }
                None => return,
            }
        }
    }

    /// Delivers a record. Returns how many of its messages are left in the spool.
    async fn record(&self, record: Record) -> Result<usize, SpoolError> {
        let stored = record.decode()?;
        let batch = Batch::borrowed(&stored.topic, &stored.metadata, &stored.messages);
        let ago = SystemTime::now().duration_since(stored.accepted).unwrap_or_default();
        let patience = self.pipeline.patience(ago).of_kept();
        let progress = InSpool { spool: self.spool, record: &record };
        let account =
            self.pipeline.account(&batch, patience, self.pipeline.dead_letters.as_ref(), Some(&progress));
        let account = account.await;
        settle::report(&batch, &account);
        self.pipeline.counters.settled(&account);
        Ok(account.left)
    }
}

/// A record whose messages are being settled.
#[derive(Debug)]
struct InSpool<'r> {
    spool: &'r Spool,
    record: &'r Record,
}

impl Progress for InSpool<'_> {
    fn is_settled(&self, message: usize) -> bool {
        u32::try_from(message).is_ok_and(|message| self.record.is_settled(message))
    }

    fn settled(&self, messages: &[usize]) {
        // A record has no more messages than fit.
        let messages: Vec<u32> = messages.iter().filter_map(|&message| u32::try_from(message).ok()).collect();
        if let Err(why) = self.spool.settle(&self.record.lane, self.record.sequence, &messages) {
            error!("{}: {why}: after a crash {} messages are sent again", self.record.lane, messages.len());
        }
    }
}
