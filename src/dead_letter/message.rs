//! A message as JSON, the same in a dead letter and in an export of a spool.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use iggy_connector_sdk::{BorrowedMessage, HeaderKind, Schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::batch::Batch;

/// A message with where it came from. [`Record`](super::Record) has the same fields, and says what they mean.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "they are those of a record")]
pub struct Message {
    pub stream: String,
    pub topic: String,
    pub partition: u32,
    pub offset: u64,
    pub id: String,
    pub timestamp: u64,
    pub origin_timestamp: u64,
    pub checksum: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub headers_encoded: String,
    pub schema: Schema,
    pub payload_encoding: PayloadEncoding,
    pub payload: Box<RawValue>,
}

/// The encoding of a payload in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadEncoding {
    /// The payload is JSON, written unchanged.
    Json,
    /// The payload is UTF-8, written as a string.
    Text,
    /// The payload is written in base64.
    Base64,
}

impl Message {
    /// A message of a batch.
    pub fn new(batch: &Batch<'_>, message: &BorrowedMessage<'_>) -> Self {
        let headers = message.decode_headers().ok().flatten();
        let text = headers.iter().flat_map(|headers| headers.iter()).map(|(key, value)| {
            let text = match value.kind() {
                HeaderKind::Raw => STANDARD.encode(value.as_bytes()),
                _ => value.to_string_value(),
            };
            (key.to_string_value(), text)
        });
        let (payload_encoding, payload) = written(batch.schema, message.payload);
        Self {
            stream: batch.stream.to_owned(),
            topic: batch.topic.to_owned(),
            partition: batch.partition_id,
            offset: message.offset,
            id: format!("{:032x}", message.id),
            timestamp: message.timestamp,
            origin_timestamp: message.origin_timestamp,
            checksum: message.checksum,
            headers: text.collect(),
            headers_encoded: STANDARD.encode(message.headers),
            schema: batch.schema,
            payload_encoding,
            payload,
        }
    }
}

/// Encodes a payload in the most readable form that preserves its bytes.
fn written(schema: Schema, payload: &[u8]) -> (PayloadEncoding, Box<RawValue>) {
    let text = std::str::from_utf8(payload).ok();
    // A record is one line, and a line break in JSON text can only be between values.
    let json = text.filter(|text| schema == Schema::Json && !text.contains(['\n', '\r']));
    // Whitespace at the ends would be lost.
    let json = json.filter(|text| text.trim_ascii().len() == text.len());
    if let Some(json) = json.and_then(|text| RawValue::from_string(text.to_owned()).ok()) {
        return (PayloadEncoding::Json, json);
    }
    let (encoding, string) = match text {
        Some(text) => (PayloadEncoding::Text, Cow::Borrowed(text)),
        None => (PayloadEncoding::Base64, Cow::Owned(STANDARD.encode(payload))),
    };
    let string = serde_json::value::to_raw_value(&string).expect("a string is written to memory");
    (encoding, string)
}
