//! The sink: what the runtime opens, feeds and closes, and the whole way of a batch.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use iggy_connector_sdk::{BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    batch::{Batch, Written},
    config::{Config, Ordering},
    deliver::{Delivery, Patience, Settled},
    encode::{Bodies, Body, Buffers, Encoded, Refusal},
    executor::Executor,
    plan,
    settle::{self, Account, DeadLetters, Failure, Ledger, Outcome},
    telemetry::Counters,
    turns::Turns,
};

/// The part of `close_timeout` that is kept for settling what was cut off, and the most it can be.
const SETTLING: (u32, Duration) = (4, Duration::from_secs(1));

/// How many bodies are handed over to be delivered at once, as long as they are small: in bytes, no more than that by
/// more than one body.
const MOST_IN_SET: usize = 32;
const LARGEST_SET: usize = 64 * 1024;

/// The configuration as it crosses the ABI. It is checked in `open`, where every problem can be told
/// at once.
#[derive(Deserialize)]
#[serde(transparent)]
pub struct HttpSinkConfig(serde_json::Value);

impl fmt::Debug for HttpSinkConfig {
    /// It may hold credentials as they are.
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
    /// Set once close begins: when requests on their way are cut off.
    cut_off: watch::Sender<Option<Instant>>,
    /// Set once close begins: when dead letters on their way are cut off.
    closing: watch::Sender<Option<Instant>>,
    /// `None` before open and after close.
    open: Option<Open>,
}

/// What there is between open and close.
#[derive(Debug)]
struct Open {
    config: Config,
    buffers: Buffers,
    delivery: Arc<Delivery>,
    counters: Arc<Counters>,
    turns: Turns,
    dead_letters: Option<DeadLetters>,
    executor: Executor,
}

impl HttpSink {
    /// A sink that is not open yet.
    pub fn new(id: u32, config: HttpSinkConfig) -> Self {
        Self { id, config, cut_off: watch::Sender::new(None), closing: watch::Sender::new(None), open: None }
    }

    /// The whole way of a batch: every message of it ends delivered, as a dead letter, or failed.
    async fn process(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let open = self.open()?;
        let account = self.account(batch, open.dead_letters.as_ref()).await?;
        settle::report(batch, &account);
        open.counters.settled(&account);
        match account.failed() {
            0 => Ok(()),
            failed => {
                Err(Error::HttpRequestFailed(format!("{failed} of {} messages failed", batch.messages.len())))
            }
        }
    }

    fn open(&self) -> Result<&Open, Error> {
        self.open.as_ref().ok_or_else(|| Error::InitError("consume was called before open".to_owned()))
    }

    /// Plans, encodes and delivers a batch, and settles each message as soon as its outcome is known.
    pub(crate) async fn account(
        &self,
        batch: &Batch<'_>,
        dead_letters: Option<&DeadLetters>,
    ) -> Result<Account, Error> {
        let open = self.open()?;
        let patience = Patience::from_now(open.config.retry.max_duration, self.cut_off.subscribe());
        let unordered = open.config.ordering == Ordering::None;
        let _turn = if unordered { None } else { Some(open.turns.take(batch).await) };
        let mut ledger = Ledger::of(batch, dead_letters, open.delivery.label());
        open.delivery.refresh();

        // Each lane is encoded here and delivered on the connector's thread. Without an order more may be under way
        // than there are slots: those that wait for a retry hold none, and must not hold the others up.
        let under_way = if unordered {
            let spare = if open.config.body.mode.batches() { 4 } else { 64 };
            (open.config.concurrency.max().get() * 2).max(spare)
        } else {
            1
        };
        let (decided, mut decisions) = mpsc::channel(64);
        let mut lanes: FuturesUnordered<_> = plan::lanes(batch, &open.config)
            .into_iter()
            .map(|lane| {
                let (bodies, queued) = mpsc::channel(1);
                let work = work(open.delivery.clone(), queued, patience.clone(), under_way, decided.clone());
                let working = open.executor.spawn(work);
                async move {
                    let refused =
                        encode(open, Bodies::of(batch, lane, &open.config.body, &open.buffers), bodies).await;
                    (refused, working.await)
                }
            })
            .collect();
        drop(decided);
        loop {
            tokio::select! {
                Some(first) = decisions.recv() => {
                    // What else is known by now is settled with it: dead letters share one sync to disk.
                    let mut known: Vec<Decision> = vec![first];
                    while let Ok(more) = decisions.try_recv() {
                        known.push(more);
                    }
                    let settled = known.iter_mut().flat_map(|decision| std::mem::take(&mut decision.settled));
                    ledger.settle(settled.collect(), &open.executor).await;
                    // Dropping them tells the lanes that they can go on.
                    drop(known);
                }
                Some((refused, worked)) = lanes.next() => {
                    let refused = refused.into_iter().map(|(message, refusal)| {
                        (vec![message], Outcome::Failed(Failure::from(refusal)))
                    });
                    ledger.settle(refused.collect(), &open.executor).await;
                    if let Err(why) = worked {
                        // The ledger knows the messages that have no outcome now.
                        error!("connector {}: delivery stopped: {why}", self.id);
                    }
                }
                else => break,
            }
        }
        Ok(ledger.close(&open.executor).await)
    }
}

/// Outcomes that are known, and a lane that waits until they are settled.
#[derive(Debug)]
struct Decision {
    settled: Vec<Settled>,
    /// Dropped when they are settled.
    _waiting: oneshot::Sender<()>,
}

