//! The lanes of a batch: which messages wait for which.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use twox_hash::XxHash3_64;

use crate::{
    batch::Batch,
    config::{Config, Ordering},
    settle::{MessageState, Progress},
};

/// Messages that go out in order, as indexes into their batch. What is in different lanes goes out
/// side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lane {
    /// The whole batch, by its number of messages.
    All(usize),
    /// These, ascending.
    Some(Vec<LaneItem>),
}

/// A message of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneItem {
    /// Its index in the batch.
    pub message: usize,
    /// Whether it begins a body, as it did before, or because the one before it in the lane is settled: so that the same
    /// messages go out together again.
    pub begins: bool,
    /// Whether it is in a body that was written down before, and so may have been sent.
    pub noted: bool,
}

impl Lane {
    /// The item at an index.
    pub fn get(&self, index: usize) -> Option<LaneItem> {
        match self {
            Self::All(messages) => {
                (index < *messages).then_some(LaneItem { message: index, begins: false, noted: false })
            }
            Self::Some(items) => items.get(index).copied(),
        }
    }
}

/// The lanes of the messages of a batch that are open.
///
/// A batch is of one topic, and the runtime does not say of which partition each message is, so that partitions are kept in
/// order by one lane for all. By key there is one lane for each key where a request holds one message; where it holds many,
/// keys share as many lanes as there can be requests in flight.
pub(crate) fn lanes(batch: &Batch<'_>, config: &Config, progress: Option<&dyn Progress>) -> Vec<Lane> {
    let messages = batch.messages.len();
    let state = |message| progress.map_or(MessageState::Open, |progress| progress.state(message));
    let before = progress.map(Progress::bodies).unwrap_or_default();
    let Ordering::Key(template) = &config.ordering else {
        if before.is_empty() && (0..messages).all(|message| state(message) == MessageState::Open) {
            return vec![Lane::All(messages)];
        }
        return vec![Lane::Some(items(0..messages, |_| 0, state, &before))];
    };
    let shards = config.body.mode.batches().then(|| config.concurrency.max().get());
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    let mut lane_of: HashMap<Key, usize> = HashMap::new();
    let mut hashes: Vec<u64> = Vec::new();
    for (index, message) in batch.messages.iter().enumerate() {
        let key = template.key(batch, message);
        if !before.is_empty() {
            hashes.push(hash(&key));
        }
        let key = match shards {
            None => Key::Whole(key),
            Some(shards) => Key::Shard(shard(&key, shards)),
        };
        let lane = *lane_of.entry(key).or_insert_with(|| {
            lanes.push(Vec::new());
            lanes.len() - 1
        });
        lanes[lane].push(index);
    }
    let key = |message: usize| hashes[message];
    lanes.into_iter().map(|lane| Lane::Some(items(lane, key, state, &before))).collect()
}

/// The items of the open messages of a lane. Those that were sent together before are together again, without others; and
/// what follows a settled one begins a body.
///
/// A message that is in none of these bodies, and before one of its own key in a body, was refused when the body was made. It
/// ends before the body is sent, so that it comes before it. One of another key may be new in the lane.
fn items(
    lane: impl IntoIterator<Item = usize>,
    key: impl Fn(usize) -> u64,
    state: impl Fn(usize) -> MessageState,
    before: &[Vec<usize>],
) -> Vec<LaneItem> {
    // Bodies of one lane do not share messages, and all messages of a body are of one lane.
    let body_of: HashMap<usize, &Vec<usize>> =
        before.iter().flat_map(|body| body.iter().map(move |message| (*message, body))).collect();
    let lane: Vec<usize> = lane.into_iter().collect();
    let mut begins = false;
    let mut items = Vec::new();
    let mut refused: HashSet<usize> = HashSet::new();
    for (at, &message) in lane.iter().enumerate() {
        match state(message) {
            MessageState::Open => {}
            MessageState::Settled => {
                begins = true;
                continue;
            }
            MessageState::Elsewhere => continue,
        }
        let Some(body) = body_of.get(&message) else {
            if !refused.contains(&message) {
                items.push(LaneItem { message, begins, noted: false });
                begins = false;
            }
            continue;
        };
        // The whole body stands where its first open message does.
        let mut open = body.iter().copied().filter(|message| state(*message) == MessageState::Open);
        if open.next() == Some(message) {
            for &other in lane[at..].iter().take_while(|other| body.last().is_some_and(|last| *other < last))
            {
                let is_before = || body.iter().any(|sent| *sent > other && key(*sent) == key(other));
                if state(other) == MessageState::Open
                    && !body_of.contains_key(&other)
                    && is_before()
                    && refused.insert(other)
                {
                    items.push(LaneItem { message: other, begins: mem::take(&mut begins), noted: false });
                }
            }
            items.push(LaneItem { message, begins: true, noted: true });
            items.extend(open.map(|message| LaneItem { message, begins: false, noted: true }));
            begins = true;
        }
    }
    items
}

