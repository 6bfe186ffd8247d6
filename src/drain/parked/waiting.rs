//! Messages that wait behind keys that are being sent or parked, until nothing of their key is ahead of them.
//!
//! They wait on disk, so whole records are read to send some of their messages. So messages that may be sent are taken record
//! by record, once a good part of those that wait in a record may.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::runs::Runs;
use crate::drain::unit::{Message, Room, Unit};

/// A record up to this size is read for any message of it that may be sent.
const SMALL: usize = 64 * 1024;

/// The longest time that messages which may be sent wait for others of their record.
pub(super) const FOR_OTHERS: Duration = Duration::from_millis(20);

/// Messages that are sent together: a single one, or those of a body that was sent before, each with its key.
#[derive(Debug)]
pub(crate) struct Together {
    pub(crate) messages: Vec<(Message, u64)>,
}

/// The keys that are being sent or parked, and what waits behind them.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    keys: HashMap<u64, Key>,
    records: BTreeMap<u64, InRecord>,
    messages: usize,
    /// The keys with nothing ahead, by the record of their first waiting message, with the number of its messages that may be
    /// sent.
    free: BTreeMap<u64, (Vec<u64>, usize)>,
    /// The bodies that wait, by their number, and those with nothing ahead.
    bodies: BTreeMap<u64, Vec<(Message, u64)>>,
    free_bodies: BTreeSet<u64>,
    next_body: u64,
    /// Since when messages wait for others of their record.
    since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Key {
    /// How many of its messages are being sent, or in units.
    ahead: usize,
    behind: VecDeque<Waits>,
}

/// A message that waits.
#[derive(Debug, Clone, Copy)]
struct Waits {
    message: Message,
    /// The body that it belongs to, if it was sent with others before.
    body: Option<u64>,
}

/// The waiting messages of a record.
#[derive(Debug, Default)]
struct InRecord {
    messages: usize,
    /// How much is read to send some of it.
    bytes: usize,
}

impl InRecord {
    /// Whether it is read for that many messages.
    fn is_worth(&self, messages: usize) -> bool {
        self.bytes <= SMALL || messages * 2 >= self.messages
    }
}

impl Waiting {
    /// Returns the messages that may be sent now, in order; the others wait.
    pub(super) fn begin(&mut self, all: &[Together], bytes: impl Fn(u64) -> usize) -> Vec<Message> {
        let mut sent = Vec::new();
        let mut going = BTreeSet::new();
        for together in all {
            let goes = |key: &u64| {
                let of = self.keys.get(key);
                of.is_none_or(|of| of.behind.is_empty() && (of.ahead == 0 || going.contains(key)))
            };
            if together.messages.iter().all(|(_, key)| goes(key)) {
                for (message, key) in &together.messages {
                    self.keys.entry(*key).or_default().ahead += 1;
                    going.insert(*key);
                    sent.push(*message);
                }
            } else {
                self.wait(together, &bytes);
            }
        }
        sent.sort_unstable();
        sent
    }

    fn wait(&mut self, together: &Together, bytes: &impl Fn(u64) -> usize) {
        let body = self.number(together);
        for &(message, key) in &together.messages {
            self.keys.entry(key).or_default().behind.push_back(Waits { message, body });
            let new = || InRecord { messages: 0, bytes: bytes(message.0) };
            self.records.entry(message.0).or_insert_with(new).messages += 1;
        }
        self.messages += together.messages.len();
    }

    /// Returns a number for messages that are only sent together.
    fn number(&mut self, together: &Together) -> Option<u64> {
        (together.messages.len() > 1).then(|| {
            self.next_body += 1;
            self.bodies.insert(self.next_body, together.messages.clone());
            self.next_body
        })
    }

    /// Makes messages that were taken wait again, before all others of their keys.
    pub(super) fn put_back(&mut self, together: &Together, now: Instant) {
        let body = self.number(together);
        for &(message, key) in together.messages.iter().rev() {
            let of = self.keys.entry(key).or_default();
            of.ahead = of.ahead.saturating_sub(1);
            of.behind.push_front(Waits { message, body });
            self.records.entry(message.0).or_default().messages += 1;
        }
        self.messages += together.messages.len();
        let keys: BTreeSet<u64> = together.messages.iter().map(|(_, key)| *key).collect();
        for key in keys {
            if self.keys.get(&key).is_some_and(|of| of.ahead == 0) {
                self.freed(key, now);
            }
        }
    }

    /// Records that a message of this key is settled.
    pub(super) fn settled(&mut self, key: u64, now: Instant) {
        let Some(of) = self.keys.get_mut(&key) else { return };
        of.ahead = of.ahead.saturating_sub(1);
        if of.ahead == 0 {
            self.freed(key, now);
        }
    }