/// Encodes a lane as fast as its bodies are taken, one large body or many small ones ahead. Returns the messages that
/// are in none.
async fn encode(open: &Open, mut lane: Bodies<'_>, sets: mpsc::Sender<Vec<Body>>) -> Vec<(usize, Refusal)> {
    let mut refused = Vec::new();
    let mut most = 1;
    // When nobody takes bodies any more, delivery is gone, and the ledger counts what it left.
    while let Ok(place) = sets.reserve().await {
        // Waking the other thread costs more than a small body does, so they go over in sets; but the first goes at once.
        let mut set = Vec::with_capacity(most);
        let mut bytes = 0;
        while set.len() < most && bytes < LARGEST_SET {
            match lane.next_within(open.delivery.body_limit()) {
                Some(Encoded::Body(body)) => {
                    bytes += body.bytes.len();
                    set.push(body);
                }
                Some(Encoded::Refused(message, refusal)) => refused.push((message, refusal)),
                None if set.is_empty() => return refused,
                None => break,
            }
        }
        place.send(set);
        most = (most * 2).min(MOST_IN_SET);
    }
    refused
}

/// Delivers the bodies of a lane, so many at once, whatever becomes of those before. In order, a failed
/// one is settled before the next begins.
async fn work(
    delivery: Arc<Delivery>,
    mut sets: mpsc::Receiver<Vec<Body>>,
    patience: Patience,
    at_once: usize,
    decided: mpsc::Sender<Decision>,
) {
    let mut under_way = FuturesUnordered::new();
    let mut delivered: Vec<Settled> = Vec::new();
    let mut bodies = Vec::new().into_iter();
    loop {
        under_way.extend(
            bodies.by_ref().take(at_once - under_way.len()).map(|body| delivery.deliver(body, &patience)),
        );
        tokio::select! {
            Some(set) = sets.recv(), if under_way.len() < at_once => bodies = set.into_iter(),
            Some(outcomes) = under_way.next() => {
                let bad = outcomes.iter().any(|(_, outcome)| *outcome != Outcome::Delivered);
                delivered.extend(outcomes);
                if bad {
                    let settled = decide(&decided, std::mem::take(&mut delivered)).await;
                    if at_once == 1 {
                        // It ends when the other end is dropped.
                        let _ = settled.await;
                    }
                }
            }
            else => break,
        }
    }
    decide(&decided, delivered).await;
}

/// Hands outcomes over to be settled; what is returned ends when they are.
async fn decide(decided: &mpsc::Sender<Decision>, settled: Vec<Settled>) -> oneshot::Receiver<()> {
    let (waiting, ended) = oneshot::channel();
    // When nobody settles any more, the call is over, and nothing is left to be told.
    let _ = decided.send(Decision { settled, _waiting: waiting }).await;
    ended
}

#[async_trait]
impl Sink for HttpSink {
    async fn open(&mut self) -> Result<(), Error> {
        let config = Config::from_json(&self.config.0)
            .map_err(|problems| Error::InvalidConfigValue(problems.to_string()))?;
        for warning in &config.warnings {
            warn!("connector {}: {warning}", self.id);
        }
        let counters = Arc::<Counters>::default();
        let delivery = Arc::new(Delivery::new(&config, counters.clone()).map_err(Error::InitError)?);
        let dead_letters = match &config.dead_letter {
            None => None,
            Some(letters) => Some(
                DeadLetters::open(letters, &config, self.closing.subscribe()).map_err(Error::InitError)?,
            ),
        };
        let executor = Executor::start(format!("http-sink-{}", self.id))
            .map_err(|why| Error::InitError(format!("no thread can be started: {why}")))?;
        if let Some(method) = config.health_check {
            let checked = delivery.clone();
            let patience = Patience::from_now(config.retry.max_duration, self.cut_off.subscribe());
            let status = executor
                .spawn(async move { checked.health_check(method, patience).await })
                .await
                .map_err(|why| Error::InitError(format!("the health check stopped: {why}")))?
                .map_err(|why| Error::Connection(format!("health check failed: {why}")))?;
            info!("connector {}: health check passed with {status}", self.id);
        }
        info!(
            "connector {} is open: {} to {} in mode {}",
            self.id,
            config.endpoint.method,
            delivery.label(),
            config.body.mode
        );
        self.open = Some(Open {
            config,
            buffers: Buffers::default(),
            delivery,
            counters,
            turns: Turns::default(),
            dead_letters,
            executor,
        });
        Ok(())
    }

    async fn consume(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: Vec<ConsumedMessage>,
    ) -> Result<(), Error> {
        self.open()?;
        let written = messages.into_iter().map(Written::of).collect::<Result<Vec<_>, _>>()?;
        let mut result = Ok(());
        for alike in written.chunk_by(|one, next| one.schema() == next.schema()) {
            let metadata = MessagesMetadata { schema: alike[0].schema(), ..metadata };
            let messages: Vec<_> = alike.iter().map(Written::borrowed).collect();
            result = result.and(self.process(&Batch::borrowed(topic, &metadata, &messages)).await);
        }
        result
    }

    async fn consume_borrowed(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> Result<(), Error> {
        self.process(&Batch::borrowed(topic, &metadata, messages)).await
    }

    fn begin_close(&self) -> Duration {
        let timeout = self.open.as_ref().map_or(Duration::ZERO, |open| open.config.close_timeout);
        let settling = (timeout / SETTLING.0).min(SETTLING.1);
        let now = Instant::now();
        self.cut_off.send_replace(Some(now + timeout - settling));
        self.closing.send_replace(Some(now + timeout - settling / 4));
        timeout
    }

    async fn close(&mut self) -> Result<(), Error> {
        if let Some(open) = self.open.take() {
            info!("connector {} is closed: {}", self.id, open.counters);
        }
        Ok(())
    }
}
