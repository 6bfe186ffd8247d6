//! The checkpoint at the beginning of a segment: everything that the segments before it recorded, so that they can be
//! deleted.

use std::{collections::HashMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::{Header, Kind};
use crate::spool::lanes::{
    dedup::{Identity, UNSURE, Windows},
    key::LaneKey,
    lane::Lane,
    ranges::{LaneMessages, MessageRanges},
};

/// The state of a spool at one moment.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::spool) struct Checkpoint<'c> {
    #[serde(borrow)]
    pub(in crate::spool) lanes: Vec<LaneState<'c>>,
    #[serde(borrow)]
    pub(in crate::spool) windows: Vec<WindowState<'c>>,
}

/// The addition after a [`Checkpoint`] since version 2.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::spool) struct Added<'c> {
    #[serde(borrow)]
    pub(in crate::spool) lanes: Vec<AddedState<'c>>,
    /// The time of the spool at that moment.
    pub(in crate::spool) time: u64,
}

/// More about a lane.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::spool) struct AddedState<'c> {
    stream: &'c str,
    topic: &'c str,
    partition: u32,
    pub(in crate::spool) last: Option<u64>,
    pub(in crate::spool) sure: Option<u64>,
    pub(in crate::spool) unsure: Option<u64>,
    /// In version 2 the bodies of unsettled records.
    bodies: Vec<(u64, Vec<MessageRanges>)>,
}

/// The addition after [`Added`] since version 3: the bodies of unsettled records.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::spool) struct Bodies<'c> {
    #[serde(borrow)]
    lanes: Vec<BodiesOf<'c>>,
}

/// The bodies of a lane.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::spool) struct BodiesOf<'c> {
    stream: &'c str,
    topic: &'c str,
    partition: u32,
    bodies: Vec<LaneMessages>,
}

impl AddedState<'_> {
    /// Takes the bodies that version 2 recorded.
    pub(in crate::spool) fn take_bodies(&mut self) -> Vec<LaneMessages> {
        let of_record = |(sequence, bodies): (u64, Vec<MessageRanges>)| {
            bodies.into_iter().map(move |body| vec![(sequence, body)])
        };
        std::mem::take(&mut self.bodies).into_iter().flat_map(of_record).collect()
    }

    pub(in crate::spool) fn key(&self) -> LaneKey {
        LaneKey::new(self.stream, self.topic, self.partition)
    }
}

/// Reads a checkpoint of any version.
pub(in crate::spool) fn parse(body: &[u8]) -> Option<(Checkpoint<'_>, Added<'_>, Bodies<'_>)> {
    let (checkpoint, rest) = postcard::take_from_bytes(body).ok()?;
    if rest.is_empty() {
        return Some((checkpoint, Added::default(), Bodies::default()));
    }
    let (added, rest) = postcard::take_from_bytes(rest).ok()?;
    let bodies = if rest.is_empty() { Bodies::default() } else { postcard::from_bytes(rest).ok()? };
    Some((checkpoint, added, bodies))
}

impl Bodies<'_> {
    /// The bodies of each lane.
    pub(in crate::spool) fn into_lanes(self) -> impl Iterator<Item = (LaneKey, Vec<LaneMessages>)> {
        let key = |of: &BodiesOf<'_>| LaneKey::new(of.stream, of.topic, of.partition);
        self.lanes.into_iter().map(move |of| (key(&of), of.bodies))
    }
}

/// A lane.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::spool) struct LaneState<'c> {
    stream: &'c str,
    topic: &'c str,
    partition: u32,
    /// The sequence of the next record.
    pub(in crate::spool) next: u64,
    /// The ranges of sequences before `next` that are not settled.
    pub(in crate::spool) unsettled: Vec<(u64, u64)>,
    /// The ranges of settled messages of records that are partly settled.
    pub(in crate::spool) partly: Vec<(u64, Vec<(u64, u64)>)>,
}

/// The messages of a topic that were stored last: one batch, or, from earlier releases, several.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::spool) struct WindowState<'c> {
    stream: &'c str,
    topic: &'c str,
    /// A number of them with this label, one behind the other.
    labels: Vec<(u32, u32)>,
    #[serde(with = "Digests")]
    digests: Vec<u8>,
}

/// Digests as one run of bytes.
struct Digests;

impl Digests {
    fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    fn deserialize<'d, D: serde::Deserializer<'d>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(<[u8]>::to_vec)
    }
}

