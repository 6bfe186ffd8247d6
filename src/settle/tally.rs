//! Names undelivered messages in the log, by outcome and cause: the first of a cause at once, later ones once a minute.
//!
//! [`Sums`] is the policy, without a clock. If the process is killed, messages of its last minute may stay unnamed.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use iggy_connector_sdk::{OffsetRanges, shown};
use tokio::{sync::Notify, time::Instant};
use tracing::{error, warn};

use crate::{
    batch::{Batch, LONGEST_NAME},
    failure::Failure,
};

/// How often messages of one cause are named together.
const EVERY: Duration = Duration::from_mins(1);
/// How many lines of a cause are logged at once, before it has not occurred for a minute.
const AT_ONCE: u32 = 3;
/// How many wordings of one reason and status are distinguished, if each message has its own error text.
const WORDINGS: usize = 3;
/// The maximum number of ranges in a line: with more, it does not wait for its minute.
const LONGEST: usize = 10_000;

/// What became of messages that were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// They are kept nowhere: somebody must act.
    Failed,
    /// Nothing is lost.
    DeadLettered,
}

/// Collects the undelivered messages of a connector for the log.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sums: Mutex<Sums>,
    /// Notified when something waits for its minute.
    waits: Notify,
}

/// What is known of each cause of the last minute.
#[derive(Debug, Default)]
struct Sums(Vec<Cause>);

#[derive(Debug)]
struct Cause {
    end: End,
    /// The failure that its next line quotes.
    failure: Failure,
    /// The words of the first, by which others are recognised as the same cause.
    words: String,
    /// When the last line was.
    logged: Instant,
    /// How many lines were logged at once.
    lines: u32,
    /// What was not named yet.
    partitions: Vec<PartitionOffsets>,
}

/// Failed messages of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PartitionOffsets {
    stream: String,
    topic: String,
    id: u32,
    offsets: OffsetRanges,
}

/// A line of the log.
#[derive(Debug)]
struct Line {
    end: End,
    partitions: Vec<PartitionOffsets>,
    failure: Failure,
    /// How long it was collected.
    over: Option<Duration>,
}

impl Tally {
    /// Records that messages of a batch, given as indexes into it, failed, and why.
    pub(crate) fn failed(&self, batch: &Batch<'_>, undelivered: &[(Vec<usize>, Failure)]) {
        self.add(End::Failed, batch, undelivered);
    }

    /// Records that messages of a batch are dead letters now.
    pub(super) fn dead_lettered(&self, batch: &Batch<'_>, kept: &[(Vec<usize>, Failure)]) {
        self.add(End::DeadLettered, batch, kept);
    }

    fn add(&self, end: End, batch: &Batch<'_>, undelivered: &[(Vec<usize>, Failure)]) {
        if undelivered.is_empty() {
            return;
        }
        let failed = undelivered.iter().map(|(messages, failure)| {
            let offsets = OffsetRanges::of(messages.iter().map(|&message| batch.messages[message].offset));
            let partition = PartitionOffsets {
                stream: shown(batch.stream, LONGEST_NAME).to_string(),
                topic: shown(batch.topic, LONGEST_NAME).to_string(),
                id: batch.partition_id,
                offsets,
            };
            (partition, failure)
        });
        let lines = self.lock().add(Instant::now(), end, failed);
        lines.iter().for_each(Line::log);
        self.waits.notify_one();
    }

