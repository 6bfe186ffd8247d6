//! The result of a run, for people and for programs.

use std::{collections::BTreeSet, time::Duration};

use iggy_connector_sdk::shown;
use serde::Serialize;
use serde_json::json;

use super::selection::Selection;
use crate::{
    host::{FailedRange, Failures, State},
    terminal::report::{self, grouped, rate},
};

/// What consume returns when an interrupt closed the connector just before.
const CLOSED: i32 = -1;
/// How many ranges are kept, and how many of them a table shows.
const KEPT: usize = 10_000;
const SHOWN: usize = 10;
/// The maximum length of a reason, in bytes.
const LONGEST_REASON: usize = 300;

/// The reasons of messages that a close interrupted: nobody refused them.
const OF_CLOSE: [&str; 4] = ["closed", "deadline_exceeded", "circuit_open", "internal"];

/// Lines in a row that failed for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failed {
    pub(crate) first_line: u64,
    pub(crate) last_line: u64,
    pub(crate) reason: String,
    pub(crate) why: String,
}

/// A batch, and what is known about its result.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    /// The numbers of its lines.
    pub(crate) lines: &'a [u64],
    /// What consume returned.
    pub(crate) code: i32,
    /// `None` if the plugin does not report.
    pub(crate) failures: Option<Failures>,
    /// Whether the connector was being closed.
    pub(crate) closing: bool,
}

/// The count of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The number of messages passed to the plugin.
    pub(crate) messages: u64,
    pub(crate) empty_lines: u64,
    pub(crate) batches: u64,
    pub(crate) failed_batches: u64,
    /// The plugin's counts; `None` if it does not report.
    pub(crate) state: Option<State>,
    pub(crate) failed_lines: Vec<Failed>,
    /// How many failed lines are not included.
    pub(super) left_out: u64,
    /// Lines that were in flight when the connector was closed, or whose batch failed as a whole.
    pub(super) unsettled: BTreeSet<u64>,
    /// How many of them the plugin counts as failed.
    pub(super) cut_off: u64,
    pub(crate) time: Duration,
    /// What was not read.
    pub(crate) rest: Option<Selection>,
    /// The command that continues, if something is left to do.
    pub(crate) resume: Option<String>,
    /// Whether nothing was left out, except because of `--limit`.
    pub(crate) complete: bool,
    pub(crate) input_id: String,
    pub(crate) errors: Vec<String>,
}

impl Outcome {
    /// Adds a batch. Returns false if nothing of it got through, so that it is useless to continue.
    pub(crate) fn add(&mut self, batch: Batch<'_>) -> bool {
        let count = batch.lines.len() as u64;
        if batch.closing && batch.code == CLOSED {
            self.unsettled.extend(batch.lines);
            return false;
        }
        self.messages += count;
        self.batches += 1;
        if batch.code == 0 {
            return true;
        }
        self.failed_batches += 1;
        let known = batch.failures.filter(|failures| failures.left_out == 0);
        let Some(failures) = known.filter(|failures| !failures.ranges.is_empty()) else {
            // It is not known which messages failed, so all count as failed.
            self.unsettled.extend(batch.lines);
            let (first, last) = (batch.lines.first(), batch.lines.last());
            if let (Some(&first_line), Some(&last_line), false) = (first, last, batch.closing) {
                let why = format!("consume returned {}", batch.code);
                self.fail(Failed { first_line, last_line, reason: "unknown".to_owned(), why });
            }
            return false;
        };
        let (cut_off, failed): (Vec<_>, Vec<_>) = failures
            .ranges
            .into_iter()
            .partition(|range| batch.closing && OF_CLOSE.contains(&range.reason.as_str()));
        let in_batch = |ranges: &[FailedRange]| {
            let ranges = ranges.iter().map(|range| line_of(range.first_offset)..=line_of(range.last_offset));
            let lines = ranges.flatten().filter(|line| batch.lines.binary_search(line).is_ok());
            lines.collect::<BTreeSet<u64>>()
        };
        let (mut cut, lost) = (in_batch(&cut_off), in_batch(&failed));
        self.cut_off += cut.len() as u64;
        self.unsettled.append(&mut cut);
        for range in failed {
            self.fail_range(range);
        }
        if lost.len() as u64 == count {
            self.unsettled.extend(lost);
            return false;
        }
        true
    }

