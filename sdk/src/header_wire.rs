//! The headers of a message on the wire.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use serde::Deserialize;

use crate::header_base64::BASE64;
use crate::header_text::Text;
use crate::{Error, HeaderKey, HeaderKind, HeaderValue};

/// The wire form of a message's headers: empty for none.
#[allow(clippy::missing_panics_doc)] // it does not
pub fn encode_headers(headers: &BTreeMap<HeaderKey, HeaderValue>) -> Vec<u8> {
    if headers.is_empty() {
        return Vec::new();
    }
    // The map has a known length, and the buffer grows.
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
    postcard::from_bytes(bytes).map(Some).map_err(unreadable)
}

/// The headers of a message, read in place one by one, in the order they are stored in.
#[derive(Debug, Clone)]
pub struct BorrowedHeaders<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> BorrowedHeaders<'a> {
    /// Reads the headers in these bytes; empty bytes mean no headers.
    ///
    /// # Errors
    /// [`Error::InvalidRecordValue`] if the bytes do not even say how many headers there are.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Ok(Self { left: 0, rest: bytes });
        }
        let (left, rest) = postcard::take_from_bytes(bytes).map_err(unreadable)?;
        Ok(Self { left, rest })
    }

    /// Whether there are no more.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for BorrowedHeaders<'a> {
    type Item = Result<(BorrowedField<'a>, BorrowedField<'a>), Error>;

    /// A key and its value. Nothing comes after an error.
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(match postcard::take_from_bytes(self.rest) {
            Ok((header, rest)) => {
                self.rest = rest;
                Ok(header)
            }
            Err(error) => {
                self.left = 0;
                Err(unreadable(error))
            }
        })
    }
}

/// A header field in its wire form: its kind, and its bytes as base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct BorrowedField<'a> {
    kind: HeaderKind,
    #[serde(rename = "value")]
    base64: &'a str,
}

impl BorrowedField<'_> {
    /// What its bytes mean.
    pub fn kind(&self) -> HeaderKind {
        self.kind
    }

    /// Appends its bytes to `buffer`. The returned value is displayed like the decoded field by
    /// [`to_string_value`](crate::HeaderField::to_string_value).
    ///
    /// # Errors
    /// [`Error::InvalidRecordValue`] if they are not base64.
    pub fn decode_into<'b>(&self, buffer: &'b mut Vec<u8>) -> Result<impl fmt::Display + use<'b>, Error> {
        let start = buffer.len();
        BASE64.decode_vec(self.base64, buffer).map_err(unreadable)?;
        Ok(Text { kind: self.kind, bytes: &buffer[start..] })
    }
}

fn unreadable(why: impl fmt::Display) -> Error {
    Error::InvalidRecordValue(format!("headers: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(encoded: &[u8]) -> Result<Vec<(String, String)>, Error> {
        let mut buffer = Vec::new();
        let mut text = |field: BorrowedField<'_>| {
            buffer.clear();
            field.decode_into(&mut buffer).map(|text| text.to_string())
        };
        BorrowedHeaders::read(encoded)?
            .map(|header| header.and_then(|(key, value)| Ok((text(key)?, text(value)?))))
            .collect()
    }

    #[test]
    fn read_where_they_lie_they_are_those_that_are_decoded() {
        let key = |name: &str| HeaderKey::try_from(name).expect("a key");
        let headers = BTreeMap::from([
            (key("raw"), HeaderValue::try_from(&b"\0\xff'\"\n"[..]).expect("a value")),
            (key("text"), HeaderValue::try_from("zażółć").expect("a value")),
            (key("yes"), HeaderValue::from(true)),
            (key("i8"), HeaderValue::from(-1_i8)),
            (key("i128"), HeaderValue::from(i128::MIN)),
            (key("u128"), HeaderValue::from(u128::MAX)),
            (key("f32"), HeaderValue::from(-0.5_f32)),
            (key("f64"), HeaderValue::from(f64::NAN)),
            (HeaderKey::from(7_u16), HeaderValue::from(8_u64)),
        ]);
        let decoded: Vec<(String, String)> =
            headers.iter().map(|(key, value)| (key.to_string_value(), value.to_string_value())).collect();
        let encoded = encode_headers(&headers);
        assert_eq!(texts(&encoded).expect("headers"), decoded);
        assert!(texts(b"").expect("none").is_empty());
    }

    #[test]
    fn malformed_fields_are_shown_and_bytes_that_are_no_headers_are_not() {
        // One header: a key of kind 5, int32, without bytes, and a value of kind 1, text that is not UTF-8.
        assert_eq!(
            texts(b"\x01\x05\x00\x01\x04/w==").expect("headers"),
            [("<malformed int32>".to_owned(), "\u{fffd}".to_owned())]
        );
        for wrong in [
            &b"\x01"[..],
            b"\x02\x01\x00\x01\x00",
            b"\x01\x0f\x00\x01\x00",
            b"\x01\x01\x01!\x01\x00",
            b"\xff",
        ] {
            texts(wrong).expect_err("these are no headers");
            decode_headers(wrong).expect_err("these are no headers");
        }
    }
}
