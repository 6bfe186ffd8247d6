//! One dead letter, as a line of NDJSON.

use std::{borrow::Cow, collections::BTreeMap, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use iggy_connector_sdk::{BorrowedMessage, Schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::message::{Message, PayloadEncoding};
use crate::{batch::Batch, failure::Failure};

/// A message that could not be delivered, with the reason and everything that is needed to send it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// When it was given up, RFC 3339, UTC.
    pub time: String,
    /// Why, in one word, such as `undecodable`, `too_large` or `rejected`.
    pub reason: String,
    /// The status of the last answer, if there was one.
    pub status: Option<u16>,
    /// The start of that answer, or what happened instead of one.
    pub answer: String,
    /// How often it was sent.
    pub attempts: u32,
    /// The endpoint, without credentials and query.
    pub url: String,
    /// The stream it came from.
    pub stream: String,
    /// The topic it came from.
    pub topic: String,
    /// The partition that its batch was labelled with.
    pub partition: u32,
    /// Its offset in the partition.
    pub offset: u64,
    /// 32 hex digits.
    pub id: String,
    /// When the server stored it, in microseconds since the Unix epoch.
    pub timestamp: u64,
    /// When its producer created it, in microseconds since the Unix epoch.
    pub origin_timestamp: u64,
    /// The checksum the server computed.
    pub checksum: u64,
    /// Its headers as text, raw ones as base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its headers with their kinds, as they crossed the ABI, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub headers_encoded: String,
    /// What its payload is.
    pub schema: Schema,
    /// The encoding of `payload`.
    pub payload_encoding: PayloadEncoding,
    /// Its payload.
    pub payload: Box<RawValue>,
}

impl Record {
    pub(crate) fn new(
        batch: &Batch<'_>,
        message: &BorrowedMessage<'_>,
        failure: &Failure,
        url: &str,
        now: SystemTime,
    ) -> Self {
        let Message {
            stream,
            topic,
            partition,
            offset,
            id,
            timestamp,
            origin_timestamp,
            checksum,
            headers,
            headers_encoded,
            schema,
            payload_encoding,
            payload,
        } = Message::new(batch, message);
        Self {
            time: humantime::format_rfc3339_millis(now).to_string(),
            reason: failure.reason.to_string(),
            status: failure.status,
            answer: failure.detail.clone(),
            attempts: failure.attempts,
            url: url.to_owned(),
            stream,
            topic,
            partition,
            offset,
            id,
            timestamp,
            origin_timestamp,
            checksum,
            headers,
            headers_encoded,
            schema,
            payload_encoding,
            payload,
        }
    }

    /// The bytes of the payload.
    ///
    /// # Errors
    /// The record was changed and its payload does not match its encoding.
    pub fn payload_bytes(&self) -> Result<Vec<u8>, String> {
        let json = self.payload.get();
        let text = || {
            serde_json::from_str::<Cow<'_, str>>(json)
                .map_err(|why| format!("the payload is no string: {why}"))
        };
        match self.payload_encoding {
            PayloadEncoding::Json => Ok(json.as_bytes().to_vec()),
            PayloadEncoding::Text => Ok(text()?.into_owned().into_bytes()),
            PayloadEncoding::Base64 => {
                STANDARD.decode(text()?.as_bytes()).map_err(|why| format!("the payload is no base64: {why}"))
            }
        }
    }

    /// Returns the original message, over buffers with its headers and its payload.
    ///
    /// # Errors
    /// The id is not 32 hex digits.
    pub(crate) fn message<'b>(
        &self,
        headers: &'b [u8],
        payload: &'b [u8],
    ) -> Result<BorrowedMessage<'b>, String> {
        Ok(BorrowedMessage {
            id: u128::from_str_radix(&self.id, 16).map_err(|_| format!("{:?} is no id", self.id))?,
            offset: self.offset,
            checksum: self.checksum,
            timestamp: self.timestamp,
            origin_timestamp: self.origin_timestamp,
            headers,
            payload,
        })
    }

    /// The headers as they crossed the ABI.
    ///
    /// # Errors
    /// The record was changed and does not hold base64.
    pub(crate) fn header_bytes(&self) -> Result<Vec<u8>, String> {
        STANDARD.decode(&self.headers_encoded).map_err(|why| format!("headers_encoded is no base64: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use iggy_connector_sdk::{HeaderKey, HeaderValue, MessagesMetadata, TopicMetadata, encode_headers};

    use super::*;
    use crate::failure::Reason;

    fn record(schema: Schema, payload: &[u8], headers: &[u8]) -> Record {
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 3, current_offset: 0, schema };
        let message = BorrowedMessage {
            id: u128::MAX - 1,
            offset: 9,
            checksum: 8,
            timestamp: 7,
            origin_timestamp: 6,
            headers,
            payload,
        };
        let messages = [message];
        let batch = Batch::borrowed(&topic, &metadata, &messages);
        let failure =
            Failure { reason: Reason::Rejected, status: Some(400), detail: "no".to_owned(), attempts: 1 };
        Record::new(&batch, &batch.messages[0], &failure, "http://localhost/", SystemTime::now())
    }

    #[test]
    fn every_payload_comes_back_byte_for_byte_from_one_line() {
        for (schema, payload) in [
            (Schema::Json, &br#"{"b":1.0E+2,"a":"\ud800","a":[]}"#[..]),
            (Schema::Json, b" {\"a\":1}"),
            (Schema::Json, b"{\n}\n"),
            (Schema::Json, b"{\"broken\":"),
            (Schema::Json, b""),
            (Schema::Text, "zażółć\n\u{0}\u{2028}".as_bytes()),
            (Schema::Text, b"{}"),
            (Schema::Raw, b"\x00\xff\xfe"),
        ] {
            let line = serde_json::to_string(&record(schema, payload, b"")).expect("a record is written");
            assert!(!line.contains('\n'), "{line}");
            let read: Record = serde_json::from_str(&line).expect("a record is read");
            assert_eq!(read.payload_bytes().as_deref(), Ok(payload), "{line}");
        }
    }

    #[test]
    fn a_message_has_the_fields_of_a_letter_but_for_those_of_its_failure() {
        let headers = BTreeMap::from([(HeaderKey::try_from("n").expect("a key"), HeaderValue::from(5_i64))]);
        let headers = encode_headers(&headers);
        let payload = br#"{"n": 1}"#;
        let record = record(Schema::Json, payload, &headers);
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 3, current_offset: 0, schema: Schema::Json };
        let messages = [record.message(&headers, payload).expect("an id")];
        let message = Message::new(&Batch::borrowed(&topic, &metadata, &messages), &messages[0]);
        let mut letter = serde_json::to_value(&record).expect("a record is written");
        let fields = letter.as_object_mut().expect("an object");
        for key in ["time", "reason", "status", "answer", "attempts", "url"] {
            assert!(fields.remove(key).is_some(), "{key}");
        }
        assert_eq!(fields.len(), 13, "{fields:?}");
        assert_eq!(serde_json::to_value(&message).expect("a message is written"), letter);
    }

    #[test]
    fn json_stands_in_a_record_as_it_is() {
        let line =
            serde_json::to_string(&record(Schema::Json, br#"{"n": 1}"#, b"")).expect("a record is written");
        assert!(line.contains(r#""payload":{"n": 1}"#), "{line}");
    }

    #[test]
    fn the_message_comes_back_with_headers_of_every_kind() {
        let headers = BTreeMap::from([
            (HeaderKey::try_from("n").expect("a key"), HeaderValue::from(-5_i64)),
            (HeaderKey::try_from("r").expect("a key"), HeaderValue::try_from(&b"\xff"[..]).expect("a value")),
        ]);
        let encoded = encode_headers(&headers);
        let record = record(Schema::Json, b"{}", &encoded);
        assert_eq!(
            record.headers,
            BTreeMap::from([("n".to_owned(), "-5".to_owned()), ("r".to_owned(), "/w==".to_owned())])
        );
        let (headers, payload) =
            (record.header_bytes().expect("base64"), record.payload_bytes().expect("bytes"));
        assert_eq!(headers, encoded);
        let message = record.message(&headers, &payload).expect("an id");
        assert_eq!((message.id, message.offset, message.checksum), (u128::MAX - 1, 9, 8));
        assert_eq!((message.timestamp, message.origin_timestamp), (7, 6));
    }
}
