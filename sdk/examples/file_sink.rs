//! A sink that appends the payload of each message to a file, one per line.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use iggy_connector_sdk::{ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata, sink_connector};

sink_connector!(FileSink);

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    path: PathBuf,
}

#[derive(Debug)]
struct FileSink {
    path: PathBuf,
    file: Option<Mutex<File>>,
}

impl FileSink {
    fn new(_id: u32, config: Config) -> Self {
        Self { path: config.path, file: None }
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn open(&mut self) -> Result<(), Error> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let file = file.map_err(|error| Error::InitError(format!("{}: {error}", self.path.display())))?;
        self.file = Some(Mutex::new(file));
        Ok(())
    }

    async fn consume(
        &self,
        _topic: &TopicMetadata,
        _metadata: MessagesMetadata,
        messages: Vec<ConsumedMessage>,
    ) -> Result<(), Error> {
        let mut lines = Vec::new();
        for message in messages {
            lines.extend(message.payload.try_into_vec()?);
            lines.push(b'\n');
        }
        // Batches of several topics arrive concurrently.
        let file = self.file.as_ref().ok_or(Error::InvalidState)?;
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        written.map_err(|error| Error::CannotStoreData(error.to_string()))
    }

    async fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
