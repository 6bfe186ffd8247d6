//! Which letters are selected, and how many there are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Entry, LetterPosition};

/// Selects letters by their fields; by default all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only those with this reason.
    pub reason: Option<String>,
    /// Only those from this stream.
    pub stream: Option<String>,
    /// Only those from this topic.
    pub topic: Option<String>,
    /// Only those since this time, in the format of letters.
    pub since: Option<String>,
    /// Only those at these positions.
    pub positions: Vec<LetterPosition>,
}

/// Letters of one reason and topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub letters: u64,
    /// Those that were never replayed.
    pub waiting: u64,
    /// The time of the oldest.
    pub first: String,
    /// The time of the newest.
    pub last: String,
}

/// How many letters there are, by reason, stream and topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All that were added.
    pub letters: u64,
    /// Those of them that a replay delivered.
    pub replayed: u64,
    /// By reason, stream and topic; lines that cannot be read are under `(unreadable)`.
    pub by: BTreeMap<(String, String, String), Count>,
}

impl Selection {
    /// Whether a letter is selected.
    pub fn takes(&self, entry: &Entry) -> bool {
        let record = entry.record.as_ref().ok();
        let field = |wanted: &Option<String>, found: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == found)
        };
        (self.positions.is_empty() || self.positions.contains(&entry.position))
            && field(&self.reason, record.map(|record| &record.reason))
            && field(&self.stream, record.map(|record| &record.stream))
            && field(&self.topic, record.map(|record| &record.topic))
            && self.since.as_ref().is_none_or(|since| record.is_some_and(|record| record.time >= *since))
    }
}

impl Summary {
    /// [`by`](Self::by) as JSON: a list of objects with `reason`, `stream`, `topic` and the fields of [`Count`].
    pub fn by_as_json(&self) -> Value {
        let rows = self.by.iter().map(|((reason, stream, topic), count)| {
            json!({
                "reason": reason, "stream": stream, "topic": topic, "letters": count.letters,
                "waiting": count.waiting, "first": count.first, "last": count.last,
            })
        });
        rows.collect()
    }

    /// Counts a letter.
    pub fn add(&mut self, entry: &Entry) {
        let (key, time) = match &entry.record {
            Ok(record) => {
                ((record.reason.clone(), record.stream.clone(), record.topic.clone()), record.time.as_str())
            }
            Err(_) => (("(unreadable)".to_owned(), String::new(), String::new()), ""),
        };
        self.letters += 1;
        self.replayed += u64::from(entry.replayed);
        let count = self.by.entry(key).or_default();
        count.letters += 1;
        count.waiting += u64::from(!entry.replayed);
        if count.first.is_empty() || time < count.first.as_str() {
            time.clone_into(&mut count.first);
        }
        if time > count.last.as_str() {
            time.clone_into(&mut count.last);
        }
    }
}
