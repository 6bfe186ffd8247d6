//! The sink: what the runtime opens, feeds and closes, and the whole way of a batch.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use iggy_connector_sdk::{BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    batch::{Batch, written_payload},
    config::{Config, Ordering},
    deliver::{Delivery, Patience, Settled},
    encode::{Bodies, Body, Encoded, Refusal},
    executor::Executor,
    plan,
    settle::{Account, DeadLetters, Failure, Ledger, Outcome, settle},
    telemetry::Counters,
    turns::Turns,
};

/// How much longer than `close_timeout` a close waits for requests that were cut off to be settled.
const SETTLE_GRACE: Duration = Duration::from_secs(1);

/// The configuration as it crosses the ABI. It is checked in `open`, where every problem can be told
/// at once.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct HttpSinkConfig(serde_json::Value);

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
    /// Set once close begins: when it must be over.
    closing: watch::Sender<Option<Instant>>,
    /// `None` before open and after close.
    open: Option<Open>,
}

/// What there is between open and close.
#[derive(Debug)]
struct Open {
    config: Config,
    delivery: Arc<Delivery>,
    counters: Arc<Counters>,
    turns: Turns,
    dead_letters: Option<DeadLetters>,
    executor: Executor,
}

impl HttpSink {
    /// A sink that is not open yet.
    pub fn new(id: u32, config: HttpSinkConfig) -> Self {
        Self { id, config, closing: watch::Sender::new(None), open: None }
    }

    /// The whole way of a batch: every message of it ends delivered, as a dead letter, or failed.
    async fn process(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let account = self.account(batch).await?;
        let open = self.open()?;
        let sums =
            settle(batch, account, open.dead_letters.as_ref(), open.delivery.label(), &open.executor).await;
        open.counters.settled(sums);
        if sums.failed == 0 {
            return Ok(());
        }
        Err(Error::HttpRequestFailed(format!("{} of {} messages failed", sums.failed, batch.messages.len())))
    }

    fn open(&self) -> Result<&Open, Error> {
        self.open.as_ref().ok_or_else(|| Error::InitError("consume was called before open".to_owned()))
    }

    /// The way of a batch until it is known what became of each message: plan, encode, deliver.
    pub(crate) async fn account(&self, batch: &Batch<'_>) -> Result<Account, Error> {
        let open = self.open()?;
        let mut ledger = Ledger::of(batch);
        let patience = Patience::from_now(open.config.retry.max_duration, self.closing.subscribe());
        let unordered = open.config.ordering == Ordering::None;
        let _turn = if unordered { None } else { Some(open.turns.take(batch).await) };
        open.delivery.refresh();

        // Each lane is encoded here and delivered on the connector's thread, one large body or many small
        // ones behind. Without an order more may be under way than there are slots: those that wait for a
        // retry hold none, and must not hold the others up.
        let side_by_side = if unordered { open.config.concurrency.max().get() } else { 1 };
        let (ahead, spare) =
            if open.config.body.mode.batches() { (1, 4) } else { (side_by_side.max(32) * 2, 64) };
        let under_way = if unordered { (side_by_side * 2).max(spare) } else { 1 };
        let mut lanes: FuturesUnordered<_> = plan::lanes(batch, &open.config)
            .into_iter()
            .map(|lane| {
                let (bodies, queued) = mpsc::channel(ahead);
                let work = work(open.delivery.clone(), queued, patience.clone(), under_way);
                let working = open.executor.spawn(work);
                async move {
                    let refused = encode(open, Bodies::of(batch, lane, &open.config.body), bodies).await;
                    (refused, working.await)
                }
            })
            .collect();
        while let Some((refused, delivered)) = lanes.next().await {
            for (message, refusal) in refused {
                ledger.settle(vec![message], Outcome::Failed(Failure::from(refusal)));
            }
            match delivered {
                Ok(settled) => {
                    for (messages, outcome) in settled {
                        ledger.settle(messages, outcome);
                    }
                }
                // The ledger knows the messages that have no outcome now.
                Err(why) => error!("connector {}: delivery stopped: {why}", self.id),
            }
        }

        Ok(ledger.close())
    }
}

/// Encodes a lane, body by body, as fast as they are taken. Returns the messages that are in none.
async fn encode(open: &Open, mut lane: Bodies<'_>, bodies: mpsc::Sender<Body>) -> Vec<(usize, Refusal)> {
    let mut refused = Vec::new();
    // When nobody takes bodies any more, delivery is gone, and the ledger counts what it left.
    while let Ok(place) = bodies.reserve().await {
        match lane.next_within(open.delivery.body_limit()) {
            Some(Encoded::Body(body)) => place.send(body),
            Some(Encoded::Refused(message, refusal)) => refused.push((message, refusal)),
            None => break,
        }
    }
    refused
}

/// Delivers the bodies of a lane, so many at once, whatever becomes of those before.
async fn work(
    delivery: Arc<Delivery>,
    mut bodies: mpsc::Receiver<Body>,
    patience: Patience,
    at_once: usize,
) -> Vec<Settled> {
    let mut settled = Vec::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(body) = bodies.recv(), if under_way.len() < at_once => {
                under_way.push(delivery.deliver(body, &patience));
            }
            Some(outcomes) = under_way.next() => settled.extend(outcomes),
            else => return settled,
        }
    }
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
            let status = executor
                .spawn(async move { checked.health_check(method).await })
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
        self.open =
            Some(Open { config, delivery, counters, turns: Turns::default(), dead_letters, executor });
        Ok(())
    }

    async fn consume(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: Vec<ConsumedMessage>,
    ) -> Result<(), Error> {
        let written = messages
            .into_iter()
            .map(|message| written_payload(&message.payload).map(|(schema, bytes)| (message, schema, bytes)))
            .collect::<Result<Vec<_>, _>>()?;
        self.process(&Batch::decoded(topic, &metadata, &written)).await
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
        self.closing.send_replace(Some(Instant::now() + timeout));
        timeout + SETTLE_GRACE
    }

    async fn close(&mut self) -> Result<(), Error> {
        if let Some(open) = self.open.take() {
            info!("connector {} is closed: {}", self.id, open.counters);
        }
        Ok(())
    }
}
