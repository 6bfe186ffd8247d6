//! A sink as written for the original SDK: it uses nothing that this one adds.
//!
//! It asks a control socket what to do with each call, so that a test can look inside and hold it there.

use std::panic::resume_unwind;
use std::path::PathBuf;

use async_trait::async_trait;
use iggy_connector_sdk::{
    ConsumedMessage, Error, MessagesMetadata, Payload, Sink, TopicMetadata,
    convert::owned_value_to_serde_json, sink_connector,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tracing::info;

sink_connector!(ControlledSink);

// Imported by the macro, if the feature is on.
#[cfg(feature = "dashmap")]
const _: fn() -> DashMap<u32, u32> = DashMap::new;

#[derive(Debug)]
struct State {
    batches: usize,
}

/// Does what its control socket answers: nothing, an error, or a panic.
#[derive(Debug)]
pub struct ControlledSink {
    id: u32,
    config: ControlledSinkConfig,
    state: Mutex<State>,
}

/// The `[plugin_config]`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct ControlledSinkConfig {
    /// Each call writes a line of JSON to this socket and does what the answered line says.
    control: Option<PathBuf>,
    /// `new` panics.
    panic_in_new: Option<bool>,
    /// Dropping the sink panics.
    panic_in_drop: Option<bool>,
}

impl ControlledSink {
    /// A sink that is not open yet.
    pub fn new(id: u32, config: Option<ControlledSinkConfig>) -> Self {
        let config = config.unwrap_or_default();
        let sink = ControlledSink { id, config, state: Mutex::new(State { batches: 0 }) };
        sink.panic_if(sink.config.panic_in_new, "as told, in new");
        sink
    }

    fn panic_if(&self, told: Option<bool>, message: &str) {
        if told == Some(true) {
            // Like a panic, but nothing is written to stderr.
            resume_unwind(Box::new(format!("{message}, of {}", self.id)));
        }
    }

    async fn ask(&self, call: &str, facts: serde_json::Value) -> Result<(), Error> {
        let Some(path) = &self.config.control else {
            return Ok(());
        };
        let connection = |error: std::io::Error| Error::Connection(error.to_string());
        let mut stream = UnixStream::connect(path).await.map_err(connection)?;
        let question = format!("{}\n", json!({"id": self.id, "call": call, "facts": facts}));
        stream.write_all(question.as_bytes()).await.map_err(connection)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.map_err(connection)?;
        match answer.trim() {
            "ok" => Ok(()),
            "panic" => resume_unwind(Box::new(format!("as told, in {call}"))),
            other => Err(Error::InitError(other.to_owned())),
        }
    }
}

impl Drop for ControlledSink {
    fn drop(&mut self) {
        self.panic_if(self.config.panic_in_drop, "as told, in drop");
    }
}

#[async_trait]
impl Sink for ControlledSink {
    async fn open(&mut self) -> Result<(), Error> {
        info!("Opened the controlled sink with ID: {}", self.id);
        self.ask("open", json!(null)).await
    }

    async fn consume(
        &self,
        topic_metadata: &TopicMetadata,
        messages_metadata: MessagesMetadata,
        messages: Vec<ConsumedMessage>,
    ) -> Result<(), Error> {
        let batch = {
            let mut state = self.state.lock().await;
            state.batches += 1;
            state.batches
        };
        info!(
            id = self.id,
            stream = topic_metadata.stream,
            topic = %topic_metadata.topic,
            batch,
            messages = messages.len(),
            "Took a batch"
        );
        let messages: Vec<_> = messages.iter().map(facts).collect();
        let metadata = json!({
            "stream": topic_metadata.stream,
            "topic": topic_metadata.topic,
            "partition": messages_metadata.partition_id,
            "offset": messages_metadata.current_offset,
            "schema": messages_metadata.schema.to_string(),
        });
        self.ask("consume", json!({"metadata": metadata, "messages": messages})).await
    }

    async fn close(&mut self) -> Result<(), Error> {
        self.ask("close", json!(null)).await
    }
}

fn facts(message: &ConsumedMessage) -> serde_json::Value {
    let payload = match &message.payload {
        Payload::Json(value) => owned_value_to_serde_json(value),
        Payload::Text(text) | Payload::Proto(text) => json!(text),
        Payload::Raw(bytes) | Payload::FlatBuffer(bytes) | Payload::Avro(bytes) => json!(bytes),
    };
    let headers: serde_json::Map<_, _> = message
        .headers
        .iter()
        .flatten()
        .map(|(key, value)| (key.to_string_value(), json!(value.to_string_value())))
        .collect();
    json!({"id": message.id.to_string(), "offset": message.offset, "headers": headers, "payload": payload})
}
