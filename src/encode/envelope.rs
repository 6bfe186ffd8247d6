//! One message as JSON: `{"metadata":{…},"payload":…}`, or the payload alone.

use std::io::Write;

use iggy_connector_sdk::HeaderKind;

use super::payload::{HEADER_ENCODING, Refusal, write_base64_object, write_json, write_string};
use crate::{
    batch::{Batch, Message},
    config::BodyConfig,
};

/// Writes the envelopes of one batch. What its messages have in common is written once.
pub(super) struct Envelope<'c> {
    config: &'c BodyConfig,
    /// `"iggy_stream":"…","iggy_topic":"…","iggy_partition_id":…`
    origin: Vec<u8>,
}

impl<'c> Envelope<'c> {
    pub(super) fn of(batch: &Batch<'_>, config: &'c BodyConfig) -> Self {
        let mut origin = Vec::with_capacity(64 + batch.stream.len() + batch.topic.len());
        origin.extend_from_slice(b"\"iggy_stream\":");
        write_string(batch.stream, &mut origin);
        origin.extend_from_slice(b",\"iggy_topic\":");
        write_string(batch.topic, &mut origin);
        origin.extend_from_slice(b",\"iggy_partition_id\":");
        write_number(batch.partition_id.into(), &mut origin);
        Self { config, origin }
    }

    /// Room for one envelope beside its payload, where headers are few.
    pub(super) fn size_hint(&self) -> usize {
        if self.config.include_metadata { 256 + self.origin.len() } else { 2 }
    }

    /// Writes one message. After a refusal, `out` may end in the middle of it.
    pub(super) fn write(&self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        if !self.config.include_metadata {
            return write_json(message, out);
        }
        out.extend_from_slice(b"{\"metadata\":{\"iggy_id\":\"");
        write_id(message.id, out);
        out.extend_from_slice(b"\",\"iggy_offset\":");
        write_number(message.offset, out);
        out.extend_from_slice(b",\"iggy_timestamp\":");
        write_number(message.timestamp, out);
        out.push(b',');
        out.extend_from_slice(&self.origin);
        if self.config.include_checksum {
            out.extend_from_slice(b",\"iggy_checksum\":");
            write_number(message.checksum, out);
        }
        if self.config.include_origin_timestamp {
            out.extend_from_slice(b",\"iggy_origin_timestamp\":");
            write_number(message.origin_timestamp, out);
        }
        write_headers(message, out)?;
        out.extend_from_slice(b"},\"payload\":");
        write_json(message, out)?;
        out.push(b'}');
        Ok(())
    }
}

fn write_headers(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let headers = message
        .headers()
        .map_err(|why| Refusal::Undecodable(format!("the headers cannot be read: {why}")))?;
    let Some(headers) = headers.filter(|headers| !headers.is_empty()) else {
        return Ok(());
    };
    out.extend_from_slice(b",\"iggy_headers\":");
    for (index, (key, value)) in headers.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        write_string(&key.to_string_value(), out);
        out.push(b':');
        if value.kind() == HeaderKind::Raw {
            write_base64_object(value.as_bytes(), HEADER_ENCODING, out);
        } else {
            write_string(&value.to_string_value(), out);
        }
    }
    out.push(b'}');
    Ok(())
}

/// 32 hex digits, lower case.
fn write_id(id: u128, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    out.extend_from_slice(&text);
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("a number is written to memory");
}
