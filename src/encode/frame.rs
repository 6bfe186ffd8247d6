//! The modes: which messages share a body, and what stands between them.

use iggy_connector_sdk::BorrowedMessage;
use memchr::memchr2;

use super::{
    body::{Body, Frame, Record},
    buffers::Buffers,
    envelope::Envelope,
    payload::{Refusal, write_raw},
};
use crate::{
    batch::Batch,
    config::{BatchMode, BodyConfig},
    plan::{Lane, Place},
};

/// What becomes of messages in encoding.
#[derive(Debug)]
pub enum Encoded {
    /// They are in this body.
    Body(Body),
    /// The message, an index into the batch, is in none.
    Refused(usize, Refusal),
}

/// Turns the messages of a lane into bodies, each within the limits, one at a time. Every message
/// comes out exactly once: in a body or refused.
pub struct Bodies<'b> {
    batch: &'b Batch<'b>,
    buffers: &'b Buffers,
    config: &'b BodyConfig,
    lane: Lane,
    frame: Frame,
    envelope: Envelope<'b>,
    /// The place in the lane of the next message.
    next: usize,
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// Whether the body that is being written was written down before.
    noted: bool,
    /// The most bytes that it may have.
    limit: usize,
}

impl<'b> Bodies<'b> {
    /// The bodies of the messages of `batch` that are in `lane`.
    pub fn of(batch: &'b Batch<'b>, lane: Lane, config: &'b BodyConfig, buffers: &'b Buffers) -> Self {
        let envelope = Envelope::of(batch, config);
        let origin = format!("{}\0{}\0{}\0", batch.stream, batch.topic, batch.partition_id);
        let frame = Frame { mode: config.mode, origin: origin.into() };
        Self {
            batch,
            buffers,
            config,
            lane,
            frame,
            envelope,
            next: 0,
            bytes: Vec::new(),
            records: Vec::new(),
            noted: false,
            limit: 0,
        }
    }

    /// The next body, or the next message that is refused. A body of several messages keeps within
    /// `limit` bytes too, which is lower than the configured one where the endpoint takes less; but not one that may have been
    /// sent before: in parts it would have other idempotency keys.
    pub fn next_within(&mut self, limit: usize) -> Option<Encoded> {
        let batch = self.batch;
        while let Some(Place { message: index, begins, noted }) = self.lane.get(self.next) {
            let message = &batch.messages[index];
            if self.records.is_empty() {
                self.noted = noted;
                self.limit = if noted { self.config.max_bytes } else { limit.min(self.config.max_bytes) };
                self.reserve(self.limit);
            } else if begins || self.records.last().is_some_and(|last| last.offset >= message.offset) {
                // Offsets grow within a partition: where they do not, this is another one, and a body is of one alone.
                break;
            }
            let start = self.bytes.len();
            if let Err(refusal) = self.append(message) {
                self.bytes.truncate(start);
                self.next += 1;
                return Some(Encoded::Refused(index, refusal));
            }
            let bytes = self.bytes.len() + self.closing().len();
            if bytes > self.limit && !self.records.is_empty() {
                // It opens the next body.
                self.bytes.truncate(start);
                break;
            }
            self.next += 1;
            if bytes > self.config.max_bytes {
                self.bytes.truncate(start);
                return Some(Encoded::Refused(
                    index,
                    Refusal::TooLarge { bytes, limit: self.config.max_bytes },
                ));
            }
            let end = self.bytes.len() - usize::from(self.config.mode == BatchMode::NdJson);
            self.records.push(Record { message: index, end, id: message.id, offset: message.offset });
            if self.records.len() == self.max_messages() {
                break;
            }
        }
        self.finish()
    }

    /// Whether the lane ended before this body of it was full, and more messages could follow.
    pub fn has_room_behind(&self, body: &Body) -> bool {
        self.lane.get(self.next).is_none() && body.len() < self.max_messages()
    }

    /// Writes one message behind what is there, with what frames it.
    fn append(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Refusal> {
        let start = self.bytes.len();
        match self.config.mode {
            BatchMode::Individual => self.envelope.write(message, &mut self.bytes).map(drop),
            BatchMode::Raw => write_raw(self.batch.schema, message.payload, &mut self.bytes),
            BatchMode::JsonArray => {
                self.bytes.push(if self.records.is_empty() { b'[' } else { b',' });
                self.envelope.write(message, &mut self.bytes).map(drop)
            }
            BatchMode::NdJson => {
                if !self.envelope.write(message, &mut self.bytes)? {
                    // JSON text has no line breaks but insignificant ones: in strings they are escaped.
                    let mut rest = &mut self.bytes[start..];
                    while let Some(at) = memchr2(b'\n', b'\r', rest) {
                        rest[at] = b' ';
                        rest = &mut rest[at + 1..];
                    }
                }
                self.bytes.push(b'\n');
                Ok(())
            }
        }
    }

    /// What ends a body.
    fn closing(&self) -> &'static [u8] {
        if self.config.mode == BatchMode::JsonArray { b"]" } else { b"" }
    }

    fn max_messages(&self) -> usize {
        if self.config.mode.batches() { self.config.max_messages.map_or(usize::MAX, Into::into) } else { 1 }
    }

    /// Room for the next body: what is left of the lane, within the limits.
    fn reserve(&mut self, limit: usize) {
        let (mut bytes, mut messages): (usize, usize) = (0, 0);
        for place in self.next..self.next.saturating_add(self.max_messages()) {
            let Some(message) = self.lane.get(place).map(|place| &self.batch.messages[place.message]) else {
                break;
            };
            bytes = bytes.saturating_add(message.payload.len() + self.envelope.size_hint());
            messages += 1;
            if bytes >= limit {
                break;
            }
        }
        self.bytes = self.buffers.take(bytes.min(limit));
        self.records.reserve_exact(messages);
    }

    /// The body as far as it was written, if there is anything in it.
    fn finish(&mut self) -> Option<Encoded> {
        if self.records.is_empty() {
            return None;
        }
        self.bytes.extend_from_slice(self.closing());
        let bytes = self.buffers.lend(std::mem::take(&mut self.bytes));
        let mut body = Body::new(bytes, self.frame.clone(), std::mem::take(&mut self.records));
        body.noted = self.noted;
        Some(Encoded::Body(body))
    }
}
