//! A batch that was taken out of the spool.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, TopicMetadata};

use crate::spool::{
    error::SpoolError,
    format::record::decode,
    lanes::{
        key::LaneKey,
        ranges::{LaneMessages, Ranges},
    },
    log::{buffers::Buffers, clock::Clock},
};

/// A batch that is in the spool.
#[derive(Debug)]
pub struct Record {
    /// The lane it belongs to.
    pub lane: LaneKey,
    /// Its sequence number in the lane: a later batch has a greater one. The first has 1.
    pub sequence: u64,
    pub(in crate::spool) settled: Ranges,
    pub(in crate::spool) bodies: Vec<Arc<LaneMessages>>,
    pub(in crate::spool) messages: u32,
    /// When it came, by the time of the spool.
    pub(in crate::spool) came: Option<u64>,
    pub(in crate::spool) body: Vec<u8>,
    /// Where the memory of the body comes from, and goes to.
    pub(in crate::spool) buffers: Arc<Buffers>,
    pub(in crate::spool) clock: Arc<Clock>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.buffers.give_back(std::mem::take(&mut self.body));
    }
}

/// A [`Record`] that was read; its messages borrow from it.
#[derive(Debug)]
pub struct Stored<'r> {
    /// When consume took the batch, by the clock of the system.
    pub accepted: SystemTime,
    /// The topic.
    pub topic: TopicMetadata,
    /// What the runtime said about the batch.
    pub metadata: MessagesMetadata,
    /// Its messages, those that are settled already included.
    pub messages: Vec<BorrowedMessage<'r>>,
}

impl Record {
    /// The batch, borrowed from the bytes of the record.
    ///
    /// # Errors
    /// [`SpoolError::Undecodable`]; the checksum was right, so another release wrote it.
    pub fn decode(&self) -> Result<Stored<'_>, SpoolError> {
        let (accepted, metadata, messages) = decode(&self.body)?;
        let accepted = UNIX_EPOCH + Duration::from_micros(accepted);
        let topic =
            TopicMetadata { stream: self.lane.stream().to_owned(), topic: self.lane.topic().to_owned() };
        Ok(Stored { accepted, topic, metadata, messages })
    }

    /// What the runtime said about the batch.
    ///
    /// # Errors
    /// That of [`decode`](Self::decode).
    pub fn metadata(&self) -> Result<MessagesMetadata, SpoolError> {
        let ((_, metadata), _): ((u64, MessagesMetadata), _) =
            postcard::take_from_bytes(&self.body).map_err(|why| SpoolError::Undecodable(why.to_string()))?;
        Ok(metadata)
    }

    /// Whether a message of the batch is settled already.
    pub fn is_settled(&self, message: u32) -> bool {
        self.settled.contains(u64::from(message))
    }

    /// The bodies that were sent with messages of the batch before, with those of other batches in them.
    pub fn bodies(&self) -> &[Arc<LaneMessages>] {
        &self.bodies
    }

    /// How many messages the batch has, settled ones included.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// The bytes that it takes in memory.
    pub fn length(&self) -> usize {
        self.body.len()
    }

    /// How long ago consume took the batch. Time in which nobody had the spool open, or a jump of the clock of
    /// the system, does not count. That of a batch of an earlier
    /// release counts from when the spool was opened.
    pub fn age(&self) -> Duration {
        self.clock.since(self.came)
    }

    /// Whether it came at a time of the spool or later.
    pub fn came_from(&self, time: u64) -> bool {
        self.came.is_some_and(|came| came >= time)
    }

    /// How many messages of the batch are settled already.
    pub fn settled(&self) -> u64 {
        self.settled.count()
    }
}
