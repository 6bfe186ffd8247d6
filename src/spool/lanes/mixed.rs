//! Which batches may hold messages of several partitions.
//!
//! The runtime cuts a batch where it likes, labels it with the partition of its last message, and names that of no other. But
//! the offsets of a partition grow by one, and what is polled of it comes in order. So a batch with the label P is of P alone
//! where its offsets grow by one from behind the last one known to be of P, and no other batch since then can have held one of
//! them. All others are kept in a lane of their own, in order with all batches of the topic that may hold the same partitions.

use std::collections::HashMap;

use iggy_connector_sdk::{BorrowedMessage, TopicMetadata};

use super::{key::LaneKey, lane::Lane};

type Lanes = HashMap<LaneKey, Lane>;

/// The lane for a batch with this label.
pub(in crate::spool) fn lane_for(
    lanes: &Lanes,
    topic: &TopicMetadata,
    label: u32,
    messages: &[BorrowedMessage<'_>],
) -> LaneKey {
    let (own, several) = (LaneKey::of(topic, label), LaneKey::of_several(topic));
    // What comes behind one of several partitions may be of any of them.
    let none_before = lanes.get(&several).is_none_or(Lane::is_empty);
    if none_before && is_of_one(lanes.get(&own), messages) { own } else { several }
}

fn is_of_one(lane: Option<&Lane>, messages: &[BorrowedMessage<'_>]) -> bool {
    let ([first, .., _], Some(lane)) = (messages, lane) else { return messages.len() < 2 };
    let Some(sure) = lane.sure else { return false };
    sure.checked_add(1) == Some(first.offset)
        && lane.unsure.is_none_or(|unsure| unsure <= sure)
        && messages.windows(2).all(|pair| pair[0].offset.checked_add(1) == Some(pair[1].offset))
}

/// Notes what a stored batch reveals about the partitions of its topic.
pub(in crate::spool) fn stored(
    lanes: &mut Lanes,
    key: &LaneKey,
    label: u32,
    messages: &[BorrowedMessage<'_>],
) {
    let Some((last, before)) = messages.split_last() else { return };
    lanes.entry(key.clone()).or_default().last = Some(last.offset);
    let own = LaneKey::new(key.stream(), key.topic(), label);
    if key.is_of_several()
        && let Some(greatest) = before.iter().map(|message| message.offset).max()
    {
        for (_, lane) in lanes.iter_mut().filter(|(other, _)| other.is_beside(&own)) {
            lane.unsure = lane.unsure.max(Some(greatest));
        }
    }
    let own = lanes.entry(own).or_default();
    (own.sure, own.unsure) = (Some(last.offset), None);
}

/// Whether something of the same topic is to be delivered before a batch of `lane` with this label: in another lane, and
/// possibly of the same partition.
pub(in crate::spool) fn is_behind_another(
    lanes: &Lanes,
    lane: &LaneKey,
    label: u32,
    messages: &[BorrowedMessage<'_>],
) -> bool {
    if !lane.is_of_several() {
        return false;
    }
    let greatest = messages.split_last().and_then(|(_, before)| before.iter().map(|m| m.offset).max());
    lanes.iter().any(|(other, held)| {
        let may_share = || greatest.is_some_and(|greatest| held.last.is_none_or(|last| last < greatest));
        other.is_beside(lane) && !held.is_empty() && (other.partition() == label || may_share())
    })
}
