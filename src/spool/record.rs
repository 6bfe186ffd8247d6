//! A batch as a record, and back.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use iggy_connector_sdk::{BorrowedMessage, BorrowedMessages, MessagesMetadata, Schema, TopicMetadata};
use serde::Serialize;

use super::{
    LaneKey, SpoolError,
    format::{Header, Kind, PREFIX, flag},
    ranges::Ranges,
    store::Shared,
};

/// What a message takes at most besides its headers and payload: an id of 19 bytes, four numbers of 10,
/// two lengths of 5.
const MESSAGE_OVERHEAD: usize = 72;

/// Messages of one batch, as ranges of indexes into it, first and last of each, ascending.
pub type MessageRanges = Vec<(u32, u32)>;

/// Messages of one body or of one settlement, by the sequence of their batch, ascending.
pub type LaneMessages = Vec<(u64, MessageRanges)>;

/// A batch that is in the spool.
#[derive(Debug)]
pub struct Record {
    /// The lane it belongs to.
    pub lane: LaneKey,
    /// Its place in the lane: a later batch has a greater one. The first has 1.
    pub sequence: u64,
    pub(super) settled: Ranges,
    pub(super) bodies: Vec<Arc<LaneMessages>>,
    pub(super) messages: u32,
    /// When it came, by the time of the spool.
    pub(super) came: Option<u64>,
    pub(super) body: Vec<u8>,
    /// Where the memory of the body comes from, and goes to.
    pub(super) shared: Arc<Shared>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.shared.give_back(std::mem::take(&mut self.body));
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
        self.shared.clock.since(self.came)
    }

    /// How many messages of the batch are settled already.
    pub fn settled(&self) -> u64 {
        self.settled.count()
    }
}

/// The body of a record as a batch, with the time when it was accepted in microseconds since the Unix epoch.
pub(super) fn decode(body: &[u8]) -> Result<(u64, MessagesMetadata, Vec<BorrowedMessage<'_>>), SpoolError> {
    let undecodable = |why: postcard::Error| SpoolError::Undecodable(why.to_string());
    let ((accepted, metadata), rest): ((u64, MessagesMetadata), _) =
        postcard::take_from_bytes(body).map_err(undecodable)?;
    let batch: BorrowedMessages<'_> = postcard::from_bytes(rest).map_err(undecodable)?;
    Ok((accepted, metadata, batch.messages))
}

/// A record that is ready but for its place.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) header: Header,
    /// Room for the fixed part of the header, and all that follows it.
    pub(super) bytes: Vec<u8>,
}

impl Draft {
    /// Encodes a batch into `bytes`; `None` if it is larger than a record can be.
    pub(super) fn batch(
        lane: &LaneKey,
        metadata: &MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
        accepted: SystemTime,
        came: u64,
        bytes: Vec<u8>,
    ) -> Option<Self> {
        #[derive(Serialize)]
        struct Batch<'b, 'm> {
            schema: Schema,
            messages: &'b [BorrowedMessage<'m>],
        }
        let payload: usize =
            messages.iter().map(|message| message.headers.len() + message.payload.len()).sum();
        let room = payload + (messages.len() + 1) * MESSAGE_OVERHEAD;
        // A clock before 1970 counts as 1970.
        let accepted = accepted.duration_since(UNIX_EPOCH).unwrap_or_default();
        let accepted = u64::try_from(accepted.as_micros()).unwrap_or(u64::MAX);
        let body = (accepted, metadata, Batch { schema: metadata.schema, messages }, came.to_le_bytes());
        let mut draft = Self::new(Kind::Batch, lane, &body, room, bytes)?;
        draft.header = draft.header.with(flag::TIMED);
        draft.header.messages = u32::try_from(messages.len()).ok()?;
        Some(draft)
    }

    /// Encodes which messages of some records are settled; no ranges stand for all of a record.
    pub(super) fn settled(lane: &LaneKey, settled: &LaneMessages, bytes: Vec<u8>) -> Option<Self> {
        Self::new(Kind::Settled, lane, settled, room(settled), bytes)
    }

    /// Encodes which messages of some records are sent together.
    pub(super) fn together(lane: &LaneKey, bodies: &[Arc<LaneMessages>], bytes: Vec<u8>) -> Option<Self> {
        let room = bodies.iter().map(|body| 5 + room(body)).sum();
        let bodies: Vec<&LaneMessages> = bodies.iter().map(|body| &**body).collect();
        Self::new(Kind::Together, lane, &bodies, room, bytes)
    }

    /// A record that was read, for another place.
    pub(super) fn moved(header: Header, names: &[u8], body: &[u8]) -> Self {
        let bytes = [&[0; PREFIX], names, body].concat();
        Self { header: header.with(flag::MOVED), bytes }
    }

    fn new(
        kind: Kind,
        lane: &LaneKey,
        body: &impl Serialize,
        room: usize,
        mut bytes: Vec<u8>,
    ) -> Option<Self> {
        let head = PREFIX + lane.stream().len() + lane.topic().len();
        bytes.clear();
        bytes.reserve(head + room);
        bytes.resize(PREFIX, 0);
        bytes.extend_from_slice(lane.stream().as_bytes());
        bytes.extend_from_slice(lane.topic().as_bytes());
        let bytes = postcard::serialize_with_flavor(body, Append(bytes)).ok()?;
        let header = Header {
            stream: u16::try_from(lane.stream().len()).ok()?,
            topic: u16::try_from(lane.topic().len()).ok()?,
            partition: lane.partition(),
            names_checksum: crc32fast::hash(&bytes[PREFIX..head]),
            ..Header::of(kind, &bytes[head..])?
        };
        Some(Self { header, bytes })
    }

    /// The record for a place.
    pub(super) fn seal(&mut self, segment: u64, position: u64) -> &[u8] {
        self.bytes[..PREFIX].copy_from_slice(&self.header.bytes(segment, position));
        &self.bytes
    }
}

/// The most bytes that these take.
fn room(messages: &LaneMessages) -> usize {
    messages.iter().map(|(_, ranges)| 15 + ranges.len() * 10).sum()
}

/// Which messages of a record are settled, until version 2: no ranges stand for all of them.
pub(super) fn decode_progress(sequence: u64, body: &[u8]) -> Option<LaneMessages> {
    Some(vec![(sequence, postcard::from_bytes(body).ok()?)])
}

/// Which messages of some records are settled: no ranges stand for all of a record.
pub(super) fn decode_settled(body: &[u8]) -> Option<LaneMessages> {
    postcard::from_bytes(body).ok()
}

/// Which messages of a record are sent together, in version 2.
pub(super) fn decode_bodies(sequence: u64, body: &[u8]) -> Option<Vec<LaneMessages>> {
    let bodies: Vec<MessageRanges> = postcard::from_bytes(body).ok()?;
    Some(bodies.into_iter().map(|body| vec![(sequence, body)]).collect())
}

/// Which messages of some records are sent together.
pub(super) fn decode_together(body: &[u8]) -> Option<Vec<LaneMessages>> {
    postcard::from_bytes(body).ok()
}

/// Writes behind what is there.
struct Append(Vec<u8>);

impl postcard::ser_flavors::Flavor for Append {
    type Output = Vec<u8>;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}
