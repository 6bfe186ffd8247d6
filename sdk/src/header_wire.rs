//! The headers of a message on the wire.

use std::collections::BTreeMap;

use crate::{Error, HeaderKey, HeaderValue};

/// The wire form of a message's headers: empty for none.
#[allow(clippy::missing_panics_doc)] // it does not
pub fn encode_headers(headers: &BTreeMap<HeaderKey, HeaderValue>) -> Vec<u8> {
    if headers.is_empty() {
        return Vec::new();
    }
    // A map of known length, and the buffer grows.
    postcard::to_stdvec(headers).expect("headers always encode")
}

/// The headers of a message from their wire form; `None` for no bytes.
///
/// # Errors
/// [`Error::InvalidRecordValue`] if the bytes are not encoded headers.
pub fn decode_headers(bytes: &[u8]) -> Result<Option<BTreeMap<HeaderKey, HeaderValue>>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    postcard::from_bytes(bytes)
        .map(Some)
        .map_err(|error| Error::InvalidRecordValue(format!("headers: {error}")))
}

/// Bytes as standard base64 text; padding may be missing when read.
pub(crate) mod base64_text {
    use std::fmt;

    use base64::Engine;
    use base64::alphabet::STANDARD;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use bytes::Bytes;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                BASE64.decode(text).map(Bytes::from).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}
