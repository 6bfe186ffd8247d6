//! Keeps messages that were not delivered, in a folder or at another endpoint.

use std::{
    collections::HashSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use tokio::{sync::watch, time::Instant};
use tracing::error;

use super::Tally;
use crate::{
    batch::Batch,
    config::{
        BatchMode, BodyConfig, Concurrency, Config, DeadLetterConfig, DeadLetterEndpoint, EndpointConfig,
        Method, RateLimitConfig,
    },
    dead_letter::{Record, Store},
    deliver::{Deadline, Delivery, Origin, Outcome},
    each_minute::EachMinute,
    encode::{Bodies, Buffers, Encoded},
    executor::Executor,
    failure::Failure,
    plan::Lane,
    telemetry::Counters,
    world::World,
};

/// Keeps undelivered messages until they are replayed.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    target: Target,
    world: World,
    /// Logs that dead letters cannot be written.
    trouble: EachMinute,
}

#[derive(Debug)]
enum Target {
    Folder { path: PathBuf, store: Mutex<Store> },
    Endpoint(Box<Endpoint>),
}

/// Another endpoint, with its own retries.
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
                Target::Folder { path: path.clone(), store: Mutex::new(store) }
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
        Ok(Self { target, world: world.clone(), trouble: EachMinute::default() })
    }

    /// Returns the size of their folder and its limit, in bytes; `None` if they go to an endpoint.
    pub(crate) fn room(&self) -> Option<(u64, u64)> {
        match &self.target {
            Target::Folder { store, .. } => Some(lock(store).room()),
            Target::Endpoint(_) => None,
        }
    }

    /// Logs the last line of an outage of their endpoint that has not ended when the connector is closed.
    pub(crate) fn log_closed(&self) {
        if let Target::Endpoint(endpoint) = &self.target {
            endpoint.delivery.log_closed();
        }
    }

    /// Their folder; `None` if they go to an endpoint.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.target {
            Target::Folder { path, .. } => Some(path),
            Target::Endpoint(_) => None,
        }
    }

    /// Ends the file that is appended to, and returns the number of the next; `None` if they go to an endpoint.
    pub(crate) fn end_segment(&self) -> Option<u64> {
        match &self.target {
            Target::Folder { store, .. } => Some(lock(store).end_segment()),
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
        tally: &Tally,
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
            Target::Folder { store, .. } => {
                let unkept = write(&mut lock(store), &lines, &self.trouble);
                if let Some(simulation) = self.world.simulation() {
                    tokio::time::sleep(simulation.letters_take()).await;
                }
                unkept
            }
            Target::Endpoint(endpoint) => endpoint.send(&lines, executor, &self.trouble).await,
        };
        let (mut failed, mut all_kept) = (Vec::new(), Vec::new());
        for (messages, failure) in undelivered {
            let (lost, kept): (Vec<usize>, Vec<usize>) =
                messages.into_iter().partition(|message| unkept.contains(message));
            if !lost.is_empty() {
                failed.push((lost, failure.clone()));
            }
            if !kept.is_empty() {
                all_kept.push((kept, failure));
            }
        }
        tally.dead_lettered(batch, &all_kept);
        failed
    }
}

/// Writes all lines with one sync, or as many as fit. Returns the messages of the others.
fn write(store: &mut Store, lines: &[(usize, Vec<u8>)], trouble: &EachMinute) -> HashSet<usize> {
    let all: Vec<u8> = lines.iter().map(|(_, line)| line.as_slice()).collect::<Vec<_>>().concat();
    let why = match store.append(&all) {
        Ok(()) => return HashSet::new(),
        Err(why) => why,
    };
    let fits = |(_, line): &&(usize, Vec<u8>)| {
        why.kind() == io::ErrorKind::StorageFull && store.append(line).is_ok()
    };
    let kept = lines.iter().take_while(fits).count();
    report(&why, trouble);
    lines[kept..].iter().map(|(message, _)| *message).collect()
}

fn report(why: &dyn fmt::Display, trouble: &EachMinute) {
    if let Some(times) = trouble.happened(Instant::now()) {
        error!("dead letters cannot be written, so their messages fail, or stay in the spool: {why}{times}");
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A record as a line of NDJSON.
fn line(record: &Record) -> Vec<u8> {
    let mut line = serde_json::to_vec(record).expect("a record is written to memory");
    line.push(b'\n');
    line
}

impl Endpoint {
    /// Sends records; returns the messages whose records did not arrive.
    async fn send(
        &self,
        lines: &[(usize, Vec<u8>)],
        executor: &Executor,
        trouble: &EachMinute,
    ) -> HashSet<usize> {
        let topic = TopicMetadata { stream: "dead_letters".to_owned(), topic: String::new() };
        let metadata = MessagesMetadata { partition_id: 0, current_offset: 0, schema: Schema::Json };
        let records: Vec<BorrowedMessage<'_>> = (0..)
            .zip(lines)
            .map(|(offset, (_, line))| BorrowedMessage {
                // Makes the idempotency key depend on exactly these records.
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
        let deadline = Deadline::from_now(self.config.retry.max_duration, self.closing.clone());
        let mut bodies = Bodies::of(&batch, Lane::All(lines.len()), &self.config.body, &self.buffers);
        while let Some(encoded) = bodies.next_within(self.delivery.body_limit()) {
            let body = match encoded {
                Encoded::Body(body) => body,
                Encoded::Refused(_, refusal) => {
                    report(&refusal, trouble);
                    continue;
                }
            };
            let (delivery, deadline) = (self.delivery.clone(), deadline.clone());
            let settled = executor
                .spawn(async move { delivery.deliver(body, Origin::unique(), &deadline).await })
                .await;
            for (records, outcome) in settled.unwrap_or_default() {
                match outcome {
                    Outcome::Delivered => {
                        for record in records {
                            unkept.remove(&lines[record].0);
                        }
                    }
                    // Its messages are not kept elsewhere, so none is parked.
                    Outcome::Parked(_) => {}
                    Outcome::Failed(failure) => {
                        report(&format_args!("{}: {failure}", self.delivery.label()), trouble);
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
