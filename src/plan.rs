//! The lanes of a batch: which messages wait for which.

mod before;
mod stored;

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use twox_hash::XxHash3_64;

pub(crate) use self::{
    before::{Before, Unit},
    stored::{MessageState, Stored},
};
use crate::{
    batch::Batch,
    config::{Config, Ordering},
};

/// Messages that are sent in order, as indexes into their batch. Different lanes are sent concurrently.
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
    /// messages are sent together again.
    pub begins: bool,
    /// Whether it is in a body that was recorded before, and so may have been sent.
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

/// Returns the lanes of the unsettled messages of a batch.
///
/// A batch belongs to one topic, and the runtime does not tell the partition of each message, so one lane for all keeps
/// partitions in order. With order by key, there is one lane per key if a request holds one message; if it holds several,
/// keys share as many lanes as there can be requests in flight.
pub(crate) fn lanes(batch: &Batch<'_>, config: &Config, stored: Option<&dyn Stored>) -> Vec<Lane> {
    let messages = batch.messages.len();
    let state = |message| stored.map_or(MessageState::Open, |stored| stored.state(message));
    let bodies = stored.filter(|_| config.body.mode.batches()).map(Stored::bodies).unwrap_or_default();
    let before = Before::of(messages, bodies, |message| state(message).is_open());
    let Ordering::Key(template) = &config.ordering else {
        if before.is_empty() && (0..messages).all(|message| state(message).is_open()) {
            return vec![Lane::All(messages)];
        }
        return vec![Lane::Some(items(0..messages, |_| 0, state, &before))];
    };
    let is_open = |index: usize| state(index).is_open();
    let mut keys = vec![0; messages];
    for (index, message) in batch.messages.iter().enumerate().filter(|(index, _)| is_open(*index)) {
        let known = stored.and_then(|stored| stored.key(index));
        keys[index] = known.unwrap_or_else(|| hash(&template.key(batch, message)));
    }
    let mut shards =
        if config.body.mode.batches() { config.concurrency.max().get() as u64 } else { u64::MAX };
    if before.span(|message| keys[message] % shards) {
        // Keys were distinguished differently when it was recorded: until it is settled, all share one lane.
        shards = 1;
    }
    let mut lanes: Vec<Vec<usize>> = Vec::new();
    let mut lane_of: HashMap<u64, usize> = HashMap::new();
    for index in (0..messages).filter(|index| is_open(*index)) {
        let lane = *lane_of.entry(keys[index] % shards).or_insert_with(|| {
            lanes.push(Vec::new());
            lanes.len() - 1
        });
        lanes[lane].push(index);
    }
    let lane_of_items =
        |lane| Lane::Some(items(lane, |message| keys[message], |_| MessageState::Open, &before));
    lanes.into_iter().map(lane_of_items).collect()
}

/// Returns the items of the unsettled messages of a lane. Those that were sent together before are together again, without
/// others; and one that follows a settled message begins a body.
fn items(
    lane: impl IntoIterator<Item = usize>,
    key: impl Fn(usize) -> u64,
    state: impl Fn(usize) -> MessageState,
    before: &Before,
) -> Vec<LaneItem> {
    let (mut open, mut behind_settled) = (Vec::new(), HashSet::new());
    let mut begins = false;
    for message in lane {
        match state(message) {
            MessageState::Open => {
                if mem::take(&mut begins) {
                    behind_settled.insert(message);
                }
                open.push(message);
            }
            MessageState::Settled => begins = true,
            MessageState::Elsewhere => {}
        }
    }
    if before.is_empty() {
        let item = |message| LaneItem { message, begins: behind_settled.contains(&message), noted: false };
        return open.into_iter().map(item).collect();
    }
    let mut items = Vec::with_capacity(open.len());
    let mut begins = false;
    for Unit { messages, noted } in before.units(open, key) {
        begins |= noted;
        for message in messages {
            let begins = mem::take(&mut begins) || !noted && behind_settled.contains(&message);
            items.push(LaneItem { message, begins, noted });
        }
        begins = noted;
    }
    items
}

/// Returns a digest of a key that is the same in every release: after a crash the same messages must make the same bodies,
/// with the same idempotency keys. The standard library's hasher may change with the compiler.
pub(crate) fn hash(key: &str) -> u64 {
    XxHash3_64::oneshot(key.as_bytes())
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
        let before = Before::of(20, before.to_vec(), |message| state(message).is_open());
        let mut bodies: Vec<Vec<usize>> = Vec::new();
        for LaneItem { message, begins, .. } in items(10..20, key, state, &before) {
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
        assert_eq!(bodies, [vec![10], vec![11, 13], vec![14, 15, 16], vec![12, 18], vec![17, 19]]);
    }
}
