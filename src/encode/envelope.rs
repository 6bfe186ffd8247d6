//! One message as JSON: `{"metadata":{…},"payload":…}`, or the payload alone.

use std::fmt::Write;

use iggy_connector_sdk::{BorrowedField, BorrowedHeaders, BorrowedMessage, Error, HeaderKind, Schema};

use crate::{
    batch::Batch,
    config::BodyConfig,
    payload::{
        HEADER_ENCODING, Known, Refusal, write_base64_object, write_id, write_json, write_number,
        write_string,
    },
};

/// Writes the envelopes of one batch. The part that its messages have in common is rendered once.
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

    /// The expected size of an envelope without its payload, if it has few headers.
    pub(super) fn size_hint(&self) -> usize {
        if self.config.include_metadata { 256 + self.origin.len() } else { 2 }
    }

    /// Writes one message. Returns whether it is known to be a single line. After a refusal, `out` may end in the middle of
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

/// Writes headers, with memory that is reused within a batch.
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
