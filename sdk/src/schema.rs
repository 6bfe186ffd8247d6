//! How the payloads of a batch are decoded.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

/// The label of a batch's payloads, from the stream's `schema` key in the connector file.
///
/// The label is a promise of the author of the connector file, which the bytes may not keep: with avro, proto and flatbuffer
/// the runtime can pass JSON under that label.
///
/// Displayed and parsed as `json`, `raw`, `text`, `proto`, `flatbuffer`, `avro`. In serde's text formats the fifth is written
/// `flat_buffer`, as the runtime writes it, and both spellings are read. On the wire it is the index, 0 to 5.
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
    /// Uninterpreted bytes.
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
}