    /// Adds failures of messages that were stored before.
    pub(crate) fn add_failures(&mut self, failures: Failures) {
        self.left_out += failures.left_out;
        for range in failures.ranges {
            self.fail_range(range);
        }
    }

    fn fail_range(&mut self, range: FailedRange) {
        let (first_line, last_line) = (line_of(range.first_offset), line_of(range.last_offset));
        self.fail(Failed { first_line, last_line, reason: range.reason, why: range.why });
    }

    fn fail(&mut self, failed: Failed) {
        let has_room = self.failed_lines.len() < KEPT;
        match self.failed_lines.last_mut() {
            Some(last)
                if last.last_line + 1 == failed.first_line
                    && (&last.reason, &last.why) == (&failed.reason, &failed.why) =>
            {
                last.last_line = failed.last_line;
            }
            _ if has_room => self.failed_lines.push(failed),
            _ => self.left_out += failed.last_line - failed.first_line + 1,
        }
    }

    /// Does not send a batch again that failed as a whole: the run continues after it.
    pub(crate) fn goes_on(&mut self) {
        self.unsettled.clear();
    }

    /// The lines to continue with.
    pub(crate) fn left(&self) -> Option<Selection> {
        Selection::of(self.unsettled.iter().copied(), self.rest.clone())
    }

    /// Whether no line has to be sent again.
    pub(crate) fn all_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// How many messages need no other run.
    pub(crate) fn settled(&self) -> u64 {
        self.messages.saturating_sub(self.unsettled.len() as u64)
    }

    /// The failed lines that the next run does not send already.
    pub(crate) fn to_repeat(&self) -> Option<Selection> {
        let lines: BTreeSet<u64> = self
            .failed_lines
            .iter()
            .flat_map(|failed| failed.first_line..=failed.last_line)
            .filter(|line| !self.unsettled.contains(line))
            .collect();
        Selection::of(lines, None).filter(|_| self.left_out == 0)
    }

    fn failed(&self) -> u64 {
        let listed = self.failed_lines.iter().map(|failed| failed.last_line - failed.first_line + 1).sum();
        self.state.as_ref().map_or(listed, |state| state.failed.saturating_sub(self.cut_off))
    }

    /// How many messages got through: those that the plugin reports as delivered, or accepted.
    fn through(&self) -> u64 {
        self.state.as_ref().map_or(self.messages - self.failed().min(self.messages), |state| state.delivered)
    }

    /// Whether all of the input was settled well.
    pub(crate) fn good(&self) -> bool {
        self.failed() == 0 && self.failed_batches == 0 && self.complete && self.errors.is_empty()
    }

    pub(crate) fn as_json(&self) -> String {
        let state = self.state.as_ref();
        json!({
            "messages": self.messages,
            "delivered": state.map(|state| state.delivered),
            "dead_lettered": state.map(|state| state.dead_lettered),
            "failed": self.failed(),
            "cut_off": self.unsettled.len(),
            "in_spool": state.and_then(|state| state.spool.as_ref()).map(|spool| spool.messages),
            "failed_lines": self.failed_lines,
            "requests": state.map(|state| state.requests),
            "retries": state.map(|state| state.retries),
            "empty_lines": self.empty_lines,
            "batches": self.batches,
            "failed_batches": self.failed_batches,
            "seconds": self.time.as_secs_f64(),
            "messages_per_second": rate(self.through(), self.time),
            "complete": self.complete,
            "resume_at_line": self.left().map(|left| left.first()),
            "resume": self.resume,
            "input_id": self.input_id,
            "errors": self.errors,
        })
        .to_string()
    }

