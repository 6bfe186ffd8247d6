//! Bodies that fill: records of a lane whose messages may share bodies are taken together, as one batch.
//!
//! What waits in a lane is sent together, however small the batches were that brought it; with `linger` it waits for more.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, TopicMetadata};

use super::{
    budget::Admission,
    lanes::{Lanes, Opened},
    unit::{Kind, Message, Room, Unit},
};
use crate::{
    route::Route,
    spool::{LaneKey, LaneMessages, Record, SpoolError},
};

/// The maximum size of records that are taken together, in bytes: a body is not larger, whatever its limit.
const LARGEST: usize = 16 * 1024 * 1024;

/// The maximum number of records that are read again together.
const RECORDS: usize = 64;

/// Messages of a body share the deadline of the youngest, so their ages differ by at most this part of `max_retry_duration`.
const OF_DEADLINE: u32 = 10;

/// The records that were read from a lane and are not being sent yet, in order.
#[derive(Default)]
pub(super) struct Backlog {
    records: VecDeque<Opened>,
    /// The sequence of the last record that was read.
    after: u64,
    measured: Measured,
}

/// The records at the front of a backlog that are sent together, as far as they were examined.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    records: usize,
    bytes: usize,
    messages: usize,
    /// Messages that were sent together before reach up to this sequence.
    together: u64,
    /// Whether more records would not change it.
    full: bool,
}

/// Records that are delivered together. Never empty.
pub(super) struct Window {
    records: Vec<Opened>,
    /// Whether more may wait behind it, so that a body that is not full need not be sent yet.
    pub(super) goes_on: bool,
}

/// Where the messages of a window are, by their index in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// The index of the first message of each record, and the sequence of the record.
    records: Vec<(usize, u64)>,
    /// How many messages there are.
    messages: usize,
}

/// A window as one batch.
pub(super) struct Stored<'w> {
    pub(super) topic: TopicMetadata,
    pub(super) metadata: MessagesMetadata,
    pub(super) messages: Vec<BorrowedMessage<'w>>,
}

impl Lanes {
    /// Takes the next records of a lane, enough for `bodies` if there are that many; `None` if there is none.
    pub(super) async fn next_window(
        &self,
        lane: &LaneKey,
        backlog: &mut Backlog,
        bodies: usize,
    ) -> Result<Option<Window>, SpoolError> {
        let linger = self.terms(lane).linger;
        let mut version = self.spool.subscribe();
        loop {
            version.mark_unchanged();
            if backlog.records.is_empty() {
                let admission = tokio::select! {
                    admission = self.budget.admit() => admission,
                    () = self.pipeline.closing() => return Ok(None),
                };
                if !self.read_one(lane, backlog, &admission)? {
                    return Ok(None);
                }
            }
            let out_of_memory = self.read_on(lane, backlog, bodies)?;
            let full = backlog.measured.full;
            let age = backlog.records.front().map_or(Duration::MAX, |first| first.record.age());
            let wait = linger.saturating_sub(age);
            if full || out_of_memory || wait.is_zero() || self.spool.is_waited_for(lane) {
                return Ok(Some(Window { records: backlog.take(), goes_on: full }));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The spool outlives this, so there is no error.
                _ = version.changed() => {}
                () = self.pipeline.closing() => return Ok(None),
            }
        }
    }

