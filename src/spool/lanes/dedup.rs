//! The dedup window: which messages were stored last, so that they are not stored again.
//!
//! After a crash or a rebalance, a host may hand over messages again if it could not know that they were stored: for each
//! partition that can only be the last batch, since the next one comes only when the host has recorded the one before. The
//! host starts again where that batch began, or anywhere within it if batches are cut differently. So the last batch of each
//! label is remembered, and messages that begin within one are repeats as far as it goes. Messages that begin anywhere else
//! are new, or a replay that somebody asked for: they are stored, and remembered in place of those before.
//!
//! Two messages are the same if their offset, id, checksum and both timestamps are: a topic that was deleted and recreated
//! begins again at offset 0, but with other ids and times.
//!
//! A batch can mix partitions under the label of its last message, and be cut differently the second time, so a message is
//! looked up in all batches of its topic. The label distinguishes otherwise equal messages only if it is certain: in a batch
//! whose offsets have no gap, or in the last run of one.

use std::collections::{HashMap, HashSet};

use iggy_connector_sdk::BorrowedMessage;
use twox_hash::XxHash3_64;

use super::key::Topic;

/// The label of a message whose partition is unknown.
pub(in crate::spool) const UNSURE: u32 = u32::MAX;

/// What identifies a message within its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct Identity {
    pub(in crate::spool) digest: u64,
    pub(in crate::spool) partition: u32,
    /// Whether it is the first of a run of offsets.
    begins: bool,
}

