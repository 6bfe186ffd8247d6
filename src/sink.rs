//! The sink: what the runtime opens, feeds and closes.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use iggy_connector_sdk::{BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata};
use serde::Deserialize;
use tokio::{sync::watch, time::Instant};
use tracing::info;

use crate::{
    batch::{Batch, Written},
    config::Config,
    pipeline::{Closing, Pipeline},
    settle,
};

/// The part of `close_timeout` that is kept for settling what was cut off, and the most it can be.
const SETTLING: (u32, Duration) = (4, Duration::from_secs(1));

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
    pipeline: Option<Arc<Pipeline>>,
}

impl HttpSink {
    /// A sink that is not open yet.
    pub fn new(id: u32, config: HttpSinkConfig) -> Self {
        Self {
            id,
            config,
            cut_off: watch::Sender::new(None),
            closing: watch::Sender::new(None),
            pipeline: None,
        }
    }

    /// The way of a batch: every message of it ends delivered, as a dead letter, or failed.
    async fn process(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let pipeline = self.pipeline()?;
        let patience = pipeline.patience(Duration::ZERO);
        let account = pipeline.account(batch, patience, pipeline.dead_letters.as_ref(), None).await;
        settle::report(batch, &account);
        pipeline.counters.settled(&account);
        match account.failed() {
            0 => Ok(()),
            failed => {
                Err(Error::HttpRequestFailed(format!("{failed} of {} messages failed", batch.messages.len())))
            }
        }
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
        let pipeline = Pipeline::open(self.id, config, closing).await?;
        info!(
            "connector {} is open: {} to {} in mode {}",
            self.id,
            pipeline.config.endpoint.method,
            pipeline.label(),
            pipeline.config.body.mode
        );
        self.pipeline = Some(Arc::new(pipeline));
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
        let timeout = self.pipeline.as_ref().map_or(Duration::ZERO, |pipeline| pipeline.config.close_timeout);
        let settling = (timeout / SETTLING.0).min(SETTLING.1);
        let now = Instant::now();
        self.cut_off.send_replace(Some(now + timeout - settling));
        self.closing.send_replace(Some(now + timeout - settling / 4));
        timeout
    }

    async fn close(&mut self) -> Result<(), Error> {
        if let Some(pipeline) = self.pipeline.take() {
            info!("connector {} is closed: {}", self.id, pipeline.counters);
        }
        Ok(())
    }
}
