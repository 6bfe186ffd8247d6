//! The modes: which messages share a body, and what stands between them.

use bytes::Bytes;

use super::{
    body::{Body, Record},
    envelope::Envelope,
    payload::{Refusal, write_raw},
};
use crate::{
    batch::{Batch, Message},
    config::{BatchMode, BodyConfig},
};

/// What becomes of messages in encoding.
#[derive(Debug)]
pub enum Encoded {
    /// They are in this body.
    Body(Body),
    /// The message, an index into the batch, is in none.
    Refused(usize, Refusal),
}

/// Turns a batch into bodies, each within the limits, one at a time. Every message comes out
/// exactly once: in a body or refused.
pub struct Bodies<'b> {
    batch: &'b Batch<'b>,
    config: &'b BodyConfig,
    envelope: Envelope<'b>,
    next: usize,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

impl<'b> Bodies<'b> {
    /// The bodies of `batch`.
    pub fn of(batch: &'b Batch<'b>, config: &'b BodyConfig) -> Self {
        let envelope = Envelope::of(batch, config);
        Self { batch, config, envelope, next: 0, bytes: Vec::new(), records: Vec::new() }
    }

    /// Writes one message behind what is there, with what frames it.
    fn append(&mut self, message: &Message<'_>) -> Result<(), Refusal> {
        let start = self.bytes.len();
        match self.config.mode {
            BatchMode::Individual => self.envelope.write(message, &mut self.bytes),
            BatchMode::Raw => write_raw(message, &mut self.bytes),
            BatchMode::JsonArray => {
                self.bytes.push(if self.records.is_empty() { b'[' } else { b',' });
                self.envelope.write(message, &mut self.bytes)
            }
            BatchMode::NdJson => self.envelope.write(message, &mut self.bytes).map(|()| {
                // JSON text has no line breaks but insignificant ones: in strings they are escaped.
                for byte in &mut self.bytes[start..] {
                    if matches!(byte, b'\n' | b'\r') {
                        *byte = b' ';
                    }
                }
                self.bytes.push(b'\n');
            }),
        }
    }

    /// How many bytes end a body.
    fn closing(&self) -> &'static [u8] {
        if self.config.mode == BatchMode::JsonArray { b"]" } else { b"" }
    }

    fn max_messages(&self) -> usize {
        if self.config.mode.batches() { self.config.max_messages.map_or(usize::MAX, Into::into) } else { 1 }
    }

    /// Room for the next body: what is left of the batch, within the limits.
    fn reserve(&mut self) {
        let left = self.batch.messages[self.next..].iter().take(self.max_messages());
        let bytes: usize = left.map(|message| message.payload.len() + self.envelope.size_hint()).sum();
        self.bytes.reserve_exact(bytes.min(self.config.max_bytes));
    }

    /// The body as far as it was written, if there is anything in it.
    fn finish(&mut self) -> Option<Encoded> {
        if self.records.is_empty() {
            return None;
        }
        self.bytes.extend_from_slice(self.closing());
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        Some(Encoded::Body(Body::new(bytes, self.config.mode, std::mem::take(&mut self.records))))
    }
}

impl Iterator for Bodies<'_> {
    type Item = Encoded;

    fn next(&mut self) -> Option<Encoded> {
        let batch = self.batch;
        while let Some(message) = batch.messages.get(self.next) {
            if self.records.is_empty() {
                self.reserve();
            }
            let start = self.bytes.len();
            if let Err(refusal) = self.append(message) {
                self.bytes.truncate(start);
                self.next += 1;
                return Some(Encoded::Refused(self.next - 1, refusal));
            }
            let bytes = self.bytes.len() + self.closing().len();
            if bytes > self.config.max_bytes {
                self.bytes.truncate(start);
                if let Some(body) = self.finish() {
                    // It opens the next body.
                    return Some(body);
                }
                self.next += 1;
                let limit = self.config.max_bytes;
                return Some(Encoded::Refused(self.next - 1, Refusal::TooLarge { bytes, limit }));
            }
            let end = self.bytes.len() - usize::from(self.config.mode == BatchMode::NdJson);
            self.records.push(Record { message: self.next, end });
            self.next += 1;
            if self.records.len() == self.max_messages() {
                break;
            }
        }
        self.finish()
    }
}
