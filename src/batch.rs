//! A batch as every later stage sees it, whichever way it came in.

use std::collections::BTreeMap;

use iggy_connector_sdk::{
    BorrowedMessage, ConsumedMessage, Error, HeaderKey, HeaderValue, MessagesMetadata, Payload, Schema,
    TopicMetadata, encode_headers,
};

/// The messages of one consume call. Payloads stay where they are until they are written into a body.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The stream they came from.
    pub stream: &'a str,
    /// The topic they came from.
    pub topic: &'a str,
    /// The partition that the batch is labelled with: that of its last message.
    pub partition_id: u32,
    /// The messages, in the order they came in.
    pub messages: Vec<Message<'a>>,
}

/// One message.
#[derive(Debug)]
pub struct Message<'a> {
    /// The id its producer gave it.
    pub id: u128,
    /// Its place in its partition.
    pub offset: u64,
    /// The checksum the server computed.
    pub checksum: u64,
    /// When the server took it, in microseconds since the Unix epoch.
    pub timestamp: u64,
    /// When its producer made it, in microseconds since the Unix epoch.
    pub origin_timestamp: u64,
    /// What its payload is.
    pub schema: Schema,
    /// Its payload.
    pub payload: &'a [u8],
    headers: Headers<'a>,
}

#[derive(Debug)]
enum Headers<'a> {
    /// As they crossed the ABI, with the message that knows how to read them.
    Encoded(&'a BorrowedMessage<'a>),
    Decoded(Option<&'a BTreeMap<HeaderKey, HeaderValue>>),
}

impl<'a> Batch<'a> {
    /// A batch as it crossed the ABI.
    pub fn borrowed(
        topic: &'a TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &'a [BorrowedMessage<'a>],
    ) -> Self {
        let messages = messages
            .iter()
            .map(|message| Message {
                id: message.id,
                offset: message.offset,
                checksum: message.checksum,
                timestamp: message.timestamp,
                origin_timestamp: message.origin_timestamp,
                schema: metadata.schema,
                payload: message.payload,
                headers: Headers::Encoded(message),
            })
            .collect();
        Self { stream: &topic.stream, topic: &topic.topic, partition_id: metadata.partition_id, messages }
    }

    /// A batch of messages that were decoded before, with their payloads written by [`written_payload`].
    pub fn decoded(
        topic: &'a TopicMetadata,
        metadata: &MessagesMetadata,
        messages: &'a [(ConsumedMessage, Schema, Vec<u8>)],
    ) -> Self {
        let messages = messages
            .iter()
            .map(|(message, schema, payload)| Message {
                id: message.id,
                offset: message.offset,
                checksum: message.checksum,
                timestamp: message.timestamp,
                origin_timestamp: message.origin_timestamp,
                schema: *schema,
                payload,
                headers: Headers::Decoded(message.headers.as_ref()),
            })
            .collect();
        Self { stream: &topic.stream, topic: &topic.topic, partition_id: metadata.partition_id, messages }
    }
}

impl Message<'_> {
    /// The headers of the message; `None` where it has none.
    ///
    /// # Errors
    /// The bytes are not a map of headers.
    pub fn headers(&self) -> Result<Option<std::borrow::Cow<'_, BTreeMap<HeaderKey, HeaderValue>>>, Error> {
        Ok(match self.headers {
            Headers::Encoded(message) => message.decode_headers()?.map(std::borrow::Cow::Owned),
            Headers::Decoded(headers) => headers.map(std::borrow::Cow::Borrowed),
        })
    }

    /// The headers as they cross the ABI; empty where it has none.
    pub fn encoded_headers(&self) -> std::borrow::Cow<'_, [u8]> {
        match self.headers {
            Headers::Encoded(message) => message.headers.into(),
            Headers::Decoded(headers) => headers.map(encode_headers).unwrap_or_default().into(),
        }
    }
}

/// A decoded payload as bytes, with the schema that says how a body shows them.
///
/// # Errors
/// A JSON value that cannot be written.
pub fn written_payload(payload: &Payload) -> Result<(Schema, Vec<u8>), Error> {
    let schema = match payload {
        Payload::Json(_) => Schema::Json,
        Payload::Text(_) => Schema::Text,
        // A decoded proto payload is text of unknown form: bytes, as far as a body goes.
        Payload::Raw(_) | Payload::Proto(_) => Schema::Raw,
        Payload::FlatBuffer(_) => Schema::FlatBuffer,
        Payload::Avro(_) => Schema::Avro,
    };
    Ok((schema, payload.try_to_bytes()?))
}
