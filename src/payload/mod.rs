//! Writes payloads as JSON text or unchanged, by their schema.

mod json;
mod known;
mod number;
mod text;

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use iggy_connector_sdk::{Payload, Schema};
use serde_json::value::RawValue;

pub(crate) use self::number::{write_id, write_number};
pub(crate) use self::text::{write_escaped, write_string};
pub use self::{json::validate, known::Known};

/// Why a message cannot become part of any body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Its payload or its headers are invalid.
    Undecodable(String),
    /// It lacks a field for a placeholder of the request, or has one that does not fit there.
    Unrenderable(String),
    /// Even alone, it makes a larger body than allowed.
    TooLarge {
        /// The size of that body.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(why) | Self::Unrenderable(why) => f.write_str(why),
            Self::TooLarge { bytes, limit } => {
                write!(f, "a body of {bytes} bytes is over max_payload_size_bytes, {limit}")
            }
        }
    }
}

/// Writes a payload unchanged, validated by its schema.
pub(crate) fn write_raw(schema: Schema, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    match schema {
        Schema::Json => out.extend_from_slice(checked_json(payload)?.text.as_bytes()),
        Schema::Text => out.extend_from_slice(checked_text(payload)?.as_bytes()),
        Schema::Proto => match proto_any(payload) {
            Some(any) => out.extend_from_slice(&any),
            None => out.extend_from_slice(payload),
        },
        Schema::Raw | Schema::FlatBuffer | Schema::Avro => out.extend_from_slice(payload),
    }
    Ok(())
}

/// Writes a payload as JSON text. Returns whether that is known to be a single line.
pub(crate) fn write_json(
    schema: Schema,
    payload: &[u8],
    known: Known,
    out: &mut Vec<u8>,
) -> Result<bool, Refusal> {
    match schema {
        Schema::Json => {
            if let Known::Json { one_line } = known {
                out.extend_from_slice(payload);
                return Ok(one_line);
            }
            let Json { text, one_line } = checked_json(payload)?;
            out.extend_from_slice(text.as_bytes());
            return Ok(one_line);
        }
        Schema::Text => write_string(checked_text(payload)?, out),
        Schema::Proto => match proto_any(payload) {
            // It was written just now.
            Some(any) => out.extend_from_slice(&any),
            None => write_base64_object(payload, PAYLOAD_ENCODING, out),
        },
        Schema::Raw | Schema::FlatBuffer | Schema::Avro => {
            write_base64_object(payload, PAYLOAD_ENCODING, out);
        }
    }
    Ok(true)
}

const PAYLOAD_ENCODING: &[u8] = b"iggy_payload_encoding";
pub(crate) const HEADER_ENCODING: &[u8] = b"iggy_header_encoding";

/// `{"data":"…","KEY":"base64"}`
pub(crate) fn write_base64_object(bytes: &[u8], key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"data\":\"");
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written =
        STANDARD.encode_slice(bytes, &mut out[start..]).expect("four bytes were made room for every three");
    out.truncate(start + written);
    out.extend_from_slice(b"\",\"");
    out.extend_from_slice(key);
    out.extend_from_slice(b"\":\"base64\"}");
}

/// A payload that is JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<'p> {
    pub(crate) text: &'p str,
    /// Whether it is known to have no line breaks.
    pub(crate) one_line: bool,
}

/// Returns the payload as text, if it is JSON. No tree is built.
pub(crate) fn checked_json(payload: &[u8]) -> Result<Json<'_>, Refusal> {
    let text = utf8(payload, "JSON")?;
    if let Known::Json { one_line } = validate(text) {
        return Ok(Json { text, one_line });
    }
    // Slower, but exact, and it says what is wrong.
    serde_json::from_str::<&RawValue>(text)
        .map_err(|why| Refusal::Undecodable(format!("the payload is not JSON: {why}")))?;
    Ok(Json { text, one_line: false })
}

fn checked_text(payload: &[u8]) -> Result<&str, Refusal> {
    utf8(payload, "text")
}

fn utf8<'p>(payload: &'p [u8], what: &str) -> Result<&'p str, Refusal> {
    // The fast check only says whether it is valid; if not, the slow one says where.
    simdutf8::basic::from_utf8(payload).map_err(|_| {
        let at = std::str::from_utf8(payload).map_or_else(|why| why.valid_up_to(), |_| payload.len());
        Refusal::Undecodable(format!("the payload is not {what}: invalid UTF-8 at byte {at}"))
    })
}

/// Returns the JSON form of a `google.protobuf.Any`, if the payload is one.
fn proto_any(payload: &[u8]) -> Option<Vec<u8>> {
    match Schema::Proto.try_into_payload(payload.to_vec()) {
        Ok(json @ Payload::Json(_)) => json.try_into_vec().ok(),
        _ => None,
    }
}
