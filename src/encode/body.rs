//! The body of one request, and how it is split.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    config::{BatchMode, Compression},
    idempotency::key,
    request::{Framing, Target, Trace, TraceContext},
};

/// The body of one request, with the messages in it. It holds at least one.
#[derive(Debug, Clone)]
pub struct Body {
    /// Its bytes, before compression.
    pub bytes: Bytes,
    /// Whether it was recorded before, and so may have been sent.
    pub noted: bool,
    frame: Frame,
    /// Ascending, both by message and by index.
    records: Vec<Record>,
    /// Fields that most bodies do not have, kept apart so that bodies stay small.
    special: Option<Box<Special>>,
}

/// Fields of bodies that only some configurations need.
#[derive(Debug, Clone, Default)]
pub(super) struct Special {
    /// The text around and between messages, if it is not that of the mode.
    pub(super) framing: Option<Arc<Framing>>,
    /// The target of the body, if it depends on its messages.
    pub(super) target: Option<Arc<Target>>,
    pub(super) compression: Option<Compression>,
    pub(super) compressed: Option<Bytes>,
    /// The trace that its only message belongs to.
    pub(super) trace: Option<Trace>,
    /// Whether its only message is a tombstone, which is sent without a body.
    pub(super) tombstone: bool,
    /// The traces of its messages, each with the index of the message in the batch, ascending.
    pub(super) links: Arc<[(usize, TraceContext)]>,
}

/// What all bodies of a batch have in common.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) mode: BatchMode,
    /// Where the messages come from, for the idempotency key.
    pub(super) origin: Arc<str>,
}

/// One message in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Its index in the batch.
    pub(super) message: usize,
    /// Where it ends in the body; separators come after it.
    pub(super) end: usize,
    pub(super) id: u128,
    pub(super) offset: u64,
}

impl Special {
    /// Compresses a body, if that is configured.
    #[inline(never)]
    fn compress(&mut self, bytes: &Bytes) {
        self.compressed =
            self.compression.filter(|_| !self.tombstone).map(|compression| compression.compress(bytes));
    }
}

impl Body {
    #[inline]
    pub(super) fn new(
        bytes: Bytes,
        frame: Frame,
        records: Vec<Record>,
        mut special: Option<Box<Special>>,
    ) -> Self {
        if let Some(special) = &mut special {
            special.compress(&bytes);
        }
        Self { bytes, noted: false, frame, records, special }
    }

    /// The bytes that are sent.
    pub fn wire(&self) -> &Bytes {
        self.special.as_ref().and_then(|special| special.compressed.as_ref()).unwrap_or(&self.bytes)
    }

    /// Its target, if it depends on its messages.
    pub(crate) fn target(&self) -> Option<&Target> {
        self.special.as_ref().and_then(|special| special.target.as_deref())
    }

    /// The trace that its only message belongs to.
    pub(crate) fn trace(&self) -> Option<&Trace> {
        self.special.as_ref().and_then(|special| special.trace.as_ref())
    }

    /// The traces of its messages, if spans are exported and the mode allows several messages; one per message with a trace.
    pub(crate) fn links(&self) -> impl Iterator<Item = &TraceContext> {
        let links = self.special.as_ref().map_or(&[][..], |special| &special.links);
        let is_in = |message: usize| self.records.binary_search_by_key(&message, |one| one.message).is_ok();
        links.iter().filter(move |(message, _)| is_in(*message)).map(|(_, context)| context)
    }

