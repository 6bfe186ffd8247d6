//! A sink that processes batches in place and says how long close may wait for them.
//!
//! As with `original_style_sink`, a control socket holds its calls.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use iggy_connector_sdk::{
    BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata, sink_connector,
};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

sink_connector!(BorrowingSink);

/// Reports each call to its control socket and waits for an answer.
#[derive(Debug)]
pub struct BorrowingSink {
    id: u32,
    config: Config,
    closing: watch::Sender<bool>,
}

/// The `[plugin_config]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    control: PathBuf,
    /// What `begin_close` returns, in milliseconds.
    close_wait_ms: u64,
    /// Whether running batches end when close begins.
    #[serde(default)]
    yields_to_close: bool,
}

impl BorrowingSink {
    /// A sink that is not open yet.
    pub fn new(id: u32, config: Config) -> Self {
        Self { id, config, closing: watch::Sender::new(false) }
    }

    async fn ask(&self, call: &str, facts: serde_json::Value) -> Result<(), Error> {
        let connection = |error: std::io::Error| Error::Connection(error.to_string());
        let mut stream = UnixStream::connect(&self.config.control).await.map_err(connection)?;
        let question = format!("{}\n", json!({"id": self.id, "call": call, "facts": facts}));
        stream.write_all(question.as_bytes()).await.map_err(connection)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.map_err(connection)?;
        match answer.trim() {
            "ok" => Ok(()),
            // Like a panic, but nothing is written to stderr.
            "panic" => resume_unwind(Box::new(format!("as told, in {call}"))),
            other => Err(Error::CannotStoreData(other.to_owned())),
        }
    }
}

#[async_trait]
impl Sink for BorrowingSink {
    async fn open(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn consume(
        &self,
        _: &TopicMetadata,
        _: MessagesMetadata,
        _: Vec<ConsumedMessage>,
    ) -> Result<(), Error> {
        Err(Error::InvalidState)
    }

    async fn consume_borrowed(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> Result<(), Error> {
        let payloads: Vec<_> =
            messages.iter().map(|message| String::from_utf8_lossy(message.payload)).collect();
        let facts = json!({"topic": topic.topic, "partition": metadata.partition_id, "payloads": payloads});
        let mut closing = self.closing.subscribe();
        tokio::select! {
            answer = self.ask("consume", facts) => answer,
            _ = closing.wait_for(|closing| *closing), if self.config.yields_to_close => Err(Error::InvalidState),
        }
    }

    fn begin_close(&self) -> Duration {
        self.closing.send_replace(true);
        Duration::from_millis(self.config.close_wait_ms)
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.ask("close", json!(null)).await
    }
}
