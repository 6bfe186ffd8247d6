//! The sink: what the runtime opens, feeds and closes.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use iggy_connector_sdk::{
    BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata, shown,
};
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use crate::{
    abandoned,
    batch::{Batch, LONGEST_NAME, Written},
    config::{self, Config, Ordering, SpoolConfig},
    drain::Drain,
    failure::{Failure, Reason},
    observe,
    pipeline::{Closing, Pipeline, time_for_requests},
    spool::{self, Accepted, LanesBy, Options, Spool, SpoolError, SyncMode},
    status::{Board, Registration},
    world::World,
};

/// The wait before a batch is stored again after there was no file descriptor.
const STORED_AGAIN: Duration = Duration::from_millis(20);
/// How often that is logged while it continues.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How much longer than `close_timeout` close waits for messages that are being settled.
const WRITING: Duration = Duration::from_secs(10);

/// The configuration as it crosses the ABI. It is checked in `open`, which can log every problem at once.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct HttpSinkConfig(serde_json::Value);

impl fmt::Debug for HttpSinkConfig {
    /// It may contain literal credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpSinkConfig(…)")
    }
}

impl From<serde_json::Value> for HttpSinkConfig {
    fn from(config: serde_json::Value) -> Self {
        Self(config)
    }
}

/// Delivers batches to an HTTP endpoint.
#[derive(Debug)]
pub struct HttpSink {
    id: u32,
    config: HttpSinkConfig,
    world: World,
    /// Set once close begins: when requests in flight are aborted.
    cut_off: watch::Sender<Option<Instant>>,
    /// Set once close begins: when dead letters in flight are aborted.
    closing: watch::Sender<Option<Instant>>,
    /// `None` before open and after close.
    pipeline: Option<Arc<Pipeline>>,
    /// The spool that keeps batches until the pipeline takes them, if it is configured.
    spooled: Option<Spooled>,
    /// The status page, if it is configured.
    status: Option<Registration>,
}

/// A spool, and the drain that delivers what is in it.
#[derive(Debug)]
struct Spooled {
    spool: Arc<Spool>,
    drain: Drain,
}

impl HttpSink {
    /// A sink that is not open yet.
    pub fn new(id: u32, config: HttpSinkConfig) -> Self {
        Self::in_world(id, config, World::real())
    }

    /// A sink that is not open yet, in a world other than the real one.
    pub fn in_world(id: u32, config: HttpSinkConfig, world: World) -> Self {
        Self {
            id,
            config,
            world,
            cut_off: watch::Sender::new(None),
            closing: watch::Sender::new(None),
            pipeline: None,
            spooled: None,
            status: None,
        }
    }

