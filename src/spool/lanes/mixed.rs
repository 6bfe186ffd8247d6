//! Decides which batches may hold messages of several partitions.
//!
//! The runtime cuts batches anywhere, and labels each with the partition of its last message only. But the offsets of a
//! partition grow by one, and its messages arrive in order. So a batch with the label P belongs to P alone if its offsets
//! continue without a gap from the last one known to be of P, and no other batch since then can have contained one of them.
//! All others are kept in a separate lane, the several lane of the topic.
//!
//! The records of both kinds of lanes are ordered by their arrival: one of the several lane is sent after all earlier ones
//! that may be of the same partitions, and one of a partition after all earlier ones of the several lane.

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
    let own = LaneKey::of(topic, label);
    let lane = lanes.get(&own);
    if is_of_one(lane, messages) && lane.is_none_or(is_sure_throughout) {
        own
    } else {
        LaneKey::of_several(topic)
    }
}

fn is_of_one(lane: Option<&Lane>, messages: &[BorrowedMessage<'_>]) -> bool {
    let ([first, .., _], Some(lane)) = (messages, lane) else { return messages.len() < 2 };
    let Some(sure) = lane.sure else { return false };
    sure.checked_add(1) == Some(first.offset)
        && lane.unsure.is_none_or(|unsure| unsure <= sure)
        && messages.windows(2).all(|pair| pair[0].offset.checked_add(1) == Some(pair[1].offset))
}

/// Whether no message of the partition can have gone to the several lane since the first unsettled record of its own lane: as
/// long as that holds, the last offset stored in the lane tells which messages of the several lane may be of the partition.
fn is_sure_throughout(lane: &Lane) -> bool {
    let is_known = lane.last.is_some() && lane.last == lane.sure;
    lane.is_empty() || is_known && lane.unsure.is_none_or(|unsure| Some(unsure) <= lane.sure)
}

/// Notes what a stored batch reveals about the partitions of its topic.
pub(in crate::spool) fn stored(
    lanes: &mut Lanes,
    key: &LaneKey,
    label: u32,
    messages: &[BorrowedMessage<'_>],
) {
    let Some((last, before)) = messages.split_last() else { return };
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
    // If messages come again, offsets alone do not tell that some went to the several lane.
    own.last = own.sure.filter(|_| !key.is_of_several());
}

/// Whether there are records in other lanes of a topic that may have to wait for those of `lane`.
pub(in crate::spool) fn is_waited_for(lanes: &Lanes, lane: &LaneKey) -> bool {
    if lane.is_of_several() {
        lanes.iter().any(|(other, held)| other.is_beside(lane) && !held.is_empty())
    } else {
        lanes.get(&lane.several()).is_some_and(|several| !several.is_empty())
    }
}

/// Returns the other lanes of the topic that a record of `lane` may have to wait for, if their records arrived before it:
/// given its label and messages.
pub(in crate::spool) fn beside<'l>(
    lanes: &'l Lanes,
    lane: &LaneKey,
    label: u32,
    messages: &[BorrowedMessage<'_>],
) -> Vec<(&'l LaneKey, bool)> {
    if !lane.is_of_several() {
        let several = lanes.get_key_value(&lane.several()).filter(|(_, several)| !several.is_empty());
        return several.map(|(key, _)| (key, true)).into_iter().collect();
    }
    let greatest = messages.split_last().and_then(|(_, before)| before.iter().map(|m| m.offset).max());
    let may_share = |other: &LaneKey, held: &Lane| {
        other.partition() == label
            || greatest.is_some_and(|greatest| held.last.is_none_or(|last| last < greatest))
    };
    let beside = lanes.iter().filter(|(other, held)| other.is_beside(lane) && !held.is_empty());
    beside.map(|(other, held)| (other, may_share(other, held))).collect()
}
