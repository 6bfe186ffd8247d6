//! Batches, and what a spool holds of them.

use std::{future::Future, path::Path, time::SystemTime};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use tokio::runtime::Builder;

use crate::spool::{Accepted, LaneKey, LanesBy, Options, Record, Spool, SpoolError, SyncMode, WhenFull};

pub(super) fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        max_bytes: 1 << 20,
        when_full: WhenFull::DeadLetter,
        sync: SyncMode::Batch,
        lanes: LanesBy::Label,
    }
}

pub(super) fn open(path: &Path) -> Spool {
    Spool::open(&options(path)).expect("it opens").0
}

pub(super) fn lane(topic: &str) -> LaneKey {
    LaneKey::new("s", topic, 1)
}

pub(super) fn payload(topic: &str, offset: u64, size: usize) -> Vec<u8> {
    let mut payload = format!("{topic}/{offset}").into_bytes();
    payload.resize(payload.len().max(size), b'.');
    payload
}

/// Runs a future on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().build().expect("an executor").block_on(future)
}

/// A batch for a spool.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) topic: &'static str,
    pub(super) partition: u32,
    pub(super) offsets: Vec<u64>,
    /// The least length of a payload.
    pub(super) size: usize,
    /// The producer.
    pub(super) id: u128,
    pub(super) accepted: SystemTime,
}

impl Default for Given {
    fn default() -> Self {
        Self { topic: "t", partition: 1, offsets: vec![0], size: 0, id: 1, accepted: SystemTime::now() }
    }
}

impl Given {
    pub(super) async fn store(&self, spool: &Spool) -> Result<Accepted, SpoolError> {
        store(spool, self.topic, self).await
    }
}

async fn store(spool: &Spool, topic: &str, given: &Given) -> Result<Accepted, SpoolError> {
    let payloads: Vec<Vec<u8>> =
        given.offsets.iter().map(|offset| payload(topic, *offset, given.size)).collect();
    let message = |(&offset, payload)| BorrowedMessage {
        id: given.id << 64 | u128::from(offset),
        offset,
        checksum: offset * 3,
        timestamp: 1000 + offset,
        origin_timestamp: 900 + offset,
        headers: b"",
        payload,
    };
    let payloads = payloads.iter().map(Vec::as_slice);
    let messages: Vec<_> = given.offsets.iter().zip(payloads).map(message).collect();
    let topic = TopicMetadata { stream: "s".to_owned(), topic: topic.to_owned() };
    let metadata =
        MessagesMetadata { partition_id: given.partition, current_offset: 7, schema: Schema::Json };
    spool.accept(&topic, &metadata, &messages, given.accepted).await
}

pub(super) fn accept_of(
    spool: &Spool,
    topic: &str,
    offsets: impl IntoIterator<Item = u64>,
    size: usize,
    id: u128,
) -> Result<Accepted, SpoolError> {
    block_on(accept_here(spool, topic, offsets, size, id))
}

/// Messages with these offsets, of the producer `id`.
pub(super) async fn accept_here(
    spool: &Spool,
    topic: &str,
    offsets: impl IntoIterator<Item = u64>,
    size: usize,
    id: u128,
) -> Result<Accepted, SpoolError> {
    let offsets = offsets.into_iter().collect();
    store(spool, topic, &Given { offsets, size, id, ..Given::default() }).await
}

pub(super) fn accept(
    spool: &Spool,
    topic: &str,
    offsets: impl IntoIterator<Item = u64>,
) -> Result<Accepted, SpoolError> {
    accept_of(spool, topic, offsets, 0, 1)
}

/// The unsettled offsets of a record.
pub(super) fn unsettled(record: &Record) -> Vec<u64> {
    let stored = record.decode().expect("it decodes");
    let topic = record.lane.topic();
    let open = (0..).zip(&stored.messages).filter(|(index, _)| !record.is_settled(*index));
    open.map(|(_, message)| {
        let size = message.payload.len();
        assert_eq!(message.payload, payload(topic, message.offset, size), "{topic}/{}", message.offset);
        message.offset
    })
    .collect()
}

/// The unsettled offsets of a lane, record by record.
pub(super) fn records(spool: &Spool, topic: &str) -> Vec<Vec<u64>> {
    let mut records = Vec::new();
    let mut after = 0;
    while let Some(record) = spool.next(&lane(topic), after).expect("it can be read") {
        assert!(record.sequence > after);
        after = record.sequence;
        records.push(unsettled(&record));
    }
    records
}