    pub(crate) fn as_table(&self) -> String {
        let mut rows = vec![("messages", grouped(self.messages))];
        if self.empty_lines > 0 {
            rows.push(("empty lines skipped", grouped(self.empty_lines)));
        }
        if let Some(state) = &self.state {
            rows.push(("delivered", grouped(state.delivered)));
            rows.push(("dead-lettered", grouped(state.dead_lettered)));
        }
        rows.push(("failed", grouped(self.failed())));
        if !self.unsettled.is_empty() {
            rows.push(("to be sent again", grouped(self.unsettled.len() as u64)));
        }
        if let Some(state) = &self.state {
            if let Some(spool) = &state.spool {
                rows.push(("left in the spool", grouped(spool.messages)));
            }
            rows.push(("requests", grouped(state.requests)));
            rows.push(("retries", grouped(state.retries)));
        }
        rows.push(("time", format!("{:.3} s", self.time.as_secs_f64())));
        rows.push(("rate", report::messages_per_second(rate(self.through(), self.time))));
        let mut lines = vec![report::table(&rows)];
        lines.extend(self.failed_lines.iter().take(SHOWN).map(|failed| {
            let Failed { first_line, last_line, why, .. } = failed;
            let which = if first_line == last_line {
                format!("line {first_line}")
            } else {
                format!("lines {first_line} to {last_line}")
            };
            format!("failed: {which}: {}", shown(why, LONGEST_REASON))
        }));
        if self.failed_lines.len() > SHOWN || self.left_out > 0 {
            lines.push("failed: more, all of them in the log".to_owned());
        }
        lines.extend(self.errors.iter().map(|error| format!("error: {error}")));
        lines.join("\n")
    }
}

/// The line of a message: its offset counts from 0.
fn line_of(offset: u64) -> u64 {
    offset.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first_offset: u64, last_offset: u64, reason: &str) -> FailedRange {
        FailedRange { first_offset, last_offset, reason: reason.to_owned(), why: reason.to_owned() }
    }

    fn add(outcome: &mut Outcome, lines: &[u64], code: i32, closing: bool, ranges: Vec<FailedRange>) -> bool {
        outcome.add(Batch { lines, code, closing, failures: Some(Failures { ranges, left_out: 0 }) })
    }

    #[test]
    fn lines_that_a_close_cut_off_are_gone_on_with() {
        let mut outcome = Outcome { rest: Some(Selection::from_line(11)), ..Outcome::default() };
        let lines: Vec<u64> = (1..=10).collect();
        let failures = vec![range(1, 1, "rejected"), range(4, 4, "closed"), range(7, 9, "closed")];
        assert!(add(&mut outcome, &lines, 1, true, failures));
        assert_eq!(outcome.left().unwrap().to_string(), "5,8-");
        assert_eq!(outcome.to_repeat().unwrap().to_string(), "2");
        assert_eq!((outcome.failed_lines[0].first_line, outcome.failed()), (2, 1));
        assert!(!add(&mut outcome, &[11, 12], -1, true, Vec::new()));
        outcome.rest = Some(Selection::from_line(13));
        assert_eq!(outcome.left().unwrap().to_string(), "5,8-");
    }

    #[test]
    fn a_batch_that_fails_as_a_whole_stops_and_is_gone_on_with() {
        let mut outcome = Outcome { rest: Some(Selection::from_line(5)), ..Outcome::default() };
        assert!(add(&mut outcome, &[1, 2], 1, false, vec![range(0, 0, "rejected")]));
        assert!(!add(&mut outcome, &[3, 4], 1, false, vec![range(2, 3, "rejected")]));
        assert_eq!(outcome.left().unwrap().to_string(), "3-");
        assert_eq!(outcome.to_repeat().unwrap().to_string(), "1");
        assert!(outcome.as_table().contains("failed: lines 3 to 4: rejected"), "{}", outcome.as_table());
        outcome.goes_on();
        assert_eq!(outcome.left().unwrap().to_string(), "5-");
        assert_eq!(outcome.to_repeat().unwrap().to_string(), "1,3-4");
    }

    #[test]
    fn of_a_plugin_that_tells_nothing_the_batch_counts() {
        let mut outcome = Outcome::default();
        assert!(!outcome.add(Batch { lines: &[3, 5], code: 1, failures: None, closing: false }));
        assert_eq!((outcome.failed_lines[0].first_line, outcome.failed_lines[0].last_line), (3, 5));
        assert_eq!(outcome.left().unwrap().to_string(), "3,5");
    }
}
