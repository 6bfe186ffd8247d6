//! Packing: which messages share a body, by mode and limits, and what is written between them.

use std::sync::Arc;

use bytes::Bytes;
use iggy_connector_sdk::BorrowedMessage;

use super::{
    body::{Body, Frame, Record, Special},
    buffers::Buffers,
    draft::{Draft, Encoded, Put},
    envelope::Envelope,
    groups::Groups,
};
use crate::{
    batch::Batch,
    config::{BatchMode, BodyConfig},
    idempotency::origin,
    payload::{Known, Refusal, write_raw},
    plan::{Lane, LaneItem},
    request::{Framing, Prepared, Source, Target, Template, Trace, on_one_line},
};

/// Turns the messages of a lane into bodies within the limits, one at a time. Every message is returned exactly once: in a
/// body or as refused.
pub struct Bodies<'b> {
    pub(super) batch: &'b Batch<'b>,
    buffers: &'b Buffers,
    pub(super) config: &'b BodyConfig,
    pub(super) lane: Lane,
    frame: Frame,
    /// The fields of all bodies that the mode does not determine.
    pub(super) special: Option<Box<Special>>,
    envelope: Envelope<'b>,
    /// The template of a message, if it is not an envelope.
    template: Option<Prepared<'b>>,
    /// What is known about the payload of the message that is added next.
    pub(super) known: Known,
    /// Whether bodies of several messages carry the traces of these.
    has_links: bool,
    /// How many bytes after each message are a separator.
    trailing: usize,
    /// The index in the lane of the next message.
    pub(super) next: usize,
    /// The body that is being written.
    pub(super) draft: Draft,
    /// If requests depend on their messages: the bodies that are filled side by side.
    pub(super) groups: Option<Groups<'b>>,
}

impl<'b> Bodies<'b> {
    /// Prepares the bodies for the messages of `batch` that are in `lane`.
    pub fn of(batch: &'b Batch<'b>, lane: Lane, config: &'b BodyConfig, buffers: &'b Buffers) -> Self {
        let envelope = Envelope::of(batch, config);
        let origin = origin(batch.stream, batch.topic, batch.partition_id);
        let form = config.form.as_deref();
        // If its parts depend on messages, each group has its own.
        let framing = form.map(|form| Arc::new(Framing::of(form, std::iter::empty())));
        let frame = Frame { mode: config.mode, origin: origin.into() };
        let special = (framing.is_some() || config.compression.is_some())
            .then(|| Box::new(Special { framing, compression: config.compression, ..Special::default() }));
        let groups = config.target.as_deref().filter(|target| target.is_of_messages());
        let groups = groups.map(|target| Groups::of(batch, target, form));
        let template = form.and_then(|form| form.message.as_ref());
        let template = template.map(|template| template.prepared(Source::of(batch)));
        let trailing = usize::from(form.is_none() && config.mode == BatchMode::NdJson);
        let draft = Draft::default();
        Self {
            batch,
            buffers,
            config,
            lane,
            frame,
            special,
            envelope,
            template,
            known: Known::Nothing,
            has_links: false,
            trailing,
            next: 0,
            draft,
            groups,
        }
    }

    /// Sets whether bodies of several messages carry the traces of these.
    #[must_use]
    pub(crate) fn with_links(self, has_links: bool) -> Self {
        Self { has_links, ..self }
    }

    /// Returns the next body, or the next message that is refused. A body of several messages also stays within `limit`
    /// bytes, which is lower than the configured limit if the endpoint accepts less; but a body that may have been sent
    /// before does not, since its parts would have other idempotency keys.
    pub fn next_within(&mut self, limit: usize) -> Option<Encoded> {
        if self.groups.is_some() {
            return self.next_of_groups(limit);
        }
        let batch = self.batch;
        while let Some(item) = self.lane.get(self.next) {
            let message = &batch.messages[item.message];
            if self.is_tombstone(message) {
                if self.draft.records.is_empty() {
                    return Some(self.tombstone(item, message, None));
                }
                break;
            }
            if item.begins && !self.draft.records.is_empty()
                || self.draft.records.last().is_some_and(|last| last.offset >= message.offset)
            {
                // Offsets grow within a partition: if they do not, this is another partition, and a body belongs to one.
                break;
            }
            match self.put(item, message, limit) {
                Put::Added => self.next += 1,
                Put::Full => {
                    self.next += 1;
                    break;
                }
                Put::NoRoom => break,
                Put::Refused(refusal) => {
                    self.next += 1;
                    return Some(Encoded::Refused(item.message, refusal));
                }
            }
        }
        self.finish()
    }