impl LaneState<'_> {
    pub(in crate::spool) fn key(&self) -> LaneKey {
        LaneKey::new(self.stream, self.topic, self.partition)
    }

    /// The ranges of sequences that are settled.
    pub(in crate::spool) fn settled(&self) -> Vec<Range<u64>> {
        let mut settled = Vec::new();
        let mut from = 1;
        for &(first, last) in &self.unsettled {
            settled.push(from..first);
            from = last.saturating_add(1);
        }
        settled.push(from..self.next);
        settled.retain(|range| !range.is_empty());
        settled
    }
}

impl WindowState<'_> {
    /// Puts the messages back.
    pub(in crate::spool) fn restore(&self, windows: &mut Windows) {
        let labels =
            self.labels.iter().flat_map(|&(label, count)| std::iter::repeat_n(label, count as usize));
        let (digests, _) = self.digests.as_chunks::<8>();
        let identities: Vec<Identity> = digests
            .iter()
            .zip(labels)
            .map(|(digest, partition)| Identity::restored(u64::from_le_bytes(*digest), partition))
            .collect();
        let topic = (self.stream.into(), self.topic.into());
        // A batch ends with its label, after the messages whose partition is unknown.
        let is_one =
            |one: &Identity, next: &Identity| one.partition == UNSURE || one.partition == next.partition;
        for batch in identities.chunk_by(is_one) {
            if let Some(last) = batch.last() {
                windows.remember(&topic, last.partition, batch.to_vec(), false);
            }
        }
    }
}

/// The record of a checkpoint for a position.
pub(in crate::spool) fn record(
    lanes: &HashMap<LaneKey, Lane>,
    windows: &Windows,
    time: u64,
    segment: u64,
    position: u64,
) -> Option<Vec<u8>> {
    let checkpoint = Checkpoint {
        lanes: lanes.iter().map(|(key, lane)| lane_state(key, lane)).collect(),
        windows: windows
            .iter()
            .map(|(topic, batch)| {
                let mut labels: Vec<(u32, u32)> = Vec::new();
                let mut digests = Vec::new();
                for identity in batch {
                    digests.extend_from_slice(&identity.digest.to_le_bytes());
                    match labels.last_mut() {
                        Some((label, count)) if *label == identity.partition => *count += 1,
                        _ => labels.push((identity.partition, 1)),
                    }
                }
                WindowState { stream: &topic.0, topic: &topic.1, labels, digests }
            })
            .collect(),
    };
    let added = Added { lanes: lanes.iter().map(|(key, lane)| added_state(key, lane)).collect(), time };
    let with_bodies = lanes.iter().filter(|(_, lane)| !lane.bodies.is_empty());
    let bodies = Bodies { lanes: with_bodies.map(|(key, lane)| bodies_of(key, lane)).collect() };
    let body = postcard::to_stdvec(&(checkpoint, added, bodies)).ok()?;
    let header = Header::of(Kind::Checkpoint, &body)?;
    let mut record = header.bytes(segment, position).to_vec();
    record.extend_from_slice(&body);
    Some(record)
}

fn added_state<'c>(key: &'c LaneKey, lane: &Lane) -> AddedState<'c> {
    AddedState {
        stream: key.stream(),
        topic: key.topic(),
        partition: key.partition(),
        last: lane.last,
        sure: lane.sure,
        unsure: lane.unsure,
        bodies: Vec::new(),
    }
}

fn bodies_of<'c>(key: &'c LaneKey, lane: &Lane) -> BodiesOf<'c> {
    let bodies = lane.all_bodies().cloned().collect();
    BodiesOf { stream: key.stream(), topic: key.topic(), partition: key.partition(), bodies }
}

fn lane_state<'c>(key: &'c LaneKey, lane: &Lane) -> LaneState<'c> {
    let mut unsettled: Vec<(u64, u64)> = Vec::new();
    for (first, last) in lane.unsettled() {
        match unsettled.last_mut() {
            Some(before) if before.1 + 1 == first => before.1 = last,
            _ => unsettled.push((first, last)),
        }
    }
    LaneState {
        stream: key.stream(),
        topic: key.topic(),
        partition: key.partition(),
        next: lane.next,
        unsettled,
        partly: lane
            .partly
            .iter()
            .map(|(sequence, messages)| (*sequence, messages.iter().collect()))
            .collect(),
    }
}
