//! One message as JSON: `{"metadata":{…},"payload":…}`, or the payload alone.

use std::fmt::Write;

use iggy_connector_sdk::{BorrowedField, BorrowedHeaders, BorrowedMessage, Error, HeaderKind, Schema};

use super::{
    payload::{HEADER_ENCODING, Known, Refusal, write_base64_object, write_json},
    text::write_string,
};
use crate::{batch::Batch, config::BodyConfig};

/// Writes the envelopes of one batch. What its messages have in common is written once.
pub(super) struct Envelope<'c> {
    config: &'c BodyConfig,
    schema: Schema,
    /// `"iggy_stream":"…","iggy_topic":"…","iggy_partition_id":…`
    origin: Vec<u8>,
    headers: HeaderWriter,
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
        Self { config, schema: batch.schema, origin, headers: HeaderWriter::default() }
    }

    /// Room for one envelope beside its payload, where headers are few.
    pub(super) fn size_hint(&self) -> usize {
        if self.config.include_metadata { 256 + self.origin.len() } else { 2 }
    }

    /// Writes one message. Returns whether that is surely a single line. After a refusal, `out` may end in the middle of
    /// it.
    pub(super) fn write(
        &mut self,
        message: &BorrowedMessage<'_>,
        known: Known,
        out: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
        if !self.config.include_metadata {
            return write_json(self.schema, message.payload, known, out);
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
        if !message.headers.is_empty() {
            self.headers
                .write(message.headers, out)
                .map_err(|why| Refusal::Undecodable(format!("the headers cannot be read: {why}")))?;
        }
        out.extend_from_slice(b"},\"payload\":");
        let one_line = write_json(self.schema, message.payload, known, out)?;
        out.push(b'}');
        Ok(one_line)
    }
}

/// Writes headers, with memory that is used for all of a batch.
#[derive(Default)]
struct HeaderWriter {
    bytes: Vec<u8>,
    text: String,
}

impl HeaderWriter {
    fn write(&mut self, encoded: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let headers = BorrowedHeaders::read(encoded)?;
        if headers.is_empty() {
            return Ok(());
        }
        out.extend_from_slice(b",\"iggy_headers\":");
        let mut mark = b'{';
        for header in headers {
            let (key, value) = header?;
            out.push(mark);
            mark = b',';
            self.write_text(&key, out)?;
            out.push(b':');
            if value.kind() == HeaderKind::Raw {
                self.bytes.clear();
                value.decode_into(&mut self.bytes)?;
                write_base64_object(&self.bytes, HEADER_ENCODING, out);
            } else {
                self.write_text(&value, out)?;
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn write_text(&mut self, field: &BorrowedField<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        self.bytes.clear();
        let field = field.decode_into(&mut self.bytes)?;
        self.text.clear();
        // Writing to a string does not fail.
        let _ = write!(self.text, "{field}");
        write_string(&self.text, out);
        Ok(())
    }
}

/// Writes 32 lower case hex digits.
pub(crate) fn write_id(id: u128, out: &mut Vec<u8>) {
    let mut text = [0; 32];
    for (digits, bytes) in text.chunks_exact_mut(8).zip(id.to_be_bytes().chunks_exact(4)) {
        let quarter = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        digits.copy_from_slice(&hex_digits(quarter));
    }
    out.extend_from_slice(&text);
}

/// Returns the eight hex digits of a number, all computed at once: one byte of a register each.
#[inline]
fn hex_digits(number: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut nibbles = u64::from(number);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & (0x0f * EACH);
    // 6 more make 16 of whatever is a letter.
    let letters = ((nibbles + 6 * EACH) >> 4) & EACH;
    (nibbles + u64::from(b'0') * EACH + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

pub(crate) fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_the_formatter_writes_it() {
        let mut id = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128;
        for round in 0..1000_u128 {
            let mut written = Vec::new();
            write_id(id, &mut written);
            assert_eq!(String::from_utf8_lossy(&written), format!("{id:032x}"));
            id = id.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(round);
        }
    }
}
