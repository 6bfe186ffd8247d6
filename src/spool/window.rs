//! Which messages were stored last, so that they are not stored again.
//!
//! The runtime may hand over messages once more after a crash or a rebalance. A message is a repeat when
//! its offset, id, checksum and both timestamps are those of one that was stored: a topic that was deleted
//! and made anew begins again at offset 0, but with other ids and times.
//!
//! A batch can mix partitions under the label of its last message, and be cut in another way the second
//! time, so the messages of a topic are kept together. The label still tells apart what is otherwise
//! equal, but only where it is sure: in a batch whose offsets run without a step, or in the last run of
//! one.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use iggy_connector_sdk::BorrowedMessage;
use twox_hash::XxHash3_64;

/// The label of a message of which nobody knows the partition.
pub(super) const UNSURE: u32 = u32::MAX;

/// What tells a message from all others of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) digest: u64,
    pub(super) partition: u32,
}

impl Identity {
    /// Those of a batch.
    pub(super) fn of_all(partition: u32, messages: &[BorrowedMessage<'_>]) -> Vec<Self> {
        let step = |pair: &[BorrowedMessage<'_>]| pair[0].offset.checked_add(1) != Some(pair[1].offset);
        let sure = messages.windows(2).rposition(step).map_or(0, |last| last + 1);
        let identity = |(index, message): (usize, &BorrowedMessage<'_>)| {
            let mut bytes = [0; 48];
            bytes[..16].copy_from_slice(&message.id.to_le_bytes());
            bytes[16..24].copy_from_slice(&message.offset.to_le_bytes());
            bytes[24..32].copy_from_slice(&message.checksum.to_le_bytes());
            bytes[32..40].copy_from_slice(&message.timestamp.to_le_bytes());
            bytes[40..].copy_from_slice(&message.origin_timestamp.to_le_bytes());
            Self {
                digest: XxHash3_64::oneshot(&bytes),
                partition: if index < sure { UNSURE } else { partition },
            }
        };
        messages.iter().enumerate().map(identity).collect()
    }

    /// Differs by partition where that is sure.
    fn key(self) -> u64 {
        match self.partition {
            UNSURE => self.digest,
            partition => self.digest ^ (u64::from(partition) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }
}

/// A stream and a topic of it.
pub(super) type Topic = (Arc<str>, Arc<str>);

/// The messages of every topic that were stored last.
#[derive(Debug)]
pub(super) struct Windows {
    topics: HashMap<Topic, Window>,
    /// How many messages a topic, and all together, are remembered.
    limits: (usize, usize),
    held: usize,
    clock: u64,
}

/// Those of one topic, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    digests: VecDeque<u64>,
    partitions: VecDeque<u32>,
    known: HashSet<u64, BuildHasherDefault<AsItIs>>,
    unsure: usize,
    used: u64,
}

impl Windows {
    pub(super) fn new(each: usize, all: usize) -> Self {
        Self { topics: HashMap::new(), limits: (each, all), held: 0, clock: 0 }
    }

    /// Which messages of a batch were stored before, as indexes into it.
    pub(super) fn repeats(&self, topic: &Topic, batch: &[Identity]) -> Vec<usize> {
        self.topics.get(topic).map(|window| window.repeats(batch)).unwrap_or_default()
    }

    /// Remembers messages that are stored now. Of topics that nothing was stored of for long
    /// fewer are kept.
    pub(super) fn remember(&mut self, topic: &Topic, batch: impl IntoIterator<Item = Identity>) {
        self.clock += 1;
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), Window::default());
        }
        let Some(window) = self.topics.get_mut(topic) else { return };
        window.used = self.clock;
        let before = window.digests.len();
        for identity in batch {
            window.push(identity, self.limits.0.min(self.limits.1));
        }
        self.held = self.held + window.digests.len() - before;
        // None gives way down to nothing: topics that take turns would drive each other out.
        let spared = self.limits.1 / (2 * self.topics.len());
        while self.held > self.limits.1 {
            let windows = self.topics.values_mut().filter(|window| window.digests.len() > spared);
            let Some(oldest) = windows.min_by_key(|window| window.used) else { return };
            let count = (self.held - self.limits.1).min(oldest.digests.len() - spared);
            (0..count).for_each(|_| oldest.pop());
            self.held -= count;
        }
    }

    /// Every topic with its window, the longest unused first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Topic, &Window)> {
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_by_key(|(_, window)| window.used);
        topics.into_iter()
    }

    /// How many messages are remembered.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}

