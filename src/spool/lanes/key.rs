//! The key of a lane.

use std::{fmt, sync::Arc};

use iggy_connector_sdk::{TopicMetadata, shown};

use crate::batch::LONGEST_NAME;

/// A stream and a topic of it.
pub(in crate::spool) type Topic = (Arc<str>, Arc<str>);

/// The partition of batches that may hold messages of several.
const SEVERAL: u32 = u32::MAX;

/// A stream, a topic and a partition: the messages that are kept in order, independently of other lanes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    stream: Arc<str>,
    topic: Arc<str>,
    partition: u32,
}

impl LaneKey {
    /// The lane of a partition.
    pub fn new(stream: &str, topic: &str, partition: u32) -> Self {
        Self { stream: stream.into(), topic: topic.into(), partition }
    }

    /// The lane that batches of a topic with this label belong to.
    pub fn of(topic: &TopicMetadata, partition: u32) -> Self {
        Self::new(&topic.stream, &topic.topic, partition)
    }

    /// The lane of batches of a topic that may hold messages of several partitions.
    pub fn of_several(topic: &TopicMetadata) -> Self {
        Self::new(&topic.stream, &topic.topic, SEVERAL)
    }

    /// The several lane of its topic.
    pub(in crate::spool) fn several(&self) -> Self {
        Self { partition: SEVERAL, ..self.clone() }
    }

    /// Whether its batches may hold messages of several partitions.
    pub fn is_of_several(&self) -> bool {
        self.partition == SEVERAL
    }

    /// Whether another lane belongs to the same topic.
    pub(in crate::spool) fn is_beside(&self, other: &Self) -> bool {
        self != other && self.topic == other.topic && self.stream == other.stream
    }

    /// The stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition that the batches are labelled with.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Whether another lane is one of the same topic.
    pub(in crate::spool) fn is_of_topic(&self, other: &Self) -> bool {
        self.topic == other.topic && self.stream == other.stream
    }

    pub(in crate::spool) fn topic_key(&self) -> Topic {
        (self.stream.clone(), self.topic.clone())
    }
}

impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [stream, topic] = [&self.stream, &self.topic].map(|name| shown(name, LONGEST_NAME));
        write!(f, "stream {stream}, topic {topic}, ")?;
        if self.is_of_several() {
            f.write_str("several partitions")
        } else {
            write!(f, "partition {}", self.partition)
        }
    }
}