    /// Reads the records after a backlog, until there are enough for that many bodies. Returns whether memory ran out before.
    pub(super) fn read_on(
        &self,
        lane: &LaneKey,
        backlog: &mut Backlog,
        bodies: usize,
    ) -> Result<bool, SpoolError> {
        while !backlog.measure(self, bodies).full {
            let Some(admission) = self.budget.try_admit() else { return Ok(true) };
            if !self.read_one(lane, backlog, &admission)? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Reads a record, with all that were sent together with messages of it: if memory ran out among them, they would be sent
    /// in other bodies. Returns whether there was one.
    fn read_one(
        &self,
        lane: &LaneKey,
        backlog: &mut Backlog,
        admission: &Admission,
    ) -> Result<bool, SpoolError> {
        let mut together = 0;
        loop {
            let Some(next) = self.open_next(lane, backlog.after, admission)? else { return Ok(together > 0) };
            together = next.together().max(together);
            backlog.push(next);
            if backlog.after >= together {
                return Ok(true);
            }
        }
    }

    /// Whether messages of two records may share a body.
    pub(super) fn may_share(&self, first: &Opened, next: &Opened) -> bool {
        let most = self.terms(&first.record.lane).retry.max_duration / OF_DEADLINE;
        first.kind.is_some()
            && first.kind == next.kind
            && first.record.age().saturating_sub(next.record.age()) <= most
    }

    /// Returns how much is taken together for that many bodies.
    pub(super) fn room(&self, lane: &LaneKey, bodies: usize) -> Room {
        let body = self.pipeline.routes().of(lane.stream(), lane.topic()).map_or(LARGEST, Route::body_limit);
        // A little more than the bodies, since some bytes of a record are not sent.
        let bytes = body.saturating_mul(bodies).saturating_add(body / 4).min(LARGEST);
        let body = &self.terms(lane).body;
        let messages = body.max_messages.map_or(usize::MAX, Into::into);
        let records = if body.mode.batches() { RECORDS } else { 1 };
        Room { records, bytes, messages: messages.saturating_mul(bodies).saturating_add(1) }
    }
}

impl Backlog {
    fn push(&mut self, record: Opened) {
        self.after = record.record.sequence;
        self.records.push_back(record);
    }

    /// Puts records back that were taken last.
    pub(super) fn put_back(&mut self, records: Vec<Opened>) {
        for record in records.into_iter().rev() {
            self.records.push_front(record);
        }
        self.measured = Measured::default();
    }

    /// Drops what was read: the lane is read again from its beginning.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the records at the front that are sent together.
    fn take(&mut self) -> Vec<Opened> {
        let measured = std::mem::take(&mut self.measured);
        self.records.drain(..measured.records).collect()
    }

    /// Counts how many records at the front are sent together.
    fn measure(&mut self, lanes: &Lanes, bodies: usize) -> Measured {
        let Some(lane) = self.records.front().map(|first| &first.record.lane) else { return self.measured };
        let alone = !lanes.terms(lane).body.mode.batches();
        let room = lanes.room(lane, bodies);
        let mut measured = self.measured;
        while let Some(next) = self.records.get(measured.records).filter(|_| !measured.full) {
            let (first, record) = (&self.records[0], &next.record);
            let fits = measured.bytes < room.bytes
                && measured.messages < room.messages
                && lanes.may_share(first, next);
            // Messages that were sent together before are sent together again, even if the limits have changed.
            let together = record.sequence <= measured.together && first.kind == next.kind;
            if measured.records > 0 && (alone || !fits) && !together {
                measured.full = true;
                break;
            }
            measured.records += 1;
            measured.bytes += record.length();
            measured.messages += record.messages() as usize;
            measured.together = measured.together.max(next.together());
            measured.full = (alone || measured.bytes >= room.bytes || measured.messages >= room.messages)
                && record.sequence >= measured.together;
        }
        self.measured = measured;
        measured
    }
}

impl Window {
    /// Records that were sent before.
    pub(super) fn of(records: Vec<Opened>) -> Self {
        Self { records, goes_on: false }
    }

    /// Splits off the records from a time of the spool on, and returns both parts; the first part has its turn.
    pub(super) fn before(mut self, time: u64) -> (Self, Vec<Opened>) {
        let rest =
            self.records.split_off(self.records.partition_point(|it| !it.record.came_from(time)).max(1));
        if rest.is_empty() { (self, rest) } else { (self.whole(), rest) }
    }

    /// Marks it to be sent in full, including a last body that is not full.
    pub(super) fn whole(self) -> Self {
        Self { goes_on: false, ..self }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().map(|opened| &opened.record)
    }

    /// Returns the sequence of its first record, and the kind of its messages.
    pub(super) fn begin(&self) -> (u64, Option<Kind>) {
        (self.records[0].record.sequence, self.records[0].kind)
    }

    /// Its record number `record`.
    pub(super) fn record(&self, record: usize) -> &Record {
        &self.records[record].record
    }

    /// The lane that it belongs to.
    pub(super) fn lane(&self) -> &LaneKey {
        &self.records[0].record.lane
    }

    /// How long ago the youngest of its records was accepted.
    pub(super) fn age(&self) -> Duration {
        self.records().map(Record::age).min().unwrap_or_default()
    }

    /// The records from the one with this message on.
    pub(super) fn from(mut self, (sequence, _): Message) -> Vec<Opened> {
        let first = self.records.partition_point(|opened| opened.record.sequence < sequence);
        self.records.split_off(first)
    }

    /// The indexes of the unsettled messages.
    pub(super) fn open(&self, index: &Index) -> impl Iterator<Item = usize> {
        self.records().zip(&index.records).flat_map(|(record, (first, _))| {
            let open = (0..record.messages()).filter(|message| !record.is_settled(*message));
            open.map(move |message| first + message as usize)
        })
    }

    /// The bytes of a record.
    pub(super) fn length_of(&self, sequence: u64) -> usize {
        let at = self.records.binary_search_by_key(&sequence, |opened| opened.record.sequence);
        at.map_or(0, |at| self.records[at].record.length())
    }

    /// How many messages are not settled.
    pub(super) fn left(&self) -> u64 {
        self.records().map(|record| u64::from(record.messages()) - record.settled()).sum()
    }

    pub(super) fn index(&self) -> Index {
        let mut next = 0;
        let mut records = Vec::with_capacity(self.records.len());
        for record in self.records() {
            records.push((next, record.sequence));
            next += record.messages() as usize;
        }
        Index { records, messages: next }
    }

    /// Decodes all messages, including settled ones.
    pub(super) fn decode(&self) -> Result<Stored<'_>, SpoolError> {
        let first = self.records[0].record.decode()?;
        let (topic, metadata, mut messages) = (first.topic, first.metadata, first.messages);
        for record in self.records().skip(1) {
            messages.extend(record.decode()?.messages);
        }
        Ok(Stored { topic, metadata, messages })
    }

    /// The bodies that its messages were sent in before, as indexes.
    pub(super) fn bodies(&self, index: &Index) -> Vec<Vec<usize>> {
        let mut seen = BTreeSet::new();
        let mut bodies = Vec::new();
        for body in self.records().flat_map(Record::bodies) {
            if seen.insert(Arc::as_ptr(body)) {
                bodies.push(index.indexes(body));
            }
        }
        bodies
    }
}

impl Index {
    /// The message with this index.
    pub(super) fn message(&self, index: usize) -> Message {
        let record = self.record(index);
        let (first, sequence) = self.records[record];
        // A record has no more messages than fit.
        (sequence, u32::try_from(index - first).unwrap_or(u32::MAX))
    }

