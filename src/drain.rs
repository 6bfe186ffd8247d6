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
        let mut reading = Reading { spool: self.spool, lane, after: 0, failed: false };
        let (mut ahead, mut left, mut wait) = (None, false, WAITS.0);
        loop {
            let stops = left || reading.failed || self.pipeline.is_closing();
            while !stops
                && records.len() < at_once
                && let Some(record) = ahead.take().or_else(|| reading.next())
            {
                records.push(self.record(record));
            }
            let ended = if ahead.is_none() && !stops {
                tokio::select! {
                    biased;
                    ended = records.next() => ended,
                    // What was just begun is on the wire now: time to read on.
                    () = tokio::task::yield_now() => {
                        ahead = reading.next();
                        records.next().await
                    }
                }
            } else {
                records.next().await
            };
            match ended {
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
                None if (left || reading.failed) && !self.pipeline.is_closing() => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.pipeline.closing() => return,
                    }
                    (ahead, left, wait) = (None, false, (wait * 2).min(WAITS.1));
                    (reading.after, reading.failed) = (0, false);
                }
                None if ahead.is_some() && !self.pipeline.is_closing() => {}
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

/// A lane that is read, record by record.
struct Reading<'l> {
    spool: &'l Spool,
    lane: &'l LaneKey,
    /// The record that was read last.
    after: u64,
    /// The last look at it failed.
    failed: bool,
}

impl Reading<'_> {
    fn next(&mut self) -> Option<Record> {
        match self.spool.next(self.lane, self.after) {
            Ok(record) => {
                self.after = record.as_ref().map_or(self.after, |record| record.sequence);
                record
            }
            Err(why) => {
                error!("{}: what is stored cannot be read: {why}", self.lane);
                self.failed = true;
                None
            }
        }
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
