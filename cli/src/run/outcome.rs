//! What a run came to, for people and for programs.

use std::{ops::RangeInclusive, time::Duration};

use serde::Serialize;
use serde_json::json;

use crate::report::{self, grouped, rate};

/// How many ranges are kept, and how many of them a table shows.
const KEPT: usize = 1000;
const SHOWN: usize = 10;

/// Batches in a row that ended alike, all of them badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failed {
    pub(crate) first_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) first_line: u64,
    pub(crate) last_line: u64,
    /// What consume returned.
    pub(crate) code: i32,
}

/// The count of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) messages: u64,
    pub(crate) empty_lines: u64,
    pub(crate) batches: u64,
    pub(crate) failed_batches: u64,
    pub(crate) failed: Vec<Failed>,
    pub(crate) time: Duration,
    /// Where to go on, if the input was not read to its end.
    pub(crate) resume_at: Option<u64>,
    pub(crate) errors: Vec<String>,
}

impl Outcome {
    /// Takes down a batch of `messages` from these lines, for which consume returned `code`.
    pub(crate) fn add(&mut self, lines: RangeInclusive<u64>, messages: u64, code: i32) {
        let first = self.messages;
        self.messages += messages;
        self.batches += 1;
        if code == 0 {
            return;
        }
        self.failed_batches += 1;
        let last_offset = self.messages.saturating_sub(1);
        if let Some(failed) = self.failed.last_mut()
            && (failed.last_offset + 1, failed.code) == (first, code)
        {
            failed.last_offset = last_offset;
            failed.last_line = *lines.end();
        } else if self.failed.len() < KEPT {
            let (first_line, last_line) = lines.into_inner();
            self.failed.push(Failed { first_offset: first, last_offset, first_line, last_line, code });
        }
    }

    /// Whether all of the input was settled well.
    pub(crate) fn good(&self) -> bool {
        self.failed_batches == 0 && self.resume_at.is_none() && self.errors.is_empty()
    }

    pub(crate) fn as_json(&self) -> String {
        json!({
            "messages": self.messages,
            "empty_lines": self.empty_lines,
            "batches": self.batches,
            "failed_batches": self.failed_batches,
            "failed": self.failed,
            "seconds": self.time.as_secs_f64(),
            "messages_per_second": rate(self.messages, self.time),
            "complete": self.resume_at.is_none(),
            "resume_at_line": self.resume_at,
            "errors": self.errors,
        })
        .to_string()
    }

    pub(crate) fn as_table(&self) -> String {
        let mut rows = vec![
            ("messages", grouped(self.messages)),
            ("batches", grouped(self.batches)),
            ("failed batches", grouped(self.failed_batches)),
            ("time", format!("{:.3} s", self.time.as_secs_f64())),
            ("rate", format!("{:.0} messages/s", rate(self.messages, self.time))),
        ];
        if self.empty_lines > 0 {
            rows.insert(1, ("empty lines skipped", grouped(self.empty_lines)));
        }
        if let Some(line) = self.resume_at {
            rows.push(("resume at line", line.to_string()));
        }
        let mut lines = vec![report::table(&rows)];
        lines.extend(self.failed.iter().take(SHOWN).map(|failed| {
            let Failed { first_offset, last_offset, first_line, last_line, code } = failed;
            format!(
                "failed: offsets {first_offset} to {last_offset}, lines {first_line} to {last_line} (consume returned {code})"
            )
        }));
        if self.failed.len() > SHOWN {
            lines.push("failed: more, all of them in the log".to_owned());
        }
        lines.extend(self.errors.iter().map(|error| format!("error: {error}")));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_batches_in_a_row_are_one_range() {
        let mut outcome = Outcome::default();
        for (lines, messages, code) in [
            (1..=10, 10, 0),
            (11..=20, 9, 1),
            (21..=30, 10, 1),
            (31..=40, 10, -1),
            (41..=50, 10, 0),
            (51..=52, 2, -1),
        ] {
            outcome.add(lines, messages, code);
        }
        let ranges: Vec<_> = outcome
            .failed
            .iter()
            .map(|failed| (failed.first_offset, failed.last_offset, failed.first_line, failed.last_line))
            .collect();
        assert_eq!(ranges, [(10, 28, 11, 30), (29, 38, 31, 40), (49, 50, 51, 52)]);
        assert_eq!((outcome.batches, outcome.failed_batches, outcome.messages), (6, 4, 51));
        assert!(!outcome.good());
        assert!(outcome.as_table().contains("offsets 10 to 28, lines 11 to 30 (consume returned 1)"));
    }

    #[test]
    fn an_outcome_is_good_only_at_the_end_of_the_input() {
        let mut outcome = Outcome::default();
        outcome.add(1..=1, 1, 0);
        assert!(outcome.good());
        outcome.resume_at = Some(2);
        assert!(!outcome.good() && outcome.as_table().contains("resume at line"));
    }
}