    /// Records that nothing of a key is ahead any more.
    fn freed(&mut self, key: u64, now: Instant) {
        let Some(first) = self.keys.get(&key).map(|of| of.behind.front().copied()) else { return };
        match first {
            None => drop(self.keys.remove(&key)),
            Some(Waits { message, body: None }) => {
                let of_record = self.first_of_record(key, message.0);
                let (keys, messages) = self.free.entry(message.0).or_default();
                keys.push(key);
                *messages += of_record;
                self.since.get_or_insert(now);
            }
            Some(Waits { body: Some(body), .. }) => {
                if self.bodies.get(&body).is_some_and(|messages| self.is_free(body, messages)) {
                    self.free_bodies.insert(body);
                }
            }
        }
    }

    /// Whether nothing is ahead of a body.
    fn is_free(&self, body: u64, messages: &[(Message, u64)]) -> bool {
        messages.iter().all(|(_, key)| {
            let of = self.keys.get(key);
            of.is_some_and(|of| {
                of.ahead == 0 && of.behind.front().is_some_and(|first| first.body == Some(body))
            })
        })
    }

    /// How many messages of a record come first among the waiting ones of a key.
    fn first_of_record(&self, key: u64, record: u64) -> usize {
        let behind = self.keys.get(&key).into_iter().flat_map(|of| &of.behind);
        behind.take_while(|waits| waits.message.0 == record && waits.body.is_none()).count()
    }

    /// Takes messages that may be sent, of records that share bodies and fit into the room; `alone`: nothing is being sent
    /// whose end could free others.
    pub(super) fn take(&mut self, now: Instant, alone: bool, room: &Room, runs: &Runs) -> Option<Unit> {
        if let Some(body) = self.free_bodies.pop_first() {
            return Some(self.take_body(body, now));
        }
        let at_once = alone || self.since.is_some_and(|since| since + FOR_OTHERS <= now);
        let is_worth = |(record, (_, messages)): &(&u64, &(Vec<u64>, usize))| {
            at_once || self.records.get(record).is_none_or(|record| record.is_worth(*messages))
        };
        let first = *self.free.iter().find(is_worth)?.0;
        let mut taken: Vec<(Message, u64)> = Vec::new();
        // The keys that were taken, by the record of the next message of each.
        let mut next: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let (mut at, mut records, mut bytes) = (Some(first), 0, 0);
        while let Some(record) = at {
            let begun = next.remove(&record).unwrap_or_default();
            let of_record = self.records.get(&record).map_or(0, |record| record.bytes);
            let fits =
                records < room.records && bytes + of_record <= room.bytes && taken.len() < room.messages;
            if records > 0 && (!fits || !runs.are_together(first, record)) {
                break;
            }
            let messages = begun.iter().map(|key| self.first_of_record(*key, record)).sum::<usize>()
                + self.free.get(&record).map_or(0, |(_, messages)| *messages);
            if records == 0 || self.records.get(&record).is_none_or(|of| of.is_worth(messages)) {
                records += 1;
                bytes += of_record;
                let free = self.free.remove(&record).map(|(keys, _)| keys).unwrap_or_default();
                for key in begun.into_iter().chain(free) {
                    self.take_of_record(key, record, &mut taken);
                    let behind = self.keys.get(&key).and_then(|of| of.behind.front());
                    if let Some(waits) = behind.filter(|waits| waits.body.is_none()) {
                        next.entry(waits.message.0).or_default().push(key);
                    }
                }
            }
            let of_free = self.free.range(record + 1..).next().map(|(record, _)| *record);
            at = next.first_key_value().map(|(record, _)| *record).into_iter().chain(of_free).min();
        }
        self.since = if self.free.is_empty() { None } else { Some(now) };
        Some(unit(taken, now))
    }

    /// Takes the first messages of a key that belong to this record.
    fn take_of_record(&mut self, key: u64, record: u64, taken: &mut Vec<(Message, u64)>) {
        let Some(of) = self.keys.get_mut(&key) else { return };
        let before = taken.len();
        while let Some(waits) = of.behind.front()
            && waits.message.0 == record
            && waits.body.is_none()
        {
            taken.push((waits.message, key));
            of.behind.pop_front();
            of.ahead += 1;
        }
        let messages = taken.len() - before;
        self.gone_of_record(record, messages);
    }

    fn take_body(&mut self, body: u64, now: Instant) -> Unit {
        let messages = self.bodies.remove(&body).unwrap_or_default();
        for (message, key) in &messages {
            if let Some(of) = self.keys.get_mut(key) {
                of.behind.pop_front();
                of.ahead += 1;
            }
            self.gone_of_record(message.0, 1);
        }
        unit(messages, now)
    }

    /// Records that this many messages of a record no longer wait.
    fn gone_of_record(&mut self, record: u64, messages: usize) {
        self.messages -= messages;
        if let Some(of) = self.records.get_mut(&record) {
            of.messages = of.messages.saturating_sub(messages);
            if of.messages == 0 {
                self.records.remove(&record);
            }
        }
    }

    /// When something may be sent at the latest, if anything may.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.since.map(|since| since + FOR_OTHERS)
    }

    /// Whether nothing may be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.free_bodies.is_empty()
    }

    /// How many messages wait.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }
}

fn unit(mut messages: Vec<(Message, u64)>, now: Instant) -> Unit {
    messages.sort_unstable();
    let (messages, keys) = messages.into_iter().unzip();
    Unit::now(messages, keys, now)
}
