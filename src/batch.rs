//! A batch as every later stage sees it, however it arrived.

use iggy_connector_sdk::{
    BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, Payload, Schema, TopicMetadata, encode_headers,
};

/// The maximum length of the name of a stream or topic in the log, in bytes: the limit of the server.
pub(crate) const LONGEST_NAME: usize = 255;

/// The messages of one call of consume, borrowed from the caller. Payloads and headers stay there until they are written into
/// a body.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The stream they came from.
    pub stream: &'a str,
    /// The topic they came from.
    pub topic: &'a str,
    /// The partition that the batch is labelled with: that of its last message.
    pub partition_id: u32,
    /// The schema of the payloads.
    pub schema: Schema,
    /// The messages, in the order in which they arrived.
    pub messages: &'a [BorrowedMessage<'a>],
}

impl<'a> Batch<'a> {
    /// A batch as it crossed the ABI.
    pub fn borrowed(
        topic: &'a TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &'a [BorrowedMessage<'a>],
    ) -> Self {
        Self {
            stream: &topic.stream,
            topic: &topic.topic,
            partition_id: metadata.partition_id,
            schema: metadata.schema,
            messages,
        }
    }
}

/// A decoded message, encoded again as the bytes that cross the ABI.
#[derive(Debug)]
pub(crate) struct Written {
    message: ConsumedMessage,
    headers: Vec<u8>,
    schema: Schema,
    payload: Vec<u8>,
}

impl Written {
    /// # Errors
    /// A JSON value cannot be written.
    pub(crate) fn of(message: ConsumedMessage) -> Result<Self, Error> {
        let schema = match &message.payload {
            Payload::Json(_) => Schema::Json,
            Payload::Text(_) => Schema::Text,
            // A decoded proto payload is text of unknown format, and is treated as bytes in a body.
            Payload::Raw(_) | Payload::Proto(_) => Schema::Raw,
            Payload::FlatBuffer(_) => Schema::FlatBuffer,
            Payload::Avro(_) => Schema::Avro,
        };
        let headers = message.headers.as_ref().map(encode_headers).unwrap_or_default();
        let payload = message.payload.try_to_bytes()?;
        Ok(Self { message, headers, schema, payload })
    }

    /// The schema by which a body shows the payload.
    pub(crate) fn schema(&self) -> Schema {
        self.schema
    }

    pub(crate) fn borrowed(&self) -> BorrowedMessage<'_> {
        BorrowedMessage {
            id: self.message.id,
            offset: self.message.offset,
            checksum: self.message.checksum,
            timestamp: self.message.timestamp,
            origin_timestamp: self.message.origin_timestamp,
            headers: &self.headers,
            payload: &self.payload,
        }
    }
}