impl Window {
    fn repeats(&self, batch: &[Identity]) -> Vec<usize> {
        // Built for batches with unsure messages alone: they match whatever the label was.
        let mut digests: Option<HashSet<u64>> = None;
        let mut repeat = |identity: &Identity| {
            if identity.partition == UNSURE {
                digests
                    .get_or_insert_with(|| self.digests.iter().copied().collect())
                    .contains(&identity.digest)
            } else {
                self.known.contains(&identity.key())
                    || self.unsure > 0 && self.known.contains(&identity.digest)
            }
        };
        batch.iter().enumerate().filter(|(_, identity)| repeat(identity)).map(|(index, _)| index).collect()
    }

    fn push(&mut self, identity: Identity, limit: usize) {
        if self.digests.len() >= limit {
            self.pop();
        }
        self.known.insert(identity.key());
        self.unsure += usize::from(identity.partition == UNSURE);
        self.digests.push_back(identity.digest);
        self.partitions.push_back(identity.partition);
    }

    fn pop(&mut self) {
        if let (Some(digest), Some(partition)) = (self.digests.pop_front(), self.partitions.pop_front()) {
            self.known.remove(&Identity { digest, partition }.key());
            self.unsure -= usize::from(partition == UNSURE);
        }
    }

    /// The messages, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Identity> + '_ {
        let identity =
            |(digest, partition): (&u64, &u32)| Identity { digest: *digest, partition: *partition };
        self.digests.iter().zip(&self.partitions).map(identity)
    }
}

/// Digests are as good as hashes.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = XxHash3_64::oneshot(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(offsets: &[u64], id: u128) -> Vec<BorrowedMessage<'static>> {
        let message = |offset: &u64| BorrowedMessage {
            id: id + u128::from(*offset),
            offset: *offset,
            checksum: 1,
            timestamp: 2,
            origin_timestamp: 3,
            headers: b"",
            payload: b"",
        };
        offsets.iter().map(message).collect()
    }

    fn topic(name: &str) -> Topic {
        ("s".into(), name.into())
    }

    #[test]
    fn the_same_messages_are_repeats_and_those_of_a_topic_made_anew_are_not() {
        let mut windows = Windows::new(100, 1000);
        windows.remember(&topic("t"), Identity::of_all(1, &messages(&[0, 1, 2], 0)));
        let again = Identity::of_all(1, &messages(&[1, 2, 3], 0));
        assert_eq!(windows.repeats(&topic("t"), &again), [0, 1]);
        assert!(windows.repeats(&topic("u"), &again).is_empty());
        assert!(
            windows.repeats(&topic("t"), &Identity::of_all(1, &messages(&[0, 1, 2], 1 << 90))).is_empty()
        );
    }

    #[test]
    fn the_label_counts_where_it_is_sure() {
        let mut windows = Windows::new(100, 1000);
        windows.remember(&topic("t"), Identity::of_all(1, &messages(&[0, 1, 2], 0)));
        assert!(windows.repeats(&topic("t"), &Identity::of_all(2, &messages(&[0, 1, 2], 0))).is_empty());

        // Two of one partition, then one of another: cut in another way, the first two have another label.
        windows.remember(&topic("m"), Identity::of_all(2, &messages(&[7, 8, 3], 0)));
        assert_eq!(windows.repeats(&topic("m"), &Identity::of_all(1, &messages(&[7, 8], 0))), [0, 1]);
        assert!(windows.repeats(&topic("m"), &Identity::of_all(1, &messages(&[3], 0))).is_empty());
        assert_eq!(windows.repeats(&topic("m"), &Identity::of_all(2, &messages(&[3], 0))), [0]);
        // The other way round: stored apart, handed over again in one batch.
        assert_eq!(
            windows.repeats(&topic("t"), &Identity::of_all(5, &messages(&[0, 1, 2, 9], 0))),
            [0, 1, 2]
        );
    }

    #[test]
    fn windows_are_bounded() {
        let mut windows = Windows::new(10, 25);
        for name in ["a", "b", "c"] {
            let offsets: Vec<u64> = (0..30).collect();
            windows.remember(&topic(name), Identity::of_all(1, &messages(&offsets, 0)));
        }
        assert_eq!(windows.held(), 25);
        let newest = Identity::of_all(1, &messages(&(20..30).collect::<Vec<_>>(), 0));
        assert_eq!(windows.repeats(&topic("a"), &newest), [5, 6, 7, 8, 9], "the longest unused gave way");
        assert_eq!(windows.repeats(&topic("b"), &newest).len(), 10);
        let older = Identity::of_all(1, &messages(&(0..20).collect::<Vec<_>>(), 0));
        assert!(windows.repeats(&topic("c"), &older).is_empty());
        assert_eq!(windows.topics.values().map(|window| window.known.len()).sum::<usize>(), 25);
    }
}