    /// Puts a message into the body that is being written, or into a new one.
    #[expect(
        clippy::inline_always,
        reason = "each message passes here, and a call costs as much as the rest"
    )]
    #[inline(always)]
    pub(super) fn put(&mut self, item: LaneItem, message: &BorrowedMessage<'_>, limit: usize) -> Put {
        let LaneItem { message: index, noted, .. } = item;
        if self.draft.records.is_empty() {
            self.draft.noted = noted;
            self.draft.limit = if noted { self.config.max_bytes } else { limit.min(self.config.max_bytes) };
            self.reserve(self.draft.limit);
        }
        let start = self.draft.bytes.len();
        if let Err(refusal) = self.append(message) {
            self.draft.bytes.truncate(start);
            return Put::Refused(refusal);
        }
        let bytes = self.draft.bytes.len() + self.closing().len();
        if bytes > self.draft.limit && !self.draft.records.is_empty() {
            self.draft.bytes.truncate(start);
            return Put::NoRoom;
        }
        if bytes > self.config.max_bytes {
            self.draft.bytes.truncate(start);
            return Put::Refused(Refusal::TooLarge { bytes, limit: self.config.max_bytes });
        }
        let end = self.draft.bytes.len() - self.trailing;
        self.draft.records.push(Record { message: index, end, id: message.id, offset: message.offset });
        if self.draft.records.len() == self.max_messages() { Put::Full } else { Put::Added }
    }

    /// The bytes of the payloads of the batch.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.batch.messages.iter().map(|message| message.payload.len()).sum()
    }

    /// Whether every message of the lane has been returned.
    pub fn is_done(&self) -> bool {
        self.lane.get(self.next).is_none()
            && self.draft.records.is_empty()
            && self.groups.as_ref().is_none_or(Groups::is_empty)
    }

    /// Whether a message is a tombstone.
    pub(super) fn is_tombstone(&self, message: &BorrowedMessage<'_>) -> bool {
        message.payload.is_empty() && self.config.tombstone_method.is_some()
    }

    /// Returns the next message, a tombstone, as a request of its own.
    #[inline(never)]
    pub(super) fn tombstone(
        &mut self,
        item: LaneItem,
        message: &BorrowedMessage<'_>,
        target: Option<Arc<Target>>,
    ) -> Encoded {
        self.next += 1;
        let trace = Trace::of(message);
        let special = Special { target, trace, tombstone: true, ..Special::default() };
        let record = Record { message: item.message, end: 0, id: message.id, offset: message.offset };
        let mut body = Body::new(Bytes::new(), self.frame.clone(), vec![record], Some(Box::new(special)));
        body.noted = item.noted;
        Encoded::Body(body)
    }

    /// Whether the lane ended before this body of it was full, and more messages could follow.
    pub fn has_room_behind(&self, body: &Body) -> bool {
        self.lane.get(self.next).is_none()
            && !body.is_tombstone()
            && body.len() < self.max_messages()
            && self.groups.as_ref().is_none_or(Groups::is_empty)
    }

    /// Appends one message, with its separators.
    #[expect(clippy::inline_always, reason = "as above")]
    #[inline(always)]
    fn append(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Refusal> {
        let start = self.draft.bytes.len();
        if self.config.form.is_some() {
            return self.append_in_form(message);
        }
        let known = std::mem::take(&mut self.known);
        match self.config.mode {
            BatchMode::Individual => self.envelope.write(message, known, &mut self.draft.bytes).map(drop),
            BatchMode::Raw => write_raw(self.batch.schema, message.payload, &mut self.draft.bytes),
            BatchMode::JsonArray => {
                self.draft.bytes.push(if self.draft.records.is_empty() { b'[' } else { b',' });
                self.envelope.write(message, known, &mut self.draft.bytes).map(drop)
            }
            BatchMode::NdJson => {
                if !self.envelope.write(message, known, &mut self.draft.bytes)? {
                    on_one_line(&mut self.draft.bytes[start..]);
                }
                self.draft.bytes.push(b'\n');
                Ok(())
            }
        }
    }

    /// Appends one message in a custom body format.
    #[inline(never)]
    fn append_in_form(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Refusal> {
        let special = self.draft.special.as_ref().or(self.special.as_ref());
        if let Some(framing) = special.and_then(|special| special.framing.as_ref()) {
            let opening = if self.draft.records.is_empty() { &framing.prefix } else { &framing.separator };
            self.draft.bytes.extend_from_slice(opening);
        }
        let start = self.draft.bytes.len();
        let known = std::mem::take(&mut self.known);
        match (&self.template, self.config.mode) {
            (Some(template), _) => template.write(message, known, &mut self.draft.bytes)?,
            (None, BatchMode::Raw) => write_raw(self.batch.schema, message.payload, &mut self.draft.bytes)?,
            (None, _) => {
                if !self.envelope.write(message, known, &mut self.draft.bytes)? {
                    on_one_line(&mut self.draft.bytes[start..]);
                }
            }
        }
        Ok(())
    }

    /// The text that ends a body.
    fn closing(&self) -> &[u8] {
        if self.config.form.is_some() {
            return self.framing().map_or(b"", |framing| &framing.suffix);
        }
        if self.config.mode == BatchMode::JsonArray { b"]" } else { b"" }
    }

    fn framing(&self) -> Option<&Framing> {
        self.draft.special.as_ref().or(self.special.as_ref())?.framing.as_deref()
    }

    fn max_messages(&self) -> usize {
        if self.config.mode.batches() { self.config.max_messages.map_or(usize::MAX, Into::into) } else { 1 }
    }

    /// Reserves memory for the next body: for the rest of the lane, within the limits.
    #[inline]
    fn reserve(&mut self, limit: usize) {
        let (mut bytes, mut messages): (usize, usize) = (0, 0);
        let size_hint = match &self.config.form {
            Some(form) => form.message.as_ref().map_or(0, Template::literal_length) + 256,
            // A single payload fills its buffer exactly, so that `Bytes` need not store its capacity.
            None if self.config.mode == BatchMode::Raw => 0,
            None => self.envelope.size_hint(),
        };
        // If many bodies are filled at once, each gets little of the rest.
        let most = if self.groups.is_some() { 1 } else { self.max_messages() };
        for index in self.next..self.next.saturating_add(most) {
            let Some(message) = self.lane.get(index).map(|item| &self.batch.messages[item.message]) else {
                break;
            };
            bytes = bytes.saturating_add(message.payload.len() + size_hint);
            messages += 1;
            if bytes >= limit {
                break;
            }
        }
        self.draft.bytes = self.buffers.take(bytes.min(limit));
        self.draft.records = Vec::with_capacity(messages);
    }

    /// Ends the body that is being written, if it has a message.
    pub(super) fn finish(&mut self) -> Option<Encoded> {
        if self.draft.records.is_empty() {
            return None;
        }
        let special = if self.special.is_none() && self.draft.special.is_none() {
            if self.config.mode == BatchMode::JsonArray {
                self.draft.bytes.push(b']');
            }
            None
        } else {
            self.end_special()
        };
        let special = match (self.config.mode.batches(), self.has_links) {
            (false, _) => self.with_trace(special),
            (true, true) => self.linked(special),
            (true, false) => special,
        };
        let bytes = self.buffers.lend(std::mem::take(&mut self.draft.bytes));
        let mut body = Body::new(bytes, self.frame.clone(), std::mem::take(&mut self.draft.records), special);
        body.noted = self.draft.noted;
        Some(Encoded::Body(body))
    }

    /// Adds the trace of the only message of a body, if it has one.
    fn with_trace(&self, special: Option<Box<Special>>) -> Option<Box<Special>> {
        let message = &self.batch.messages[self.draft.records[0].message];
        match Trace::of(message) {
            None => special,
            trace => Some(Box::new(Special { trace, ..special.map(|special| *special).unwrap_or_default() })),
        }
    }

    /// Adds the traces of the messages of a body, if they have any.
    #[inline(never)]
    fn linked(&self, special: Option<Box<Special>>) -> Option<Box<Special>> {
        let messages = self.draft.records.iter().map(|record| record.message);
        let links: Arc<[_]> = messages
            .filter_map(|message| Some((message, Trace::of(&self.batch.messages[message])?.context()?)))
            .collect();
        if links.is_empty() {
            return special;
        }
        Some(Box::new(Special { links, ..special.map(|special| *special).unwrap_or_default() }))
    }

    /// Ends a body with special fields, and returns these.
    #[inline(never)]
    fn end_special(&mut self) -> Option<Box<Special>> {
        let closing = self.closing().to_vec();
        self.draft.bytes.extend_from_slice(&closing);
        self.draft.special.take().or_else(|| self.special.clone())
    }
}