    /// Whether it is a tombstone: one message, which is sent without a body.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.special.as_ref().is_some_and(|special| special.tombstone)
    }

    /// The text before, between and after messages.
    fn framing(&self) -> (&[u8], &[u8], &[u8]) {
        match (self.special.as_ref().and_then(|special| special.framing.as_deref()), self.frame.mode) {
            (Some(framing), _) => (&framing.prefix, &framing.separator, &framing.suffix),
            (None, BatchMode::NdJson) => (b"", b"\n", b"\n"),
            (None, BatchMode::JsonArray) => (b"[", b",", b"]"),
            (None, BatchMode::Individual | BatchMode::Raw) => (b"", b"", b""),
        }
    }

    /// The stream, topic and partition that its messages come from.
    pub(crate) fn origin(&self) -> (&str, &str, u32) {
        let mut parts = self.frame.origin.split('\0');
        let mut next = || parts.next().unwrap_or_default();
        // In the order of [`origin`].
        let (stream, topic, partition) = (next(), next(), next());
        (stream, topic, partition.parse().unwrap_or_default())
    }

    /// The offsets of its first and its last message.
    pub(crate) fn offsets(&self) -> (u64, u64) {
        let offset = |record: Option<&Record>| record.map_or(0, |record| record.offset);
        (offset(self.records.first()), offset(self.records.last()))
    }

    /// How many messages there are in it.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Never: a body holds at least one message.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The messages in it, as indexes into the batch, ascending.
    pub fn messages(&self) -> impl Iterator<Item = usize> + Clone {
        self.records.iter().map(|record| record.message)
    }

    /// Returns 32 hex digits that are the same whenever the same messages are sent together, and differ otherwise: the start
    /// of a SHA-256 over their origin, offsets and ids.
    pub fn idempotency_key(&self) -> String {
        key(&self.frame.origin, self.records.iter().map(|record| (record.offset, record.id)))
    }

    /// Splits it into two bodies of about the same size, in order; `None` for a single message.
    pub fn halves(&self) -> Option<(Self, Self)> {
        let last = self.records.len().checked_sub(2)?;
        let middle = self.bytes.len() / 2;
        // The first record always goes left and the last one right, however long they are.
        let left = self.records[..=last].partition_point(|record| record.end <= middle).max(1);
        Some((self.part(0, left), self.part(left, self.records.len())))
    }

    /// A body of some of its messages, by their indexes in it, ascending.
    #[must_use]
    pub fn only(&self, indexes: &[usize]) -> Self {
        if self.is_tombstone() {
            return self.clone();
        }
        let (prefix, separator, suffix) = self.framing();
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        let mut records = Vec::with_capacity(indexes.len());
        for &index in indexes {
            let record = self.records[index];
            let start = index
                .checked_sub(1)
                .map_or(prefix.len(), |before| self.records[before].end + separator.len());
            bytes.put_slice(if records.is_empty() { prefix } else { separator });
            bytes.put_slice(&self.bytes[start..record.end]);
            records.push(Record { end: bytes.len(), ..record });
        }
        bytes.put_slice(suffix);
        Self::new(bytes.freeze(), self.frame.clone(), records, self.special.clone())
    }

    /// A body of the records from `first` to before `last`.
    fn part(&self, first: usize, last: usize) -> Self {
        let (prefix, separator, suffix) = self.framing();
        let start =
            first.checked_sub(1).map_or(prefix.len(), |before| self.records[before].end + separator.len());
        let end = self.records[last - 1].end;
        let bytes = if prefix.is_empty() && self.bytes[end..].starts_with(suffix) {
            self.bytes.slice(start..end + suffix.len())
        } else {
            let mut bytes = BytesMut::with_capacity(prefix.len() + end - start + suffix.len());
            bytes.put_slice(prefix);
            bytes.put_slice(&self.bytes[start..end]);
            bytes.put_slice(suffix);
            bytes.freeze()
        };
        let opening = prefix.len();
        let moved = |record: &Record| Record { end: record.end - start + opening, ..*record };
        let records = self.records[first..last].iter().map(moved).collect();
        Self::new(bytes, self.frame.clone(), records, self.special.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of these records, as the modes frame them.
    fn body(mode: BatchMode, texts: &[&str]) -> Body {
        let mut bytes = Vec::new();
        let mut records = Vec::new();
        for (message, text) in texts.iter().enumerate() {
            if mode == BatchMode::JsonArray {
                bytes.push(if message == 0 { b'[' } else { b',' });
            }
            bytes.extend_from_slice(text.as_bytes());
            records.push(Record { message, end: bytes.len(), id: message as u128, offset: message as u64 });
            if mode == BatchMode::NdJson {
                bytes.push(b'\n');
            }
        }
        if mode == BatchMode::JsonArray {
            bytes.push(b']');
        }
        Body::new(bytes.into(), Frame { mode, origin: "s/t/1".into() }, records, None)
    }

    /// Every way down to single messages keeps the frame and the order.
    fn assert_comes_apart(whole: &Body, texts: &[&str]) {
        let mut parts = vec![whole.clone()];
        let mut singles = Vec::new();
        while let Some(part) = parts.pop() {
            let expected =
                body(part.frame.mode, &part.messages().map(|message| texts[message]).collect::<Vec<_>>());
            assert_eq!(part.bytes, expected.bytes);
            match part.halves() {
                Some((left, right)) => {
                    assert_eq!(
                        left.messages().chain(right.messages()).collect::<Vec<_>>(),
                        part.messages().collect::<Vec<_>>()
                    );
                    parts.extend([right, left]);
                }
                None => singles.extend(part.messages()),
            }
        }
        assert_eq!(singles, (0..texts.len()).collect::<Vec<_>>());
    }

    #[test]
    fn bodies_come_apart_in_order_and_framed() {
        for mode in [BatchMode::NdJson, BatchMode::JsonArray] {
            for texts in
                [&["1"][..], &["1", "2"], &["{\"a\":[1,2]}", "2", "33333333333333"], &["", "", "", "x", ""]]
            {
                assert_comes_apart(&body(mode, texts), texts);
            }
        }
    }

    #[test]
    fn some_messages_of_a_body_make_one_of_their_own() {
        for mode in [BatchMode::NdJson, BatchMode::JsonArray] {
            let whole = body(mode, &["a", "bb", "", "dd"]);
            let only = whole.only(&[1, 3]);
            assert_eq!(only.bytes, body(mode, &["bb", "dd"]).bytes);
            assert_eq!(only.messages().collect::<Vec<_>>(), [1, 3]);
            assert_eq!(only.only(&[1]).bytes, body(mode, &["dd"]).bytes);
            assert_eq!(whole.only(&[0, 1, 2, 3]).bytes, whole.bytes);
        }
    }

    #[test]
    fn halves_weigh_about_the_same() {
        let texts = vec!["0123456789"; 100];
        let whole = body(BatchMode::NdJson, &texts);
        let (left, right) = whole.halves().expect("there are many messages");
        assert_eq!((left.len(), right.len()), (50, 50));
    }

    #[test]
    fn one_long_message_does_not_keep_the_others_from_being_halved() {
        let long = "x".repeat(1000);
        for texts in [[long.as_str(), "1", "2"], ["1", "2", long.as_str()]] {
            let (left, right) = body(BatchMode::NdJson, &texts).halves().expect("there are three messages");
            assert!(!left.is_empty() && !right.is_empty());
        }
    }

    #[test]
    fn the_idempotency_key_tells_messages_apart_and_not_their_bytes() {
        let whole = body(BatchMode::NdJson, &["1", "2"]);
        assert_eq!(whole.idempotency_key(), body(BatchMode::NdJson, &["3", "4"]).idempotency_key());
        assert_eq!(whole.idempotency_key().len(), 32);
        let (left, right) = whole.halves().expect("there are two messages");
        let keys = [&whole, &left, &right].map(Body::idempotency_key);
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
        let mut elsewhere = left.clone();
        elsewhere.frame.origin = "s/t/2".into();
        assert_ne!(elsewhere.idempotency_key(), keys[1]);
    }

    #[test]
    fn a_single_message_has_no_halves() {
        assert!(body(BatchMode::Individual, &["1"]).halves().is_none());
    }
}
