//! The sink: what the runtime opens, feeds and closes, and the whole way of a batch.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use iggy_connector_sdk::{BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    batch::{Batch, written_payload},
    config::Config,
    deliver::{Delivery, Patience},
    encode::{Bodies, Body, Encoded},
    executor::Executor,
    settle::{Failure, Ledger, Outcome},
    telemetry::Counters,
};

/// How much longer than `close_timeout` a close waits for requests that were cut off to be settled.
const SETTLE_GRACE: Duration = Duration::from_secs(1);

/// The configuration as it crosses the ABI. It is checked in `open`, where every problem can be told
/// at once.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct HttpSinkConfig(serde_json::Value);

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
    executor: Executor,
}

impl HttpSink {
    /// A sink that is not open yet.
    pub fn new(id: u32, config: HttpSinkConfig) -> Self {
        Self { id, config, closing: watch::Sender::new(None), open: None }
    }

    /// The way of a batch: encode, deliver, settle.
    async fn process(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let open = self
            .open
            .as_ref()
            .ok_or_else(|| Error::InitError("consume was called before open".to_owned()))?;
        let mut ledger = Ledger::of(batch);
        let patience = Patience::from_now(open.config.retry.max_duration, self.closing.subscribe());
        open.delivery.refresh();

        // Delivery runs beside encoding, a few bodies behind.
        let ahead = if open.config.body.mode.batches() { 1 } else { 64 };
        let (bodies, queued) = mpsc::channel(ahead);
        let delivered =
            open.executor.spawn(deliver(open.delivery.clone(), open.counters.clone(), queued, patience));
        for encoded in Bodies::of(batch, &open.config.body) {
            match encoded {
                Encoded::Body(body) => {
                    if bodies.send(body).await.is_err() {
                        // Delivery is gone; the ledger counts what it left as failed.
                        break;
                    }
                }
                Encoded::Refused(message, refusal) => {
                    ledger.settle(vec![message], Outcome::Failed(Failure::from(refusal)));
                }
            }
        }
        drop(bodies);
        match delivered.await {
            Ok(outcomes) => {
                outcomes.into_iter().for_each(|(messages, outcome)| ledger.settle(messages, outcome))
            }
            Err(why) => tracing::error!("delivery stopped: {why}"),
        }

        let sums = ledger.close(batch);
        open.counters.settled(sums.delivered, sums.failed);
        if sums.failed == 0 {
            return Ok(());
        }
        Err(Error::HttpRequestFailed(format!("{} of {} messages failed", sums.failed, batch.messages.len())))
    }
}

/// Delivers bodies one after the other, whatever becomes of the one before.
async fn deliver(
    delivery: Arc<Delivery>,
    counters: Arc<Counters>,
    mut bodies: mpsc::Receiver<Body>,
    patience: Patience,
) -> Vec<(Vec<usize>, Outcome)> {
    let mut outcomes = Vec::new();
    while let Some(body) = bodies.recv().await {
        let outcome = delivery.deliver(&body, patience.clone(), &counters).await;
        outcomes.push((body.messages().collect(), outcome));
    }
    outcomes
}

#[async_trait]
impl Sink for HttpSink {
    async fn open(&mut self) -> Result<(), Error> {
        let config = Config::from_json(&self.config.0)
            .map_err(|problems| Error::InvalidConfigValue(problems.to_string()))?;
        for warning in &config.warnings {
            warn!("connector {}: {warning}", self.id);
        }
        let delivery = Arc::new(Delivery::new(&config).map_err(Error::InitError)?);
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
        self.open = Some(Open { config, delivery, counters: Arc::default(), executor });
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
