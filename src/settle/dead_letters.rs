//! Where messages go that were not delivered: into a folder, or to another endpoint.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use tokio::{sync::watch, time::Instant};
use tracing::error;

use super::{Failure, Outcome};
use crate::{
    batch::Batch,
    config::{
        BatchMode, BodyConfig, Concurrency, Config, DeadLetterConfig, DeadLetterEndpoint, EndpointConfig,
        Method, RateLimitConfig,
    },
    dead_letter::{Record, Store},
    deliver::{Delivery, Origin, Patience},
    encode::{Bodies, Buffers, Encoded},
    executor::Executor,
    plan::Lane,
    telemetry::Counters,
    world::World,
};

/// Keeps undelivered messages until they are replayed.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    target: Target,
    world: World,
}

#[derive(Debug)]
enum Target {
    Folder(Mutex<Store>),
    Endpoint(Box<Endpoint>),
}

/// Another endpoint, with retries of its own.
#[derive(Debug)]
struct Endpoint {
    config: Config,
    buffers: Buffers,
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
        world: &World,
    ) -> Result<Self, String> {
        let target = match letters {
            DeadLetterConfig::Path { path, max_bytes, segment_bytes } => {
                let store = Store::open(path, *max_bytes, *segment_bytes, world)
                    .map_err(|why| format!("dead_letter.path {}: {why}", path.display()))?;
                Target::Folder(Mutex::new(store))
            }
            DeadLetterConfig::Endpoint(letters) => {
                let DeadLetterEndpoint { url, headers, auth } = &**letters;
                let config = Config {
                    endpoint: EndpointConfig {
                        url: url.clone(),
                        method: Method::Post,
                        headers: headers.clone(),
                        auth: auth.clone(),
                        ..config.endpoint.clone()
                    },
                    body: BodyConfig {
                        mode: BatchMode::NdJson,
                        include_metadata: false,
                        // A record is larger than its message, which may have been too large already.
                        max_bytes: usize::MAX,
                        max_messages: None,
                        target: None,
                        form: None,
                        compression: None,
                        tombstone_method: None,
                        ..config.body.clone()
                    },
                    concurrency: Concurrency::Fixed(std::num::NonZeroUsize::MIN),
                    rate_limit: RateLimitConfig::default(),
                    dead_letter: None,
                    status: None,
                    response: None,
                    ..config.clone()
                };
                let delivery = Delivery::new(&config, Arc::<Counters>::default(), world)
                    .map_err(|why| format!("dead_letter: {why}"))?;
                Target::Endpoint(Box::new(Endpoint {
                    config,
                    buffers: Buffers::default(),
                    delivery: Arc::new(delivery),
                    closing,
                }))
            }
        };
        Ok(Self { target, world: world.clone() })
    }

    /// The bytes that they take in their folder, and those that they may; `None` where they go to an endpoint.
    pub(crate) fn room(&self) -> Option<(u64, u64)> {
        match &self.target {
            Target::Folder(store) => Some(store.lock().unwrap_or_else(PoisonError::into_inner).room()),
            Target::Endpoint(_) => None,
        }
    }

    /// Keeps messages. Returns those that could not be kept.
    pub(super) async fn keep(
        &self,
        batch: &Batch<'_>,
        undelivered: Vec<Undelivered>,
        url: &str,
        executor: &Executor,
    ) -> Vec<Undelivered> {
        let now = self.world.now();
        let lines: Vec<(usize, Vec<u8>)> = undelivered
            .iter()
            .flat_map(|(messages, failure)| messages.iter().map(move |&message| (message, failure)))
            .map(|(message, failure)| {
                (message, line(&Record::new(batch, &batch.messages[message], failure, url, now)))
            })
            .collect();
        let unkept = match &self.target {
            Target::Folder(store) => {
                let unkept = write(&mut store.lock().unwrap_or_else(PoisonError::into_inner), &lines);
                if let Some(simulation) = self.world.simulation() {
                    tokio::time::sleep(simulation.letters_take()).await;
                }
                unkept
            }
            Target::Endpoint(endpoint) => endpoint.send(&lines, executor).await,
        };
        let mut failed = Vec::new();
        for (messages, failure) in undelivered {
            let (lost, kept): (Vec<usize>, Vec<usize>) =
                messages.into_iter().partition(|message| unkept.contains(message));
            if !kept.is_empty() {
                super::kept(batch, &kept, &failure);
            }
            if !lost.is_empty() {
                failed.push((lost, failure));
            }
        }
        failed
    }
}

/// Writes all lines with one sync to disk, or, where they do not all fit, as many as do. Returns the
/// messages of the others.
fn write(store: &mut Store, lines: &[(usize, Vec<u8>)]) -> HashSet<usize> {
    let all: Vec<u8> = lines.iter().map(|(_, line)| line.as_slice()).collect::<Vec<_>>().concat();
    let why = match store.append(&all) {
        Ok(()) => return HashSet::new(),
        Err(why) => why,
    };
    let fits = |(_, line): &&(usize, Vec<u8>)| {
        why.kind() == io::ErrorKind::StorageFull && store.append(line).is_ok()
    };
    let kept = lines.iter().take_while(fits).count();
    report(&why);
    lines[kept..].iter().map(|(message, _)| *message).collect()
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
    async fn send(&self, lines: &[(usize, Vec<u8>)], executor: &Executor) -> HashSet<usize> {
        let topic = TopicMetadata { stream: "dead_letters".to_owned(), topic: String::new() };
        let metadata = MessagesMetadata { partition_id: 0, current_offset: 0, schema: Schema::Json };
        let records: Vec<BorrowedMessage<'_>> = (0..)
            .zip(lines)
            .map(|(offset, (_, line))| BorrowedMessage {
                // It makes the idempotency key that of these very records.
                id: digest(line),
                offset,
                checksum: 0,
                timestamp: 0,
                origin_timestamp: 0,
                headers: b"",
                payload: line.trim_ascii_end(),
            })
            .collect();
        let batch = Batch::borrowed(&topic, &metadata, &records);
        let mut unkept: HashSet<usize> = lines.iter().map(|(message, _)| *message).collect();
        let patience = Patience::from_now(self.config.retry.max_duration, self.closing.clone());
        let mut bodies = Bodies::of(&batch, Lane::All(lines.len()), &self.config.body, &self.buffers);
        while let Some(encoded) = bodies.next_within(self.delivery.body_limit()) {
            let body = match encoded {
                Encoded::Body(body) => body,
                Encoded::Refused(_, refusal) => {
                    report(&io::Error::other(refusal.to_string()));
                    continue;
                }
            };
            let (delivery, patience) = (self.delivery.clone(), patience.clone());
            let settled = executor
                .spawn(async move { delivery.deliver(body, Origin::unique(), &patience).await })
                .await;
            for (records, outcome) in settled.unwrap_or_default() {
                match outcome {
                    Outcome::Delivered => {
                        for record in records {
                            unkept.remove(&lines[record].0);
                        }
                    }
                    // Its messages are kept nowhere else, so none is parked.
                    Outcome::Parked(_) => {}
                    Outcome::Failed(failure) => {
                        report(&io::Error::other(format!("{}: {failure}", self.delivery.label())));
                    }
                }
            }
        }
        unkept
    }
}

/// The start of a SHA-256.
fn digest(line: &[u8]) -> u128 {
    let digest = ring::digest::digest(&ring::digest::SHA256, line);
    digest.as_ref().iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
}