    /// Stores a batch, to be delivered later; or, without a spool, delivers it now, so that each of its messages is
    /// delivered, becomes a dead letter, or fails.
    async fn process(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> Result<(), Error> {
        let pipeline = self.pipeline()?;
        let batch = Batch::borrowed(topic, &metadata, messages);
        let dead_letters = pipeline.dead_letters.as_ref();
        let stored = match &self.spooled {
            Some(Spooled { spool, .. }) => {
                let _blocked = pipeline.counters.blocked("spool", &batch);
                let lanes = lanes_by(&pipeline.terms(batch.stream, batch.topic).ordering);
                Some(self.store(spool, lanes, topic, &metadata, messages).await)
            }
            None => None,
        };
        let account = match stored {
            None => {
                let _blocked = pipeline.counters.blocked("delivery", &batch);
                let _held = pipeline.counters.hold(messages.len());
                let deadline = pipeline.deadline(batch.stream, batch.topic, Duration::ZERO);
                pipeline.account(&batch, deadline, dead_letters, None).await
            }
            Some(Ok(accepted)) => {
                if accepted.repeats > 0 {
                    info!(
                        "connector {}: {} of {} messages of stream {}, topic {}, partition {} were stored before",
                        self.id,
                        accepted.repeats,
                        messages.len(),
                        shown(batch.stream, LONGEST_NAME),
                        shown(batch.topic, LONGEST_NAME),
                        batch.partition_id
                    );
                }
                return Ok(());
            }
            Some(Err(why)) => {
                // The caller can send them again; only if there is no space, they become dead letters.
                let no_room = matches!(
                    why,
                    SpoolError::Full { .. }
                        | SpoolError::OverShare { .. }
                        | SpoolError::NoSpace(_)
                        | SpoolError::TooLarge { .. }
                );
                if no_room {
                    pipeline.counters.shed(&batch);
                }
                let failure =
                    Failure { reason: Reason::NotStored, status: None, detail: why.to_string(), attempts: 0 };
                pipeline.give_up(&batch, failure, dead_letters.filter(|_| no_room), None).await
            }
        };
        pipeline.counters.settled(&batch, account.ended());
        match account.failed() {
            0 => Ok(()),
            failed => {
                Err(Error::HttpRequestFailed(format!("{failed} of {} messages failed", messages.len())))
            }
        }
    }

    /// Stores a batch. While this machine has no descriptor for that, consume waits, as for space.
    async fn store(
        &self,
        spool: &Spool,
        lanes: LanesBy,
        topic: &TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> Result<Accepted, SpoolError> {
        let mut logged: Option<Instant> = None;
        loop {
            match spool.accept_by(lanes, topic, metadata, messages, self.world.now()).await {
                Err(why) if why.is_shortage() && self.closing.borrow().is_none() => {
                    if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                        warn!("connector {}: messages wait to be stored: {why}", self.id);
                        logged = Some(Instant::now());
                    }
                    tokio::time::sleep(STORED_AGAIN).await;
                }
                ended => return ended,
            }
        }
    }

    /// Opens the spool that the configuration names, and begins to deliver what is in it.
    fn open_spool(&self, config: &SpoolConfig, pipeline: &Arc<Pipeline>) -> Result<Spooled, Error> {
        let options = Options {
            path: config.path.clone(),
            max_bytes: config.max_bytes,
            when_full: match config.when_full {
                config::WhenFull::Block => spool::WhenFull::Block,
                config::WhenFull::DeadLetter => spool::WhenFull::DeadLetter,
            },
            sync: config.sync.map_or(SyncMode::Batch, SyncMode::Within),
            lanes: lanes_by(&pipeline.config.ordering),
        };
        let (spool, recovery) =
            Spool::open_in(&self.world, &options).map_err(|why| Error::InitError(why.to_string()))?;
        if recovery.damages.is_empty() {
            info!("connector {}: spool {}: {recovery}", self.id, config.path.display());
        } else {
            error!("connector {}: spool {}: {recovery}", self.id, config.path.display());
        }
        let spool = Arc::new(spool);
        pipeline.counters.keep(Arc::downgrade(&spool));
        let drain = Drain::start(format!("http-drain-{}", self.id), pipeline.clone(), spool.clone())
            .map_err(|why| Error::InitError(format!("no thread can be started: {why}")))?;
        Ok(Spooled { spool, drain })
    }

    pub(crate) fn pipeline(&self) -> Result<&Pipeline, Error> {
        self.pipeline.as_deref().ok_or_else(|| Error::InitError("consume was called before open".to_owned()))
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn open(&mut self) -> Result<(), Error> {
        let config = Config::from_json(&self.config.0)
            .map_err(|problems| Error::InvalidConfigValue(problems.to_string()))?;
        let closing = Closing { requests: self.cut_off.subscribe(), dead_letters: self.closing.subscribe() };
        if self.world.is_real() {
            abandoned::check(self.id, &config).map_err(Error::InitError)?;
        }
        let seat = match config.status.as_ref().filter(|_| self.world.is_real()) {
            None => None,
            Some(status) => {
                let seat = Registration::new(self.id, status).map_err(Error::InitError)?;
                info!("connector {}: its status is at http://{}/", self.id, seat.address());
                Some(seat)
            }
        };
        let pipeline =
            Arc::new(Pipeline::open(self.id, config, closing, self.world.clone(), observe::is_on()).await?);
        if let Some(config) = &pipeline.config.spool {
            self.spooled = Some(self.open_spool(config, &pipeline)?);
            if self.world.is_real() {
                abandoned::remember(self.id, &pipeline.config);
            }
        }
        for route in pipeline.routes().all() {
            let (config, label) = (&route.config, route.delivery.label());
            let (method, mode) = (config.endpoint.method, config.body.mode);
            info!("connector {} is open: {method} to {label} in mode {mode}{}", self.id, route.for_topics());
        }
        let board = || {
            let spool = self.spooled.as_ref().map(|spooled| spooled.spool.clone());
            Board::new(self.id, pipeline.clone(), spool)
        };
        if let Some(seat) = &seat {
            seat.show(board());
        }
        if self.world.is_real() {
            observe::opened(self.id, board);
        }
        (self.status, self.pipeline) = (seat, Some(pipeline));
        Ok(())
    }

    async fn consume(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: Vec<ConsumedMessage>,
    ) -> Result<(), Error> {
        self.pipeline()?;
        let written = messages.into_iter().map(Written::of).collect::<Result<Vec<_>, _>>()?;
        let mut result = Ok(());
        for alike in written.chunk_by(|one, next| one.schema() == next.schema()) {
            let metadata = MessagesMetadata { schema: alike[0].schema(), ..metadata };
            let messages: Vec<_> = alike.iter().map(Written::borrowed).collect();
            result = result.and(self.process(topic, metadata, &messages).await);
        }
        result
    }

    async fn consume_borrowed(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> Result<(), Error> {
        self.process(topic, metadata, messages).await
    }

    fn names_failures(&self) -> bool {
        true
    }

    fn begin_close(&self) -> Duration {
        let timeout = self.pipeline.as_ref().map_or(Duration::ZERO, |pipeline| pipeline.close_timeout());
        let (now, for_requests) = (Instant::now(), time_for_requests(timeout));
        self.cut_off.send_replace(Some(now + for_requests));
        self.closing.send_replace(Some(now + timeout - timeout.saturating_sub(for_requests) / 4));
        if let Some(spooled) = &self.spooled {
            spooled.spool.close_begins();
        }
        // Requests end in time; if the disk or the machine is slow, close still waits for letters that are being written.
        timeout + WRITING
    }

    async fn close(&mut self) -> Result<(), Error> {
        let mut spool = None;
        if let Some(spooled) = self.spooled.take() {
            spooled.drain.join().await;
            spool = Some(spooled.spool);
        }
        if let Some(pipeline) = &self.pipeline {
            for delivery in pipeline.routes().endpoints() {
                delivery.log_closed();
            }
            if let Some(dead_letters) = &pipeline.dead_letters {
                dead_letters.log_closed();
            }
        }
        // The status page ends here; from here on nobody else uses the spool or the pipeline.
        drop(self.status.take());
        if self.world.is_real() {
            observe::closed(self.id);
        }
        if let Some(spool) = spool {
            let left = spool.usage().messages;
            if left > 0 {
                info!(
                    "connector {}: {left} messages stay in the spool, and are delivered after the next open",
                    self.id
                );
            }
        }
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.tally.log_all();
            if let Some(tracer) = &pipeline.tracer {
                tracer.flush().await;
            }
            info!("connector {} is closed: {}", self.id, pipeline.counters);
        }
        Ok(())
    }
}

/// Returns what shares a lane of the spool with this order.
fn lanes_by(ordering: &Ordering) -> LanesBy {
    match ordering {
        Ordering::Partition => LanesBy::Partition,
        Ordering::Key(_) => LanesBy::Topic,
        Ordering::None => LanesBy::Label,
    }
}
