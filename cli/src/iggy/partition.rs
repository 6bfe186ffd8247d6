//! Reads one partition: polls, settles and stores the offset, batch after batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use iggy::prelude::{PolledMessages, PollingStrategy};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::terminal::log::{self, Level};

use super::{
    backoff::{Backoff, asked, pause},
    batch::Batch,
    session::{Session, Trouble},
    topic::Topic,
};

/// The longest pause between two attempts at a batch that consume did not settle. The sink has retried for long before it
/// reports that.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// If there is an end: after how many empty polls it counts as reached, if messages were removed.
const EMPTY_POLLS: u32 = 3;
/// How long the offset is kept separately after the group was recreated, in case that happens again.
const KEPT: Duration = Duration::from_secs(30);

/// Why a partition is not read any further.
#[derive(Debug)]
pub(super) enum End {
    /// It was asked to end: another member takes over, or the host stops.
    Asked,
    /// It was read to the requested end.
    Finished,
    /// There is such an end, but a batch before it was not settled.
    Failed,
    /// The connection, or the membership in the group, is lost.
    Trouble(Trouble),
    /// The plugin does not work at all.
    Broken(String),
}

/// How long storing an offset may take, also at the end.
const STORING: Duration = Duration::from_secs(10);
const STORING_LAST: Duration = Duration::from_secs(2);

/// How far a partition is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Without an end.
    Never,
    /// Up to this offset.
    Offset(u64),
    /// It had no messages to read.
    Nothing,
}

impl Limit {
    /// Whether a partition has been read to its end, given the last offset that was read.
    fn is_reached(self, last: Option<u64>) -> bool {
        match self {
            Self::Never => false,
            Self::Offset(end) => last.is_some_and(|last| last >= end),
            Self::Nothing => true,
        }
    }
}

/// Reads one partition as long as it belongs to this member.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) topic: Arc<Topic>,
    pub(super) session: Arc<Session>,
    pub(super) partition: u32,
    pub(super) limit: Limit,
    /// True once no more is to be read.
    pub(super) over: watch::Receiver<bool>,
}

impl Worker {
    pub(super) async fn run(&self) -> End {
        self.read().await.err().unwrap_or(End::Asked)
    }

    /// Only returns `Ok` if it was asked to end.
    async fn read(&self) -> Result<(), End> {
        // The start: after the stored offset, or else at a given place, if any.
        let mut from = PollingStrategy::next();
        let restore = self.unless_over(self.session.restore(self.partition)).await;
        let stored = restore.ok_or(End::Asked)?.map_err(End::Trouble)?;
        self.finished_by(stored)?;
        if let (None, Some(replay)) = (stored, self.topic.shared.replay) {
            from = replay.strategy();
        }
        let mut kept_since = Some(Instant::now());
        let mut ahead: Option<Batch> = None;
        let mut empty_polls = 0;
        loop {
            if kept_since.take_if(|since| since.elapsed() > KEPT).is_some() {
                self.unless_over(self.session.forget_kept(self.partition)).await;
            }
            let mut batch = match ahead.take() {
                // Also when it is over: the server reassigns a partition only when everything read from it is settled.
                Some(mut batch) if !*self.topic.shared.stop.borrow() => {
                    // More may have come since it was read.
                    batch.goes_on = true;
                    batch
                }
                _ if *self.over.borrow() => return Ok(()),
                _ => {
                    let Some(polled) = self.unless_over(self.poll(&from)).await else { return Ok(()) };
                    let polled = polled.map_err(End::Trouble)?;
                    let current = polled.current_offset;
                    if let Some(batch) = self.batch(polled) {
                        batch
                    } else {
                        empty_polls += 1;
                        if empty_polls >= EMPTY_POLLS && self.limit.is_reached(Some(current)) {
                            return Err(End::Finished);
                        }
                        pause(self.topic.config.poll_interval, &mut self.over.clone()).await;
                        continue;
                    }
                }
            };
            empty_polls = 0;
            self.fill(&mut batch).await;
            let batch = Arc::new(batch);
            let (settled, following) = tokio::join!(self.settle(&batch), self.look_ahead(&batch));
            settled?;
            self.store(&batch).await?;
            ahead = following;
            from = PollingStrategy::next();
        }
    }

