//! Where messages go that were not delivered: into a folder, or to another endpoint.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use tokio::{sync::watch, time::Instant};
use tracing::error;

use super::{Failure, Outcome, Sums};
use crate::{
    batch::Batch,
    config::{
        BatchMode, BodyConfig, Concurrency, Config, DeadLetterConfig, EndpointConfig, Method, RateLimitConfig,
    },
    dead_letter::{Record, Store},
    deliver::{Delivery, Patience},
    encode::{Bodies, Encoded},
    executor::Executor,
    plan::Lane,
    telemetry::Counters,
};

/// Keeps undelivered messages until they are replayed.
#[derive(Debug)]
pub(crate) enum DeadLetters {
    Folder(Mutex<Store>),
    Endpoint(Box<Endpoint>),
}

/// Another endpoint, with retries of its own.
#[derive(Debug)]
pub(crate) struct Endpoint {
    config: Config,
    delivery: Arc<Delivery>,
    closing: watch::Receiver<Option<Instant>>,
}

/// Messages of one reason that could not be kept.
type Undelivered = (Vec<usize>, Failure);

impl DeadLetters {
    /// # Errors
    /// The folder cannot be written to, or the client for the other endpoint cannot be built.
    pub(crate) fn open(
        letters: &DeadLetterConfig,
        config: &Config,
        closing: watch::Receiver<Option<Instant>>,
    ) -> Result<Self, String> {
        match letters {
            DeadLetterConfig::Path { path, max_bytes, segment_bytes } => {
                Store::open(path, *max_bytes, *segment_bytes)
                    .map(|store| Self::Folder(Mutex::new(store)))
                    .map_err(|why| format!("dead_letter.path {}: {why}", path.display()))
            }
            DeadLetterConfig::Url(url) => {
                let config = Config {
                    endpoint: EndpointConfig {
                        url: url.clone(),
                        method: Method::Post,
                        headers: Vec::new(),
                        ..config.endpoint.clone()
                    },
                    body: BodyConfig {
                        mode: BatchMode::NdJson,
                        include_metadata: false,
                        ..config.body.clone()
                    },
                    concurrency: Concurrency::Fixed(std::num::NonZeroUsize::MIN),
                    rate_limit: RateLimitConfig::default(),
                    dead_letter: None,
                    ..config.clone()
                };
                let delivery = Delivery::new(&config, Arc::<Counters>::default())
                    .map_err(|why| format!("dead_letter.url: {why}"))?;
                Ok(Self::Endpoint(Box::new(Endpoint { config, delivery: Arc::new(delivery), closing })))
            }
        }
    }

    /// Keeps messages. Returns those that could not be kept.
    pub(super) async fn keep(
        &self,
        batch: &Batch<'_>,
        undelivered: Vec<Undelivered>,
        url: &str,
        sums: &mut Sums,
        executor: &Executor,
    ) -> Vec<Undelivered> {
        let lines: Vec<(usize, Vec<u8>)> = undelivered
            .iter()
            .flat_map(|(messages, failure)| messages.iter().map(move |&message| (message, failure)))
            .map(|(message, failure)| {
                (message, line(&Record::new(batch, &batch.messages[message], failure, url)))
            })
            .collect();
        let unkept: HashSet<usize> = match self {
            Self::Folder(store) => {
                let all: Vec<u8> = lines.iter().flat_map(|(_, line)| line.iter().copied()).collect();
                match store.lock().unwrap_or_else(PoisonError::into_inner).append(&all) {
                    Ok(()) => HashSet::new(),
                    Err(why) => {
                        report(&why);
                        lines.into_iter().map(|(message, _)| message).collect()
                    }
                }
            }
            Self::Endpoint(endpoint) => endpoint.send(lines, executor).await,
        };
        let mut failed = Vec::new();
        for (messages, failure) in undelivered {
            let (lost, kept): (Vec<usize>, Vec<usize>) =
                messages.into_iter().partition(|message| unkept.contains(message));
            if !kept.is_empty() {
                sums.dead_lettered += kept.len();
                super::kept(batch, &kept, &failure);
            }
            if !lost.is_empty() {
                failed.push((lost, failure));
            }
        }
        failed
    }
}

fn report(why: &io::Error) {
    error!("dead letters cannot be written, so their messages fail: {why}");
}

/// A record as a line of NDJSON.
fn line(record: &Record) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("a record is written to memory");
    line.push(b'\n');
    line
}

impl Endpoint {
    /// Sends records; returns the messages whose records did not arrive.
    async fn send(&self, lines: Vec<(usize, Vec<u8>)>, executor: &Executor) -> HashSet<usize> {
        let topic = TopicMetadata { stream: "dead_letters".to_owned(), topic: String::new() };
        let metadata = MessagesMetadata { partition_id: 0, current_offset: 0, schema: Schema::Json };
        let records: Vec<BorrowedMessage<'_>> = (0..)
            .zip(&lines)
            .map(|(offset, (_, line))| BorrowedMessage {
                id: 0,
                offset,
                checksum: 0,
                timestamp: 0,
                origin_timestamp: 0,
                headers: b"",
                payload: line.trim_ascii_end(),
            })
            .collect();
        let batch = Batch::borrowed(&topic, &metadata, &records);
        let mut arrived = vec![false; lines.len()];
        let patience = Patience::from_now(self.config.retry.max_duration, self.closing.clone());
        let mut bodies = Bodies::of(&batch, Lane::All(lines.len()), &self.config.body);
        while let Some(encoded) = bodies.next_within(self.delivery.body_limit()) {
            let Encoded::Body(body) = encoded else { continue };
            let (delivery, patience) = (self.delivery.clone(), patience.clone());
            let settled = executor.spawn(async move { delivery.deliver(body, &patience).await }).await;
            for (messages, outcome) in settled.unwrap_or_default() {
                match outcome {
                    Outcome::Delivered => messages.into_iter().for_each(|message| arrived[message] = true),
                    Outcome::Failed(failure) => {
                        report(&io::Error::other(format!("{}: {failure}", self.delivery.label())));
                    }
                }
            }
        }
        lines
            .into_iter()
            .zip(arrived)
            .filter(|(_, arrived)| !arrived)
            .map(|((message, _), _)| message)
            .collect()
    }
}
