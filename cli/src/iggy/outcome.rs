//! The result of reading from Iggy, for people and for programs.

use std::{collections::BTreeMap, time::Duration};

use iggy_connector_sdk::shown;
use serde_json::{Value, json};

use crate::terminal::report::{self, figures, grouped, rate};

use super::session::{LONGEST_NAME, Names};

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PartitionName {
    stream: String,
    topic: String,
    partition: u32,
}

#[derive(Debug, Default)]
struct Partition {
    messages: u64,
    batches: u64,
    failed_batches: u64,
    first: Option<u64>,
    stored: Option<u64>,
    /// The range that consume refused last and has not accepted since.
    failing: Option<(u64, u64)>,
}

/// The count of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    partitions: BTreeMap<PartitionName, Partition>,
    pub(crate) time: Duration,
    /// Whether something that it needs could not be reached.
    pub(crate) unreachable: bool,
    /// Whether a signal ended it.
    pub(crate) stopped: bool,
    pub(crate) errors: Vec<String>,
}

impl Outcome {
    fn partition(&mut self, names: &Names, partition: u32) -> &mut Partition {
        let name = PartitionName { stream: names.stream.clone(), topic: names.topic.clone(), partition };
        self.partitions.entry(name).or_default()
    }

    /// Records that consume settled these offsets. Returns the number of settled messages in all partitions.
    pub(super) fn settled(&mut self, names: &Names, partition: u32, first: u64, messages: u64) -> u64 {
        let entry = self.partition(names, partition);
        entry.messages += messages;
        entry.batches += 1;
        entry.first.get_or_insert(first);
        entry.failing = None;
        self.messages()
    }

    /// Records that the server has stored `offset`: everything up to it is settled.
    pub(super) fn stored(&mut self, names: &Names, partition: u32, offset: u64) {
        self.partition(names, partition).stored = Some(offset);
    }

    /// Records that consume did not settle these offsets.
    pub(super) fn failed(&mut self, names: &Names, partition: u32, first: u64, last: u64) {
        let entry = self.partition(names, partition);
        entry.failed_batches += 1;
        entry.failing = Some((first, last));
    }

    fn messages(&self) -> u64 {
        self.partitions.values().map(|partition| partition.messages).sum()
    }

    fn sum(&self, count: impl Fn(&Partition) -> u64) -> u64 {
        self.partitions.values().map(count).sum()
    }

    /// Whether nothing is stuck until somebody acts.
    pub(crate) fn good(&self) -> bool {
        self.errors.is_empty() && self.partitions.values().all(|partition| partition.failing.is_none())
    }

    pub(crate) fn as_json(&self) -> String {
        let range = |(first, last): (u64, u64)| json!({ "first_offset": first, "last_offset": last });
        let partitions: Vec<Value> = self
            .partitions
            .iter()
            .map(|(name, partition)| {
                json!({
                    "stream": name.stream,
                    "topic": name.topic,
                    "partition": name.partition,
                    "messages": partition.messages,
                    "batches": partition.batches,
                    "failed_batches": partition.failed_batches,
                    "first_offset": partition.first,
                    "stored_offset": partition.stored,
                    "failing": partition.failing.map(range),
                })
            })
            .collect();
        json!({
            "messages": self.messages(),
            "batches": self.sum(|partition| partition.batches),
            "failed_batches": self.sum(|partition| partition.failed_batches),
            "seconds": self.time.as_secs_f64(),
            "messages_per_second": rate(self.messages(), self.time),
            "stopped": self.stopped,
            "partitions": partitions,
            "errors": self.errors,
        })
        .to_string()
    }

    pub(crate) fn as_table(&self) -> String {
        let offset = |offset: Option<u64>| offset.map_or("-".to_owned(), |offset| offset.to_string());
        let rows: Vec<Vec<String>> = self
            .partitions
            .iter()
            .map(|(name, partition)| {
                vec![
                    format!("{}/{}/{}", name.stream, name.topic, name.partition),
                    grouped(partition.messages),
                    grouped(partition.failed_batches),
                    offset(partition.first),
                    offset(partition.stored),
                ]
            })
            .collect();
        let sums = [
            ("messages", grouped(self.messages())),
            ("batches", grouped(self.sum(|partition| partition.batches))),
            ("failed batches", grouped(self.sum(|partition| partition.failed_batches))),
            ("time", format!("{:.3} s", self.time.as_secs_f64())),
            ("rate", report::messages_per_second(rate(self.messages(), self.time))),
        ];
        let mut lines = vec![report::table(&sums)];
        if !rows.is_empty() {
            let header = ["stream/topic/partition", "messages", "failed batches", "first", "stored"];
            lines.push(figures(&header, &rows));
        }
        lines.extend(self.partitions.iter().filter_map(|(name, partition)| {
            let (first, last) = partition.failing?;
            let [stream, topic] = [&name.stream, &name.topic].map(|name| shown(name, LONGEST_NAME));
            let partition = name.partition;
            Some(format!(
                "failing: stream {stream}, topic {topic}, partition {partition}, offsets {first} to {last}: they come again"
            ))
        }));
        lines.extend(self.errors.iter().map(|error| format!("error: {error}")));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_and_then_settles_is_good() {
        let names = Names { stream: "s".to_owned(), topic: "t".to_owned(), group: "g".to_owned() };
        let mut outcome = Outcome::default();
        outcome.failed(&names, 3, 5, 9);
        assert!(!outcome.good());
        assert!(outcome.as_table().contains("partition 3, offsets 5 to 9"), "{}", outcome.as_table());
        assert_eq!(outcome.settled(&names, 3, 5, 5), 5);
        outcome.stored(&names, 3, 9);
        assert_eq!(outcome.settled(&names, 0, 0, 1), 6);
        assert!(outcome.good());
        let json: Value = serde_json::from_str(&outcome.as_json()).unwrap();
        assert_eq!((&json["messages"], &json["failed_batches"]), (&6.into(), &1.into()));
        let second = &json["partitions"][1];
        assert_eq!((&second["first_offset"], &second["stored_offset"]), (&5.into(), &9.into()));
    }
}