#[derive(PartialEq, Eq, Hash)]
enum Key {
    Whole(String),
    Shard(usize),
}

/// A digest of a key, the same in every release.
pub(crate) fn hash(key: &str) -> u64 {
    XxHash3_64::oneshot(key.as_bytes())
}

/// The shard of a key, the same in every release: after a crash the same messages must make the same bodies, with the
/// same idempotency keys. The standard library's hasher may change with the compiler.
fn shard(key: &str, shards: usize) -> usize {
    // The remainder is below `shards`, so it fits.
    usize::try_from(hash(key) % shards as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
    use serde_json::{Value, json};

    use super::*;

    /// The lanes of messages with these values at `/k`, as values.
    fn split(more: Value, values: &[u64]) -> Vec<Vec<u64>> {
        let mut config = json!({ "url": "http://localhost/" });
        config.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        let config = Config::from_json(&config).expect("a configuration");
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
        let payloads: Vec<String> = values.iter().map(|value| json!({ "k": value }).to_string()).collect();
        let messages: Vec<BorrowedMessage<'_>> = (0..)
            .zip(&payloads)
            .map(|(offset, payload)| BorrowedMessage {
                id: 1,
                offset,
                checksum: 0,
                timestamp: 0,
                origin_timestamp: 0,
                headers: b"",
                payload: payload.as_bytes(),
            })
            .collect();
        let batch = Batch::borrowed(&topic, &metadata, &messages);
        let lanes = lanes(&batch, &config, None);
        lanes
            .iter()
            .map(|lane| (0..).map_while(|index| lane.get(index)).map(|item| values[item.message]).collect())
            .collect()
    }

    #[test]
    fn a_batch_is_one_lane_unless_ordered_by_key() {
        for ordering in ["partition", "none"] {
            assert_eq!(split(json!({ "ordering": ordering }), &[3, 1, 3, 2]), [[3, 1, 3, 2]]);
        }
    }

    #[test]
    fn each_key_has_a_lane_of_its_own() {
        let config = json!({ "ordering": "key", "ordering_key": "{payload:/k}" });
        assert_eq!(split(config, &[3, 1, 3, 2, 1, 3]), [vec![3, 3, 3], vec![1, 1], vec![2]]);
    }

    #[test]
    fn where_requests_hold_many_messages_keys_share_lanes() {
        let config = json!({ "ordering": "key", "ordering_key": "{payload:/k}", "batch_mode": "nd_json", "concurrency": 4 });
        let values: Vec<u64> = (0..1000).map(|n| n % 100).collect();
        let lanes = split(config, &values);
        assert!((2..=4).contains(&lanes.len()), "{}", lanes.len());
        for key in 0..100 {
            assert_eq!(lanes.iter().filter(|lane| lane.contains(&key)).count(), 1, "{key}");
        }
    }

    fn planned(state: impl Fn(usize) -> MessageState, before: &[Vec<usize>]) -> Vec<Vec<usize>> {
        planned_with_keys(|_| 0, state, before)
    }

    fn planned_with_keys(
        key: impl Fn(usize) -> u64,
        state: impl Fn(usize) -> MessageState,
        before: &[Vec<usize>],
    ) -> Vec<Vec<usize>> {
        let mut bodies: Vec<Vec<usize>> = Vec::new();
        for LaneItem { message, begins, .. } in items(10..20, key, state, before) {
            if begins || bodies.is_empty() {
                bodies.push(Vec::new());
            }
            bodies.last_mut().expect("one was begun").push(message);
        }
        bodies
    }

    #[test]
    fn settled_messages_are_left_out_and_what_follows_them_begins_a_body() {
        let state = |message| match message {
            10 | 12 | 13 => MessageState::Settled,
            16 => MessageState::Elsewhere,
            _ => MessageState::Open,
        };
        assert_eq!(planned(state, &[]), [vec![11], vec![14, 15, 17, 18, 19]]);
    }

    #[test]
    fn what_was_sent_together_is_sent_together_again() {
        let bodies = planned(|_| MessageState::Open, &[vec![12, 13], vec![16, 18]]);
        // 17 was refused, and is so again before the body behind it is sent.
        assert_eq!(bodies, [vec![10, 11], vec![12, 13], vec![14, 15, 17], vec![16, 18], vec![19]]);
    }

    #[test]
    fn what_stands_between_the_messages_of_a_body_is_planned_once_and_in_the_order_of_its_key() {
        // Two keys share a lane: of the even ones 12 and 18 were sent together while the odd ones waited elsewhere, and then
        // of the odd ones 11 and 13.
        let bodies = planned_with_keys(
            |message| message as u64 % 2,
            |_| MessageState::Open,
            &[vec![12, 18], vec![11, 13]],
        );
        // 14 and 16 were refused; 15, 17 and 19 were not tried yet.
        assert_eq!(bodies, [vec![10], vec![11, 13], vec![14, 16], vec![12, 18], vec![15, 17, 19]]);
    }
}