impl Identity {
    /// Those of a batch.
    pub(in crate::spool) fn of_all(partition: u32, messages: &[BorrowedMessage<'_>]) -> Vec<Self> {
        let step = |pair: &[BorrowedMessage<'_>]| pair[0].offset.checked_add(1) != Some(pair[1].offset);
        let sure = messages.windows(2).rposition(step).map_or(0, |last| last + 1);
        let mut next = None;
        let identity = |(index, message): (usize, &BorrowedMessage<'_>)| {
            let mut bytes = [0; 48];
            bytes[..16].copy_from_slice(&message.id.to_le_bytes());
            bytes[16..24].copy_from_slice(&message.offset.to_le_bytes());
            bytes[24..32].copy_from_slice(&message.checksum.to_le_bytes());
            bytes[32..40].copy_from_slice(&message.timestamp.to_le_bytes());
            bytes[40..].copy_from_slice(&message.origin_timestamp.to_le_bytes());
            let begins = next.replace(message.offset.wrapping_add(1)) != Some(message.offset);
            let partition = if index < sure { UNSURE } else { partition };
            Self { digest: XxHash3_64::oneshot(&bytes), partition, begins }
        };
        messages.iter().enumerate().map(identity).collect()
    }

    /// One that was written down.
    pub(in crate::spool) fn restored(digest: u64, partition: u32) -> Self {
        Self { digest, partition, begins: false }
    }

    fn is_sure(&self) -> bool {
        self.partition != UNSURE
    }

    /// Whether it may be the same message.
    fn matches(&self, other: &Self) -> bool {
        self.digest == other.digest
            && (self.partition == other.partition || !self.is_sure() || !other.is_sure())
    }
}

/// The batches of every topic that were stored last, one for each label.
#[derive(Debug)]
pub(in crate::spool) struct Windows {
    topics: HashMap<Topic, HashMap<u32, Batch>>,
    /// How many messages are remembered; the last batch always is.
    limit: usize,
    held: usize,
    clock: u64,
}

#[derive(Debug, Default)]
struct Batch {
    messages: Vec<Identity>,
    used: u64,
}

impl Windows {
    pub(in crate::spool) fn new(limit: usize) -> Self {
        Self { topics: HashMap::new(), limit, held: 0, clock: 0 }
    }

    /// Which messages of a batch were stored before, as indexes into it.
    pub(in crate::spool) fn repeats(&self, topic: &Topic, batch: &[Identity]) -> Vec<usize> {
        let Some(before) = self.topics.get(topic) else { return Vec::new() };
        let is_there = |message: &Identity| {
            let batches = before.iter().filter(|(label, batch)| {
                // A message with a certain label is in the batch of that label, or in one that has messages without a certain
                // label.
                !message.is_sure() || **label == message.partition || batch.has_unsure()
            });
            batches.flat_map(|(_, batch)| &batch.messages).any(|known| known.matches(message))
        };
        let mut repeats = Vec::new();
        let mut begin = 0;
        for run in batch.chunk_by(|_, next| !next.begins) {
            // Most begin with a new message, and nothing else need be checked.
            if is_there(&run[0]) {
                let known: HashSet<u64> =
                    before.values().flat_map(|batch| &batch.messages).map(|known| known.digest).collect();
                let there = run.iter().take_while(|message| known.contains(&message.digest)).count();
                repeats.extend(begin..begin + there);
            }
            begin += run.len();
        }
        repeats
    }

    /// Remembers all messages of a batch with this label that is stored now, including repeats, in place of the batch before
    /// or, if it `continues` that, in addition to it. The batches that were stored longest ago are forgotten.
    pub(in crate::spool) fn remember(
        &mut self,
        topic: &Topic,
        label: u32,
        messages: Vec<Identity>,
        continues: bool,
    ) {
        self.clock += 1;
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), HashMap::new());
        }
        let Some(batches) = self.topics.get_mut(topic) else { return };
        if !continues {
            // A batch that is stored again may have another label than the first time.
            let unsure = messages.first().is_some_and(|first| !first.is_sure());
            batches.retain(|_, batch| {
                let again = (unsure || batch.has_unsure()) && batch.begins_in(&messages);
                self.held -= if again { batch.messages.len() } else { 0 };
                !again
            });
        }
        let batch = batches.entry(label).or_default();
        self.held -= batch.messages.len();
        if continues {
            batch.messages.extend(messages);
        } else {
            batch.messages = messages;
        }
        self.held += batch.messages.len();
        batch.used = self.clock;
        while self.held > self.limit && self.forget_oldest() {}
    }

    /// Forgets the batch that was stored longest ago, unless it is the only one.
    fn forget_oldest(&mut self) -> bool {
        let all = self.topics.iter().flat_map(|(topic, batches)| {
            batches.iter().map(move |(label, batch)| (batch.used, topic, *label))
        });
        let oldest = all.min_by_key(|(used, ..)| *used).filter(|(used, ..)| *used < self.clock);
        let Some((_, topic, label)) = oldest.map(|(used, topic, label)| (used, topic.clone(), label)) else {
            return false;
        };
        if let Some(batches) = self.topics.get_mut(&topic) {
            self.held -= batches.remove(&label).map_or(0, |batch| batch.messages.len());
            if batches.is_empty() {
                self.topics.remove(&topic);
            }
        }
        true
    }

    /// Iterates over every batch with its topic, the one that was stored longest ago first.
    pub(in crate::spool) fn iter(&self) -> impl Iterator<Item = (&Topic, &[Identity])> {
        let mut batches: Vec<_> = self
            .topics
            .iter()
            .flat_map(|(topic, batches)| batches.values().map(move |batch| (topic, batch)))
            .collect();
        batches.sort_by_key(|(_, batch)| batch.used);
        batches.into_iter().map(|(topic, batch)| (topic, batch.messages.as_slice()))
    }

    /// The size of the window, in messages.
    pub(in crate::spool) fn held(&self) -> usize {
        self.held
    }
}

impl Batch {
    fn has_unsure(&self) -> bool {
        // These are at the beginning.
        self.messages.first().is_some_and(|first| !first.is_sure())
    }

