//! The wire form, against what the original encoder wrote and the original decoder read.
#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iggy_connector_sdk::{
    BorrowedMessages, HeaderKey, HeaderValue, MessagesMetadata, Payload, RawMessage, RawMessages, Schema,
    TopicMetadata, decode_headers, encode_headers, owned_value_to_serde_json,
};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Vector {
    name: String,
    stream: String,
    topic: String,
    partition_id: u32,
    current_offset: u64,
    schema: String,
    messages: Vec<Message>,
    topic_metadata_b64: String,
    messages_metadata_b64: String,
    raw_messages_b64: String,
}

#[derive(Deserialize)]
struct Message {
    id_hex: String,
    offset: u64,
    checksum: u64,
    timestamp: u64,
    origin_timestamp: u64,
    payload_b64: String,
    headers: Vec<Header>,
    decoded: Value,
}

#[derive(Deserialize)]
struct Header {
    key: String,
    kind: String,
    bytes_b64: String,
    text: String,
}

fn vectors() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/abi/vectors.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let vectors: Vec<Vector> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(vectors.len() >= 15);
    vectors
}

fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// A decoding as the vectors write it.
fn described(payload: Result<Payload, iggy_connector_sdk::Error>) -> Value {
    match payload {
        Ok(Payload::Json(value)) => json!({"json": owned_value_to_serde_json(&value)}),
        Ok(Payload::Raw(bytes)) => json!({"raw_b64": STANDARD.encode(bytes)}),
        Ok(Payload::Text(text)) => json!({"text": text}),
        Ok(Payload::Proto(text)) => json!({"proto": text}),
        Ok(Payload::FlatBuffer(bytes)) => json!({"flatbuffer_b64": STANDARD.encode(bytes)}),
        Ok(Payload::Avro(bytes)) => json!({"avro_b64": STANDARD.encode(bytes)}),
        Err(error) => json!({"error": error.to_string()}),
    }
}

#[test]
fn topics_and_metadata() {
    for vector in vectors() {
        let schema: Schema = vector.schema.parse().unwrap();
        let bytes = base64(&vector.topic_metadata_b64);
        let topic: TopicMetadata = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(topic, TopicMetadata { stream: vector.stream, topic: vector.topic }, "{}", vector.name);
        assert_eq!(postcard::to_stdvec(&topic).unwrap(), bytes);

        let bytes = base64(&vector.messages_metadata_b64);
        let metadata: MessagesMetadata = postcard::from_bytes(&bytes).unwrap();
        let expected = MessagesMetadata {
            partition_id: vector.partition_id,
            current_offset: vector.current_offset,
            schema,
        };
        assert_eq!(metadata, expected, "{}", vector.name);
        assert_eq!(postcard::to_stdvec(&metadata).unwrap(), bytes);
    }
}

#[test]
fn batches_borrowed_and_owned() {
    for vector in vectors() {
        let bytes = base64(&vector.raw_messages_b64);
        let borrowed: BorrowedMessages<'_> = postcard::from_bytes(&bytes).unwrap();
        let owned: RawMessages = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(postcard::to_stdvec(&borrowed).unwrap(), bytes, "{}", vector.name);
        assert_eq!(postcard::to_stdvec(&owned).unwrap(), bytes, "{}", vector.name);

        assert_eq!(borrowed.schema, owned.schema);
        assert_eq!(borrowed.schema, vector.schema.parse().unwrap());
        assert_eq!(borrowed.messages, owned.messages.iter().map(RawMessage::borrowed).collect::<Vec<_>>());
        assert_eq!(borrowed.messages.len(), vector.messages.len());
        let buffer = bytes.as_ptr_range();
        for (message, expected) in borrowed.messages.iter().zip(&vector.messages) {
            assert_eq!(message.id, u128::from_str_radix(&expected.id_hex, 16).unwrap());
            assert_eq!(message.offset, expected.offset);
            assert_eq!(message.checksum, expected.checksum);
            assert_eq!(message.timestamp, expected.timestamp);
            assert_eq!(message.origin_timestamp, expected.origin_timestamp);
            assert_eq!(message.payload, base64(&expected.payload_b64));
            assert!(buffer.contains(&message.payload.as_ptr()) || message.payload.is_empty());
        }
    }
}

#[test]
fn payloads() {
    for vector in vectors() {
        let schema: Schema = vector.schema.parse().unwrap();
        let bytes = base64(&vector.raw_messages_b64);
        let batch: BorrowedMessages<'_> = postcard::from_bytes(&bytes).unwrap();
        for (message, expected) in batch.messages.iter().zip(&vector.messages) {
            let payload = schema.try_into_payload(message.payload.to_vec());
            assert_eq!(described(payload), expected.decoded, "{}", vector.name);
            let consumed = message.to_consumed(schema);
            assert_eq!(consumed.is_err(), expected.decoded.get("error").is_some());
            if let Ok(consumed) = consumed {
                assert_eq!((consumed.id, consumed.offset), (message.id, message.offset));
                assert_eq!(described(Ok(consumed.payload)), expected.decoded);
            }
        }
    }
}

#[test]
fn headers() {
    let mut kinds = std::collections::BTreeSet::new();
    for vector in vectors() {
        let bytes = base64(&vector.raw_messages_b64);
        let batch: BorrowedMessages<'_> = postcard::from_bytes(&bytes).unwrap();
        for (message, expected) in batch.messages.iter().zip(&vector.messages) {
            let decoded = message.decode_headers().unwrap();
            assert_eq!(decoded.is_none(), expected.headers.is_empty());
            let decoded = decoded.unwrap_or_default();
            assert_eq!(encode_headers(&decoded), message.headers);
            assert_eq!(decoded.len(), expected.headers.len());
            for header in &expected.headers {
                let value = &decoded[&HeaderKey::try_from(header.key.as_str()).unwrap()];
                let kind = value.kind();
                assert_eq!(kind.to_string(), header.kind);
                assert_eq!(value.as_bytes(), base64(&header.bytes_b64));
                assert_eq!(value.to_string_value(), header.text);
                assert_eq!(*value, HeaderValue::from_raw(kind, value.as_bytes()).unwrap());
                kinds.insert(kind.to_string());
            }
        }
    }
    assert_eq!(kinds.len(), 15, "the vectors hold every kind");
}

#[test]
fn examples_of_the_contract() {
    let topic = TopicMetadata { stream: "s".into(), topic: "tt".into() };
    assert_eq!(postcard::to_stdvec(&topic).unwrap(), [1, 0x73, 2, 0x74, 0x74]);
    let metadata = MessagesMetadata { partition_id: 3, current_offset: 300, schema: Schema::Avro };
    assert_eq!(postcard::to_stdvec(&metadata).unwrap(), [3, 0xac, 2, 5]);
    let headers = [("k".parse().unwrap(), 42u32.into())].into();
    let bytes = b"\x01\x01\x04aw==\x0a\x08KgAAAA==";
    assert_eq!(encode_headers(&headers), bytes);
    assert_eq!(decode_headers(bytes).unwrap(), Some(headers));
    assert_eq!(encode_headers(&[].into()), b"");
    assert_eq!(decode_headers(b"").unwrap(), None);
}
