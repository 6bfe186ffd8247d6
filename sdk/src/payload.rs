//! A decoded payload.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{Error, Schema};

/// A payload, decoded by its [`Schema`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Payload {
    /// A JSON tree.
    Json(simd_json::OwnedValue),
    /// Bytes as received.
    Raw(Vec<u8>),
    /// UTF-8 text.
    Text(String),
    /// Protocol Buffers in a text form.
    Proto(String),
    /// A `FlatBuffers` buffer, not decoded.
    FlatBuffer(Vec<u8>),
    /// An Avro datum, not decoded.
    Avro(Vec<u8>),
}

impl Payload {
    /// Converts the payload to bytes: JSON is written in compact form, everything else is returned unchanged.
    ///
    /// # Errors
    /// [`Error::InvalidJsonPayload`] if the tree cannot be written.
    pub fn try_into_vec(self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Json(value) => json_bytes(&value),
            Self::Text(text) | Self::Proto(text) => Ok(text.into_bytes()),
            Self::Raw(bytes) | Self::FlatBuffer(bytes) | Self::Avro(bytes) => Ok(bytes),
        }
    }

    /// Like [`try_into_vec`](Self::try_into_vec), without consuming the payload: everything but JSON is copied.
    ///
    /// # Errors
    /// [`Error::InvalidJsonPayload`] if the tree cannot be written.
    pub fn try_to_bytes(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Json(value) => json_bytes(value),
            Self::Text(text) | Self::Proto(text) => Ok(text.clone().into_bytes()),
            Self::Raw(bytes) | Self::FlatBuffer(bytes) | Self::Avro(bytes) => Ok(bytes.clone()),
        }
    }
}

impl Schema {
    /// Decodes `bytes` by this schema.
    ///
    /// `Proto` gives [`Payload::Json`] with `type_url` and `value` (standard base64) if the bytes are a
    /// `google.protobuf.Any`, else [`Payload::Raw`]; `FlatBuffer` and `Avro` are passed on without decoding.
    ///
    /// # Errors
    /// [`Error::InvalidJsonPayload`] and [`Error::InvalidTextPayload`]; the other schemas accept any bytes.
    pub fn try_into_payload(self, mut bytes: Vec<u8>) -> Result<Payload, Error> {
        match self {
            Self::Json => simd_json::to_owned_value(&mut bytes)
                .map(Payload::Json)
                .map_err(|_| Error::InvalidJsonPayload),
            Self::Raw => Ok(Payload::Raw(bytes)),
            Self::Text => String::from_utf8(bytes).map(Payload::Text).map_err(|_| Error::InvalidTextPayload),
            Self::Proto => Ok(match prost_types::Any::decode(bytes.as_slice()) {
                Ok(any) => Payload::Json(simd_json::json!({
                    "type_url": any.type_url,
                    "value": STANDARD.encode(&any.value),
                })),
                Err(_) => Payload::Raw(bytes),
            }),
            Self::FlatBuffer => Ok(Payload::FlatBuffer(bytes)),
            Self::Avro => Ok(Payload::Avro(bytes)),
        }
    }
}

fn json_bytes(value: &simd_json::OwnedValue) -> Result<Vec<u8>, Error> {
    simd_json::to_vec(value).map_err(|_| Error::InvalidJsonPayload)
}

/// For people: `Json(…)` indented, `Text(…)`, `Raw([…])`, and only the length of flatbuffer and avro.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(value) => {
                write!(f, "Json({})", simd_json::to_string_pretty(value).map_err(|_| fmt::Error)?)
            }
            Self::Raw(bytes) => write!(f, "Raw({bytes:#?})"),
            Self::Text(text) => write!(f, "Text({text})"),
            Self::Proto(text) => write!(f, "Proto({text})"),
            Self::FlatBuffer(bytes) => write!(f, "FlatBuffer({} bytes)", bytes.len()),
            Self::Avro(bytes) => write!(f, "Avro({} bytes)", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bytes_both_ways_and_display() {
        let json = Payload::Json(simd_json::json!({"a": [1, null]}));
        let cases = [
            (json, &br#"{"a":[1,null]}"#[..], "Json({\n  \"a\": [\n    1,\n    null\n  ]\n})"),
            (Payload::Raw(vec![1, 2]), b"\x01\x02", "Raw([\n    1,\n    2,\n])"),
            (Payload::Text("t".into()), b"t", "Text(t)"),
            (Payload::Proto("p".into()), b"p", "Proto(p)"),
            (Payload::FlatBuffer(vec![0; 3]), b"\0\0\0", "FlatBuffer(3 bytes)"),
            (Payload::Avro(vec![0; 2]), b"\0\0", "Avro(2 bytes)"),
        ];
        for (payload, bytes, shown) in cases {
            assert_eq!(payload.to_string(), shown);
            assert_eq!(payload.try_to_bytes().unwrap(), bytes);
            assert_eq!(payload.try_into_vec().unwrap(), bytes);
        }
    }

    #[test]
    fn proto_falls_back_to_raw() {
        let json_under_a_proto_label = br#"{"a":1}"#.to_vec();
        let payload = Schema::Proto.try_into_payload(json_under_a_proto_label.clone()).unwrap();
        assert!(matches!(payload, Payload::Raw(bytes) if bytes == json_under_a_proto_label));
    }

    #[test]
    fn hostile_json_is_an_error() {
        for bytes in [&b""[..], b" ", b"{", b"\xff", b"{}x", b"nul", b"1 2", b"\"\\ud800\""] {
            assert_eq!(
                Schema::Json.try_into_payload(bytes.to_vec()).unwrap_err(),
                Error::InvalidJsonPayload,
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn deep_json_does_not_exhaust_the_stack() {
        for depth in [1_000, 100_000, 2_000_000] {
            let mut bytes = vec![b'['; depth];
            bytes.resize(2 * depth, b']');
            drop(Schema::Json.try_into_payload(bytes));
        }
    }
}
