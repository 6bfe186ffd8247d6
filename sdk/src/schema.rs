//! How the payloads of a batch are to be read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use crate::{Error, Payload};

/// The label of a batch's payloads, as the stream's `schema` key in the connector file says.
///
/// The label is a promise of the author of the connector file, not of the bytes: with avro, proto and flatbuffer the
/// runtime can pass JSON under that label.
///
/// Shown and parsed as `json`, `raw`, `text`, `proto`, `flatbuffer`, `avro`. In serde's text formats the fifth is
/// written `flat_buffer`, as the runtime writes it, and read in both spellings. On the wire it is the index, 0 to 5.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumString,
    IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "lowercase")]
pub enum Schema {
    /// JSON, parsed and written again by the runtime.
    #[default]
    Json,
    /// Bytes without a meaning of their own.
    Raw,
    /// UTF-8 text.
    Text,
    /// Protocol Buffers, possibly a `google.protobuf.Any`.
    Proto,
    /// A `FlatBuffers` buffer.
    #[serde(alias = "flatbuffer")]
    #[strum(to_string = "flatbuffer", serialize = "flat_buffer")]
    FlatBuffer,
    /// One Avro datum.
    Avro,
}

impl Schema {
    /// Reads `bytes` as this schema says.
    ///
    /// `Proto` gives [`Payload::Json`] with `type_url` and `value` (standard base64) when the bytes read as a
    /// `google.protobuf.Any`, else [`Payload::Raw`]; `FlatBuffer` and `Avro` are passed on unread.
    ///
    /// # Errors
    /// [`Error::InvalidJsonPayload`] and [`Error::InvalidTextPayload`]; the other schemas take any bytes.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ALL: [(Schema, &str, &str); 6] = [
        (Schema::Json, "json", "json"),
        (Schema::Raw, "raw", "raw"),
        (Schema::Text, "text", "text"),
        (Schema::Proto, "proto", "proto"),
        (Schema::FlatBuffer, "flatbuffer", "flat_buffer"),
        (Schema::Avro, "avro", "avro"),
    ];

    #[test]
    fn names_and_indices() {
        for (index, (schema, shown, serde_name)) in ALL.into_iter().enumerate() {
            assert_eq!(schema.to_string(), shown);
            assert_eq!(shown.parse::<Schema>().unwrap(), schema);
            assert_eq!(serde_name.parse::<Schema>().unwrap(), schema);
            assert_eq!(serde_json::to_value(schema).unwrap(), serde_name);
            for name in [shown, serde_name] {
                assert_eq!(serde_json::from_value::<Schema>(name.into()).unwrap(), schema);
            }
            assert_eq!(postcard::to_stdvec(&schema).unwrap(), [u8::try_from(index).unwrap()]);
            assert_eq!(postcard::from_bytes::<Schema>(&[u8::try_from(index).unwrap()]).unwrap(), schema);
        }
        assert!(postcard::from_bytes::<Schema>(&[6]).is_err());
        assert!("yaml".parse::<Schema>().is_err());
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