    /// Names what waits whenever its minute is over.
    pub(crate) async fn watch(&self) {
        loop {
            let due = self.lock().due();
            let minute = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = minute => {}
                () = self.waits.notified() => {}
            }
            let lines = self.lock().minute(Instant::now());
            lines.iter().for_each(Line::log);
        }
    }

    /// Names all that waits.
    pub(crate) fn log_all(&self) {
        let lines = self.lock().all(Instant::now());
        lines.iter().for_each(Line::log);
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tally {
    /// A connector that ends without a close names its messages nevertheless.
    fn drop(&mut self) {
        self.log_all();
    }
}

impl Sums {
    /// Records what ended together; returns what is to be logged at once, a line for each cause.
    fn add<'f>(
        &mut self,
        now: Instant,
        end: End,
        failed: impl Iterator<Item = (PartitionOffsets, &'f Failure)>,
    ) -> Vec<Line> {
        // A cause that did not occur for a minute begins anew.
        self.0.retain(|cause| !cause.partitions.is_empty() || now < cause.logged + EVERY);
        for (partition, failure) in failed {
            let index = self.cause(now, end, failure);
            let cause = &mut self.0[index];
            if cause.partitions.is_empty() || cause.lines >= AT_ONCE {
                cause.failure.clone_from(failure);
            }
            cause.add(partition);
        }
        self.0.iter_mut().filter_map(|cause| cause.at_once(now)).collect()
    }

    /// When something is to be logged; `None` where nothing waits.
    fn due(&self) -> Option<Instant> {
        let waiting = self.0.iter().filter(|cause| !cause.partitions.is_empty());
        waiting.map(|cause| cause.logged + EVERY).min()
    }

    /// What has waited for its minute.
    fn minute(&mut self, now: Instant) -> Vec<Line> {
        let due = self.0.iter_mut().filter(|cause| cause.logged + EVERY <= now);
        due.filter_map(|cause| cause.line(now)).collect()
    }

    fn all(&mut self, now: Instant) -> Vec<Line> {
        self.0.iter_mut().filter_map(|cause| cause.line(now)).collect()
    }

    /// Returns the index of the cause that a failure belongs to: one with the same words except for numbers or, if there are
    /// many, the last.
    fn cause(&mut self, now: Instant, end: End, failure: &Failure) -> usize {
        let words = words(&failure.detail);
        let of_kind = self.0.iter().enumerate().filter(|(_, cause)| {
            (cause.end, cause.failure.reason, cause.failure.status) == (end, failure.reason, failure.status)
        });
        let known =
            of_kind.enumerate().find(|(number, (_, cause))| cause.words == words || number + 1 == WORDINGS);
        if let Some((_, (index, _))) = known {
            return index;
        }
        let failure = failure.clone();
        self.0.push(Cause { end, words, failure, logged: now, lines: 0, partitions: Vec::new() });
        self.0.len() - 1
    }
}

impl Cause {
    fn add(&mut self, partition: PartitionOffsets) {
        let of_partition = |other: &&mut PartitionOffsets| {
            (&other.stream, &other.topic, other.id) == (&partition.stream, &partition.topic, partition.id)
        };
        match self.partitions.iter_mut().find(of_partition) {
            Some(known) => known.offsets.append(partition.offsets),
            None => self.partitions.push(partition),
        }
    }

    /// Returns a line that does not wait for its minute.
    fn at_once(&mut self, now: Instant) -> Option<Line> {
        if self.lines < AT_ONCE {
            let line = self.line(now)?;
            self.lines += 1;
            return Some(Line { over: None, ..line });
        }
        let ranges: usize = self.partitions.iter().map(|partition| partition.offsets.len()).sum();
        if ranges < LONGEST { None } else { self.line(now) }
    }

    /// What was not named yet.
    fn line(&mut self, now: Instant) -> Option<Line> {
        if self.partitions.is_empty() {
            return None;
        }
        let over = now.saturating_duration_since(self.logged);
        self.logged = now;
        Some(Line {
            end: self.end,
            partitions: std::mem::take(&mut self.partitions),
            failure: self.failure.clone(),
            over: Some(over),
        })
    }
}

impl Line {
    fn log(&self) {
        match self.end {
            End::Failed => error!("{self}"),
            End::DeadLettered => warn!("{self}"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u64 = self.partitions.iter().map(|partition| partition.offsets.count()).sum();
        write!(f, "{count} message{} of ", if count == 1 { "" } else { "s" })?;
        for (index, PartitionOffsets { stream, topic, id, offsets }) in self.partitions.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}stream {stream}, topic {topic}, partition {id}, offsets {offsets}")?;
        }
        match self.end {
            End::Failed => f.write_str(" failed")?,
            End::DeadLettered => f.write_str(" moved to the dead letters")?,
        }
        if let Some(over) = self.over {
            write!(f, " in {} s, the last", over.as_secs().max(1))?;
        }
        write!(f, ": {}", self.failure)
    }
}

/// Removes the numbers from words: they differ even if the cause does not.
fn words(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Reason;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(detail: &str) -> Failure {
        Failure { reason: Reason::Rejected, status: Some(400), detail: detail.to_owned(), attempts: 1 }
    }

    fn partition(id: u32, offsets: std::ops::Range<u64>) -> PartitionOffsets {
        let offsets = OffsetRanges::of(offsets);
        PartitionOffsets { stream: "s".to_owned(), topic: "t".to_owned(), id, offsets }
    }

    /// One message at `offset` is added.
    fn add(sums: &mut Sums, now: Instant, offset: u64, detail: &str) -> Option<String> {
        let lines =
            sums.add(now, End::Failed, [(partition(1, offset..offset + 1), &failure(detail))].into_iter());
        lines.first().map(ToString::to_string)
    }

    #[test]
    fn ten_thousand_messages_of_one_cause_are_four_lines_and_each_is_named() {
        let (mut sums, start) = (Sums::default(), Instant::now());
        let lines: Vec<String> =
            (0..10_000).filter_map(|offset| add(&mut sums, start, offset, &format!("id {offset}"))).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(
            lines[2],
            "1 message of stream s, topic t, partition 1, offsets 2 failed: rejected, status 400 after 1 attempt: id 2"
        );
        assert_eq!(sums.due(), Some(start + EVERY));
        assert!(sums.minute(start + EVERY - SECOND).is_empty());
        let [sum] = &sums.minute(start + EVERY)[..] else { panic!("one line") };
        assert_eq!(
            sum.to_string(),
            "9997 messages of stream s, topic t, partition 1, offsets 3-9999 failed in 60 s, the last: rejected, status \
             400 after 1 attempt: id 9999"
        );
        assert!(sums.all(start + EVERY).is_empty() && sums.due().is_none());
    }

    #[test]
    fn a_cause_that_goes_on_is_one_line_a_minute() {
        let (mut sums, start) = (Sums::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..600 {
            let now = start + SECOND * second;
            lines.extend(sums.minute(now).iter().map(ToString::to_string));
            lines.extend(add(&mut sums, now, second.into(), "no"));
        }
        assert_eq!(lines.len(), 3 + 9, "{lines:?}");
        assert_eq!(sums.all(start + SECOND * 600).len(), 1);
    }

    #[test]
    fn a_cause_that_comes_again_later_is_told_at_once() {
        let (mut sums, start) = (Sums::default(), Instant::now());
        for minute in 0..10 {
            assert!(add(&mut sums, start + EVERY * minute, minute.into(), "no").is_some());
        }
        assert_eq!(sums.0.len(), 1, "the others are forgotten");
    }

    #[test]
    fn partitions_share_a_line_and_causes_do_not() {
        let (mut sums, now) = (Sums::default(), Instant::now());
        for offset in 0..3 {
            assert!(add(&mut sums, now, offset, "no").is_some());
        }
        for id in [1, 2, 1] {
            let offsets = u64::from(id) * 10..12 + u64::from(id) * 10;
            let failed = [(partition(id, offsets), &failure("no"))];
            assert!(sums.add(now, End::Failed, failed.into_iter()).is_empty());
        }
        assert_eq!(
            sums.add(now, End::DeadLettered, [(partition(1, 0..1), &failure("no"))].into_iter()).len(),
            1
        );
        assert!(add(&mut sums, now, 99, "never").is_some());
        let lines: Vec<String> = sums.all(now).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "36 messages of stream s, topic t, partition 1, offsets 10-21, 10-21; stream s, topic t, partition 2, offsets 20-31 \
              failed in 1 s, the last: rejected, status 400 after 1 attempt: no"
            ]
        );
    }

    #[test]
    fn errors_that_are_all_different_are_summed_too() {
        let (mut sums, now) = (Sums::default(), Instant::now());
        let words =
            |n: u32| n.to_string().chars().map(|digit| char::from(digit as u8 + 49)).collect::<String>();
        let lines = (0..1000).filter_map(|n| add(&mut sums, now, n.into(), &words(n))).count();
        assert_eq!(lines, WORDINGS - 1 + AT_ONCE as usize);
        assert_eq!((sums.0.len(), sums.all(now).len()), (WORDINGS, 1));
    }

    #[test]
    fn what_ends_together_is_a_line_for_each_cause() {
        let mut sums = Sums::default();
        let failures = ["bad 1", "bad 2", "worse"].map(failure);
        let failed =
            failures.iter().zip(0..).map(|(failure, offset)| (partition(1, offset..offset + 1), failure));
        let lines = sums.add(Instant::now(), End::Failed, failed);
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("offsets 0-1 failed: ") && lines[0].ends_with(": bad 1"), "{lines:?}");
    }

    #[test]
    fn a_line_with_many_ranges_does_not_wait() {
        let (mut sums, now) = (Sums::default(), Instant::now());
        let odd = (0..).map(|n| 2 * n + 1).take(LONGEST + 3);
        let lines: Vec<String> = odd.filter_map(|offset| add(&mut sums, now, offset, "no")).collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[3].starts_with("10000 messages "));
    }
}