    /// Whether one of its runs begins among other messages.
    fn begins_in(&self, messages: &[Identity]) -> bool {
        let begins =
            self.messages.iter().enumerate().filter(|(index, message)| *index == 0 || message.begins);
        begins.into_iter().any(|(_, begin)| messages.iter().any(|message| message.matches(begin)))
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

    /// Hands a batch over, and returns which of its messages were duplicates.
    fn hand_over(windows: &mut Windows, label: u32, offsets: &[u64]) -> Vec<usize> {
        let batch = Identity::of_all(label, &messages(offsets, 0));
        let repeats = windows.repeats(&topic("t"), &batch);
        if repeats.len() < batch.len() {
            windows.remember(&topic("t"), label, batch, false);
        }
        repeats
    }

    const NONE: [usize; 0] = [];

    #[test]
    fn the_last_batch_of_a_partition_is_recognised_however_it_is_cut() {
        let mut windows = Windows::new(1000);
        hand_over(&mut windows, 1, &[0, 1, 2, 3]);
        hand_over(&mut windows, 1, &[4, 5, 6, 7]);
        assert_eq!(hand_over(&mut windows, 1, &[4, 5, 6, 7]), [0, 1, 2, 3]);
        assert_eq!(hand_over(&mut windows, 1, &[4, 5]), [0, 1]);
        assert_eq!(hand_over(&mut windows, 1, &[6, 7, 8]), [0, 1]);
        assert_eq!(hand_over(&mut windows, 1, &[6, 7, 8]), [0, 1, 2]);
        assert_eq!(hand_over(&mut windows, 1, &[9]), NONE);
        let anew = Identity::of_all(1, &messages(&[9, 10], 1 << 90));
        assert_eq!(windows.repeats(&topic("t"), &anew), NONE, "a topic that was made anew");
        assert_eq!(windows.repeats(&topic("u"), &Identity::of_all(1, &messages(&[9], 0))), NONE);
    }

    #[test]
    fn what_begins_further_back_is_a_replay_whole_and_to_its_end() {
        for count in [1, 2, 3, 5, 7, 10, 20] {
            let mut windows = Windows::new(1000);
            let all: Vec<u64> = (0..20).collect();
            all.chunks(5).for_each(|batch| assert_eq!(hand_over(&mut windows, 1, batch), NONE));
            all.chunks(count)
                .for_each(|batch| assert_eq!(hand_over(&mut windows, 1, batch), NONE, "{count}"));
        }
    }

    #[test]
    fn the_label_counts_where_it_is_sure() {
        let mut windows = Windows::new(1000);
        assert_eq!(hand_over(&mut windows, 1, &[0, 1, 2]), NONE);
        assert_eq!(hand_over(&mut windows, 2, &[0, 1, 2]), NONE);
        // Two of one partition, then one of another: cut in another way, the first two have another label.
        assert_eq!(hand_over(&mut windows, 2, &[7, 8, 3]), NONE);
        assert_eq!(hand_over(&mut windows, 1, &[7, 8]), [0, 1]);
        assert_eq!(hand_over(&mut windows, 2, &[3]), [0]);
        assert_eq!(hand_over(&mut windows, 5, &[3]), NONE);
        // The other way round: stored apart, handed over again in one batch, with something new of each.
        assert_eq!(hand_over(&mut windows, 1, &[9, 10]), NONE);
        assert_eq!(hand_over(&mut windows, 2, &[9, 10, 11, 3, 4]), [0, 1, 3]);
        assert_eq!(hand_over(&mut windows, 2, &[9, 10, 11, 3, 4]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_replay_goes_on_where_its_batches_mix_partitions() {
        let mut windows = Windows::new(1000);
        assert_eq!(hand_over(&mut windows, 1, &[90, 91, 92, 93]), NONE);
        assert_eq!(hand_over(&mut windows, 2, &[88, 89, 90, 91, 5]), NONE);
        assert_eq!(hand_over(&mut windows, 2, &[92, 93, 94, 6]), NONE);
    }

    #[test]
    fn windows_are_bounded() {
        let mut windows = Windows::new(25);
        let batch = Identity::of_all(1, &messages(&(0..10).collect::<Vec<_>>(), 0));
        for name in ["a", "b", "c"] {
            windows.remember(&topic(name), 1, batch.clone(), false);
        }
        assert_eq!((windows.held(), windows.topics.len()), (20, 2), "the one before the others gave way");
        assert_eq!(windows.repeats(&topic("b"), &batch).len(), 10);
        let large = Identity::of_all(1, &messages(&(0..100).collect::<Vec<_>>(), 0));
        windows.remember(&topic("d"), 1, large, false);
        assert_eq!((windows.held(), windows.topics.len()), (100, 1));
    }
}