    /// Returns what the server answers; `None` once nothing more should be read: a server that does not answer must not block
    /// that.
    async fn unless_over<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut over = self.over.clone();
        tokio::select! {
            answer = answer => Some(answer),
            () = asked(&mut over) => None,
        }
    }

    /// Ends if everything up to the end is stored already.
    fn finished_by(&self, stored: Option<u64>) -> Result<(), End> {
        if self.limit.is_reached(stored) { Err(End::Finished) } else { Ok(()) }
    }

    async fn poll(&self, from: &PollingStrategy) -> Result<PolledMessages, Trouble> {
        let count = u32::try_from(self.topic.config.batch_length.get()).unwrap_or(u32::MAX);
        self.session.poll(self.partition, from, count).await
    }

    /// Reads the next batch while this one is being delivered, if there certainly is one.
    async fn look_ahead(&self, batch: &Batch) -> Option<Batch> {
        if !batch.goes_on {
            return None;
        }
        let mut following = self.poll_behind(batch).await?;
        self.fill(&mut following).await;
        Some(following)
    }

    /// Appends the messages that wait behind a batch while one request has room for them: however few messages a poll
    /// returns, they are sent together.
    async fn fill(&self, batch: &mut Batch) {
        let Some(room) = self.topic.shared.body else { return };
        while batch.goes_on && batch.len() < room.messages && batch.bytes() < room.bytes {
            match self.poll_behind(batch).await {
                Some(behind) => batch.append(behind),
                None => batch.goes_on = false,
            }
        }
    }

    /// Polls the messages after a batch, unless nothing more should be read.
    async fn poll_behind(&self, batch: &Batch) -> Option<Batch> {
        if self.limit.is_reached(Some(batch.last)) || *self.over.borrow() {
            return None;
        }
        // If this fails, the next poll fails too.
        let polled = self.unless_over(self.poll(&PollingStrategy::offset(batch.last + 1))).await?.ok()?;
        self.batch(polled).filter(|following| following.first > batch.last)
    }

    fn batch(&self, polled: PolledMessages) -> Option<Batch> {
        Batch::new(self.partition, polled, self.topic.config.batch_length.get())
    }

    /// Passes the batch to the plugin until it is settled.
    async fn settle(&self, batch: &Arc<Batch>) -> Result<(), End> {
        let shared = &self.topic.shared;
        let names = &self.topic.names;
        let what = format!("{names}, partition {}", self.partition);
        let mut backoff = Backoff::new(what.clone(), LONGEST_PAUSE);
        loop {
            let code = self.consume(batch).await?;
            match code {
                0 => break,
                // It was no longer accepted, or not settled within close_timeout.
                _ if shared.plugin.is_closed() => return Err(End::Asked),
                1 => {}
                code => {
                    return Err(End::Broken(format!(
                        "{what}: the plugin does not work (consume returned {code})"
                    )));
                }
            }
            let Batch { first, last, .. } = **batch;
            shared.outcome().failed(names, self.partition, first, last);
            let why = format!("offsets {first} to {last} were not settled, the sink's log says why");
            if shared.once {
                log::line(Level::Warn, &format!("{what}: {why}: nothing of them is stored"));
                return Err(End::Failed);
            }
            if !pause(backoff.failed(&why), &mut self.over.clone()).await {
                return Err(End::Asked);
            }
        }
        backoff.worked();
        let messages = shared.outcome().settled(names, self.partition, batch.first, batch.len() as u64);
        shared.progress.set(messages);
        Ok(())
    }

    /// Returns what consume returns. It blocks, so it has its own thread.
    async fn consume(&self, batch: &Arc<Batch>) -> Result<i32, End> {
        let (topic, batch) = (Arc::clone(&self.topic), Arc::clone(batch));
        spawn_blocking(move || batch.consume(&topic.shared.plugin, &topic.metadata, topic.config.schema))
            .await
            .map_err(|why| End::Broken(format!("a thread ended before its time: {why}")))
    }

    /// Stores that the batch is settled.
    async fn store(&self, batch: &Batch) -> Result<(), End> {
        let names = &self.topic.names;
        let mut over = self.over.clone();
        let stored = tokio::select! {
            stored = self.session.store(self.partition, batch.last) => stored,
            () = sleep(STORING) => Err(Trouble::Late),
            () = async { asked(&mut over).await; sleep(STORING_LAST).await } => Err(Trouble::Late),
        };
        stored.map_err(|trouble| {
            let Batch { first, last, .. } = *batch;
            let partition = self.partition;
            log::line(
                Level::Warn,
                &format!(
                    "{names}, partition {partition}: offsets {first} to {last} are settled, but that could not be stored \
                     ({trouble}): they are sent again"
                ),
            );
            End::Trouble(trouble)
        })?;
        self.topic.shared.outcome().stored(names, self.partition, batch.last);
        self.finished_by(Some(batch.last))
    }
}
