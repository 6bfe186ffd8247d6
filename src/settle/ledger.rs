//! Keeps account of every message of a batch until each has its outcome.

use std::fmt::Write;

use tracing::error;

use super::{Failure, Outcome, Reason};
use crate::batch::Batch;

/// How many ranges of offsets one line of the log names.
const RANGES_SHOWN: usize = 20;

/// The account of one batch. What nobody settled by its end counts as failed, so that no mistake of
/// a stage before can make a message vanish.
#[derive(Debug)]
pub(crate) struct Ledger {
    settled: Vec<bool>,
    delivered: usize,
    failures: Vec<(Vec<usize>, Failure)>,
}

/// The sums of a batch, all of whose messages are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) delivered: usize,
    pub(crate) failed: usize,
}

impl Ledger {
    pub(crate) fn of(batch: &Batch<'_>) -> Self {
        Self { settled: vec![false; batch.messages.len()], delivered: 0, failures: Vec::new() }
    }

    /// Writes down the outcome of messages, given as indexes into the batch.
    pub(crate) fn settle(&mut self, messages: Vec<usize>, outcome: Outcome) {
        for &message in &messages {
            self.settled[message] = true;
        }
        match outcome {
            Outcome::Delivered => self.delivered += messages.len(),
            // Failures of the same kind next to each other read as one.
            Outcome::Failed(failure) => match self.failures.last_mut() {
                Some((others, last)) if *last == failure => others.extend(messages),
                _ => self.failures.push((messages, failure)),
            },
        }
    }

    /// Ends the account: every message that was not delivered is named in the log.
    pub(crate) fn close(mut self, batch: &Batch<'_>) -> Sums {
        let forgotten: Vec<usize> = self
            .settled
            .iter()
            .enumerate()
            .filter(|(_, settled)| !**settled)
            .map(|(message, _)| message)
            .collect();
        if !forgotten.is_empty() {
            let detail = "the sink stopped before it knew what became of them".to_owned();
            let failure = Failure { reason: Reason::Internal, status: None, detail, attempts: 0 };
            self.settle(forgotten, Outcome::Failed(failure));
        }
        let mut failed = 0;
        for (messages, failure) in &self.failures {
            failed += messages.len();
            error!(
                "{} message{} of stream {}, topic {}, partition {}, offsets {} failed: {failure}",
                messages.len(),
                if messages.len() == 1 { "" } else { "s" },
                batch.stream,
                batch.topic,
                batch.partition_id,
                offsets(messages.iter().map(|&message| batch.messages[message].offset)),
            );
        }
        Sums { delivered: self.delivered, failed }
    }
}

/// Offsets as ranges, such as `3-7, 9`.
fn offsets(offsets: impl Iterator<Item = u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(offset) => *end = offset,
            _ => ranges.push((offset, offset)),
        }
    }
    let mut text = String::new();
    for (index, (start, end)) in ranges.iter().enumerate() {
        if index == RANGES_SHOWN {
            let _ = write!(
                text,
                " and {} more ranges, the last {end_start}-{end_end}",
                ranges.len() - index,
                end_start = ranges[ranges.len() - 1].0,
                end_end = ranges[ranges.len() - 1].1
            );
            break;
        }
        let _ = match (index, start == end) {
            (0, true) => write!(text, "{start}"),
            (0, false) => write!(text, "{start}-{end}"),
            (_, true) => write!(text, ", {start}"),
            (_, false) => write!(text, ", {start}-{end}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_read_as_ranges() {
        assert_eq!(offsets([3, 4, 5, 9, 7, 8].into_iter()), "3-5, 9, 7-8");
        assert_eq!(offsets(std::iter::once(u64::MAX)), u64::MAX.to_string());
        assert_eq!(offsets((0..100).map(|n| n * 2)).matches(',').count(), RANGES_SHOWN);
    }
}