    /// The number of the record that this message is in.
    pub(super) fn record(&self, index: usize) -> usize {
        self.records.partition_point(|(first, _)| *first <= index) - 1
    }

    /// The index of a message, if its record is there.
    pub(super) fn of(&self, (sequence, message): Message) -> Option<usize> {
        let record = self.records.binary_search_by_key(&sequence, |(_, sequence)| *sequence).ok()?;
        Some(self.records[record].0 + message as usize)
    }

    /// Returns the key of each message of these units; none if keys are not kept in order.
    pub(super) fn keys(&self, units: &[Unit]) -> Vec<u64> {
        if units.iter().all(|unit| unit.keys.is_empty()) {
            return Vec::new();
        }
        let mut keys = vec![0; self.messages];
        for (message, key) in units.iter().flat_map(|unit| unit.messages.iter().zip(&unit.keys)) {
            if let Some(at) = self.of(*message) {
                keys[at] = *key;
            }
        }
        keys
    }

    /// Ascending messages, by their record.
    pub(super) fn by_record(&self, messages: &[usize]) -> Vec<(u64, Vec<u32>)> {
        let mut records: Vec<(u64, Vec<u32>)> = Vec::new();
        for (sequence, message) in messages.iter().map(|index| self.message(*index)) {
            match records.last_mut() {
                Some((last, messages)) if *last == sequence => messages.push(message),
                _ => records.push((sequence, vec![message])),
            }
        }
        records
    }

    /// Ascending messages as ranges, by their record.
    pub(super) fn ranges(&self, messages: &[usize]) -> LaneMessages {
        let ranges = |messages: Vec<u32>| {
            let mut ranges: Vec<(u32, u32)> = Vec::new();
            for message in messages {
                match ranges.last_mut() {
                    Some((_, last)) if last.checked_add(1) == Some(message) => *last = message,
                    _ => ranges.push((message, message)),
                }
            }
            ranges
        };
        self.by_record(messages)
            .into_iter()
            .map(|(sequence, messages)| (sequence, ranges(messages)))
            .collect()
    }

    /// The indexes of messages, as far as their records are there.
    fn indexes(&self, messages: &LaneMessages) -> Vec<usize> {
        let of_record = |(sequence, ranges): &(u64, Vec<(u32, u32)>)| {
            let sequence = *sequence;
            let all = ranges.iter().flat_map(|(first, last)| *first..=*last).collect::<Vec<u32>>();
            all.into_iter().filter_map(move |message| self.of((sequence, message)))
        };
        messages.iter().flat_map(of_record).collect()
    }
}
