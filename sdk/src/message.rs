//! A batch and its messages, in their wire form, borrowed and owned, and decoded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, HeaderKey, HeaderValue, Payload, Schema, decode_headers};

/// Where a batch comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicMetadata {
    /// The name of the stream.
    pub stream: String,
    /// The name of the topic.
    pub topic: String,
}

/// What the runtime says about a batch as a whole.
///
/// A batch can mix partitions: it carries the label of its last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MessagesMetadata {
    /// The partition of the last message.
    pub partition_id: u32,
    /// The newest offset of that partition when the batch was polled.
    pub current_offset: u64,
    /// The schema of the payloads.
    pub schema: Schema,
}

/// A message in the runtime's buffer, neither copied nor decoded.
///
/// Timestamps are microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BorrowedMessage<'a> {
    /// The identifier that its producer or the server gave it.
    pub id: u128,
    /// Its offset in its partition.
    pub offset: u64,
    /// The checksum that the server computed.
    pub checksum: u64,
    /// When the server stored it.
    pub timestamp: u64,
    /// When its producer created it.
    pub origin_timestamp: u64,
    /// Encoded headers, for [`decode_headers`](Self::decode_headers); empty for none.
    #[serde(borrow, with = "serde_bytes")]
    pub headers: &'a [u8],
    /// The payload as received.
    #[serde(borrow, with = "serde_bytes")]
    pub payload: &'a [u8],
}

impl BorrowedMessage<'_> {
    /// The headers; `None` if the message has none.
    ///
    /// # Errors
    /// [`Error::InvalidRecordValue`] if the bytes are not encoded headers.
    pub fn decode_headers(&self) -> Result<Option<BTreeMap<HeaderKey, HeaderValue>>, Error> {
        decode_headers(self.headers)
    }

    /// Copies and decodes the message.
    ///
    /// # Errors
    /// That of [`decode_headers`](Self::decode_headers) or of [`Schema::try_into_payload`].
    pub fn to_consumed(&self, schema: Schema) -> Result<ConsumedMessage, Error> {
        Ok(ConsumedMessage {
            id: self.id,
            offset: self.offset,
            checksum: self.checksum,
            timestamp: self.timestamp,
            origin_timestamp: self.origin_timestamp,
            headers: self.decode_headers()?,
            payload: schema.try_into_payload(self.payload.to_vec())?,
        })
    }
}

/// A batch over the runtime's buffer. Its wire form is that of [`RawMessages`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BorrowedMessages<'a> {
    /// How the payloads were encoded by the runtime.
    pub schema: Schema,
    /// The messages in the order they were polled; may be empty.
    #[serde(borrow)]
    pub messages: Vec<BorrowedMessage<'a>>,
}

/// A batch that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawMessages {
    /// How the payloads were encoded by the runtime.
    pub schema: Schema,
    /// The messages in the order they were polled; may be empty.
    pub messages: Vec<RawMessage>,
}

/// A [`BorrowedMessage`] that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RawMessage {
    /// The identifier that its producer or the server gave it.
    pub id: u128,
    /// Its offset in its partition.
    pub offset: u64,
    /// The checksum that the server computed.
    pub checksum: u64,
    /// When the server stored it, in microseconds since the Unix epoch.
    pub timestamp: u64,
    /// When its producer created it, in microseconds since the Unix epoch.
    pub origin_timestamp: u64,
    /// Encoded headers; empty for none.
    #[serde(with = "serde_bytes")]
    pub headers: Vec<u8>,
    /// The payload as received.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

impl RawMessage {
    /// A view of this message.
    pub fn borrowed(&self) -> BorrowedMessage<'_> {
        BorrowedMessage {
            id: self.id,
            offset: self.offset,
            checksum: self.checksum,
            timestamp: self.timestamp,
            origin_timestamp: self.origin_timestamp,
            headers: &self.headers,
            payload: &self.payload,
        }
    }
}

/// A message for [`Sink::consume`](crate::Sink::consume): owned, with headers and payload decoded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConsumedMessage {
    /// The identifier that its producer or the server gave it.
    pub id: u128,
    /// Its offset in its partition.
    pub offset: u64,
    /// The checksum that the server computed.
    pub checksum: u64,
    /// When the server stored it, in microseconds since the Unix epoch.
    pub timestamp: u64,
    /// When its producer created it, in microseconds since the Unix epoch.
    pub origin_timestamp: u64,
    /// Its headers, if it has any.
    pub headers: Option<BTreeMap<HeaderKey, HeaderValue>>,
    /// Its payload, decoded by the batch's schema.
    pub payload: Payload,
}
