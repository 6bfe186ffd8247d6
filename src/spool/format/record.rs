//! Encodes batches as records, and decodes them.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use iggy_connector_sdk::{BorrowedMessage, BorrowedMessages, MessagesMetadata, Schema};
use serde::Serialize;

use super::{Header, Kind, PREFIX, flag};
use crate::spool::{
    error::SpoolError,
    lanes::{
        key::LaneKey,
        ranges::{LaneMessages, MessageRanges},
    },
};

/// The maximum size of a message without its headers and payload: an id of 19 bytes, four numbers of 10, two lengths of 5.
const MESSAGE_OVERHEAD: usize = 72;

/// Decodes the body of a record into a batch, and the time when it was accepted in microseconds since the Unix epoch.
pub(in crate::spool) fn decode(
    body: &[u8],
) -> Result<(u64, MessagesMetadata, Vec<BorrowedMessage<'_>>), SpoolError> {
    let undecodable = |why: postcard::Error| SpoolError::Undecodable(why.to_string());
    let ((accepted, metadata), rest): ((u64, MessagesMetadata), _) =
        postcard::take_from_bytes(body).map_err(undecodable)?;
    let batch: BorrowedMessages<'_> = postcard::from_bytes(rest).map_err(undecodable)?;
    Ok((accepted, metadata, batch.messages))
}

/// A record that is complete except for its position.
#[derive(Debug)]
pub(in crate::spool) struct Draft {
    pub(in crate::spool) header: Header,
    /// Room for the fixed part of the header, and all that follows it.
    pub(in crate::spool) bytes: Vec<u8>,
}

impl Draft {
    /// Encodes a batch into `bytes`; `None` if it is larger than a record can be.
    pub(in crate::spool) fn batch(
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

    /// Encodes which messages of some records are settled; no ranges mean all of a record.
    pub(in crate::spool) fn settled(lane: &LaneKey, settled: &LaneMessages, bytes: Vec<u8>) -> Option<Self> {
        Self::new(Kind::Settled, lane, settled, room(settled), bytes)
    }

    /// Encodes which messages of some records are sent together.
    pub(in crate::spool) fn together(
        lane: &LaneKey,
        bodies: &[Arc<LaneMessages>],
        bytes: Vec<u8>,
    ) -> Option<Self> {
        let room = bodies.iter().map(|body| 5 + room(body)).sum();
        let bodies: Vec<&LaneMessages> = bodies.iter().map(|body| &**body).collect();
        Self::new(Kind::Together, lane, &bodies, room, bytes)
    }

    /// Creates a copy of a record that was read, for another position.
    pub(in crate::spool) fn moved(header: Header, names: &[u8], body: &[u8]) -> Self {
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

    /// Completes the record for a position.
    pub(in crate::spool) fn seal(&mut self, segment: u64, position: u64) -> &[u8] {
        self.bytes[..PREFIX].copy_from_slice(&self.header.bytes(segment, position));
        &self.bytes
    }
}

/// The maximum size of these, in bytes.
fn room(messages: &LaneMessages) -> usize {
    messages.iter().map(|(_, ranges)| 15 + ranges.len() * 10).sum()
}

/// Decodes which messages of a record are settled, until version 2: no ranges mean all of them.
pub(in crate::spool) fn decode_progress(sequence: u64, body: &[u8]) -> Option<LaneMessages> {
    Some(vec![(sequence, postcard::from_bytes(body).ok()?)])
}

/// Decodes which messages of some records are settled: no ranges mean all of a record.
pub(in crate::spool) fn decode_settled(body: &[u8]) -> Option<LaneMessages> {
    postcard::from_bytes(body).ok()
}

/// Decodes which messages of a record are sent together, in version 2.
pub(in crate::spool) fn decode_bodies(sequence: u64, body: &[u8]) -> Option<Vec<LaneMessages>> {
    let bodies: Vec<MessageRanges> = postcard::from_bytes(body).ok()?;
    Some(bodies.into_iter().map(|body| vec![(sequence, body)]).collect())
}

/// Decodes which messages of some records are sent together.
pub(in crate::spool) fn decode_together(body: &[u8]) -> Option<Vec<LaneMessages>> {
    postcard::from_bytes(body).ok()
}

/// Appends to a buffer.
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
