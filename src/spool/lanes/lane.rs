//! The unsettled records of each lane. Nothing is kept per record, only per run of records.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::ranges::{LaneMessages, Ranges};

/// The unsettled records of a lane.
#[derive(Debug)]
pub(in crate::spool) struct Lane {
    /// The sequence of the next record. No sequence is ever used twice, not even that of a record whose
    /// write failed: its bytes may still be somewhere.
    pub(in crate::spool) next: u64,
    /// Runs of unsettled records, by the first sequence of each.
    runs: BTreeMap<u64, Run>,
    /// The settled messages of records that are not settled as a whole.
    pub(in crate::spool) partly: BTreeMap<u64, Ranges>,
    /// The bodies that messages of unsettled records were sent in, by each of these records.
    pub(in crate::spool) bodies: BTreeMap<u64, Vec<Arc<LaneMessages>>>,
    /// The last offset that was stored in this lane; `None` once one of its partition was stored elsewhere.
    pub(in crate::spool) last: Option<u64>,
    /// The last offset that is certain to be of this partition, in whichever lane.
    pub(in crate::spool) sure: Option<u64>,
    /// The greatest offset stored since then that may be of this partition or not.
    pub(in crate::spool) unsure: Option<u64>,
    /// The records that were handed out, or are partly settled.
    pub(in crate::spool) known: HashMap<u64, Known>,
    /// Whether something was stored since the spool was opened.
    pub(in crate::spool) fed: bool,
    /// The last segment that may mention it.
    pub(in crate::spool) told_in: u64,
    /// How many messages are unsettled.
    pub(in crate::spool) messages: u64,
    /// The bytes of the unsettled records.
    pub(in crate::spool) bytes: u64,
}

/// Records with sequences that follow each other, all in one segment in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct Run {
    pub(in crate::spool) last: u64,
    pub(in crate::spool) segment: u64,
    /// The position of the first, or one before it.
    pub(in crate::spool) position: u64,
}

/// What is known of a record since it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct Known {
    pub(in crate::spool) segment: u64,
    /// Where it ends.
    pub(in crate::spool) end: u64,
    pub(in crate::spool) length: u64,
    pub(in crate::spool) messages: u32,
    /// When consume accepted it, by the clock of the spool; `None` if it was not read since the spool was opened.
    pub(in crate::spool) came: Option<u64>,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            next: 1,
            runs: BTreeMap::new(),
            partly: BTreeMap::new(),
            bodies: BTreeMap::new(),
            last: None,
            sure: None,
            unsure: None,
            known: HashMap::new(),
            fed: false,
            told_in: 0,
            messages: 0,
            bytes: 0,
        }
    }
}

impl Lane {
    /// Returns the first unsettled record after `after`: its sequence, its segment, and a position at or before it.
    pub(in crate::spool) fn first_after(&self, after: u64) -> Option<(u64, Run)> {
        let wanted = after.saturating_add(1);
        match self.runs.range(..=wanted).next_back() {
            Some((_, run)) if run.last >= wanted => Some((wanted, *run)),
            _ => self.runs.range(wanted..).next().map(|(first, run)| (*first, *run)),
        }
    }

    /// The sequence of the first unsettled record.
    pub(in crate::spool) fn head(&self) -> Option<u64> {
        self.runs.first_key_value().map(|(first, _)| *first)
    }

    /// The run of an unsettled record.
    pub(in crate::spool) fn run(&self, sequence: u64) -> Option<Run> {
        self.runs.range(..=sequence).next_back().map(|(_, run)| *run).filter(|run| run.last >= sequence)
    }

    /// When consume accepted the first unsettled record, by the clock of the spool, if that is known.
    pub(in crate::spool) fn oldest(&self) -> Option<u64> {
        self.known.get(&self.head()?)?.came
    }

    /// Whether nothing is unsettled.
    pub(in crate::spool) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds an unsettled record.
    pub(in crate::spool) fn insert(&mut self, sequence: u64, segment: u64, position: u64) {
        self.next = self.next.max(sequence + 1);
        if let Some((_, run)) = self.runs.range_mut(..sequence).next_back()
            && run.last + 1 == sequence
            && run.segment == segment
        {
            run.last = sequence;
        } else {
            self.runs.insert(sequence, Run { last: sequence, segment, position });
        }
    }

    /// Removes a record. Returns the segment that it was in; `None` if it was settled before.
    pub(in crate::spool) fn remove(&mut self, sequence: u64) -> Option<u64> {
        let (&first, &run) = self.runs.range(..=sequence).next_back()?;
        if run.last < sequence {
            return None;
        }
        let behind = self.known.get(&sequence).filter(|known| known.segment == run.segment);
        let position = behind.map_or(run.position, |known| known.end);
        self.runs.remove(&first);
        if first < sequence {
            self.runs.insert(first, Run { last: sequence - 1, ..run });
        }
        if sequence < run.last {
            self.runs.insert(sequence + 1, Run { position, ..run });
        }
        self.partly.remove(&sequence);
        self.bodies.remove(&sequence);
        self.known.remove(&sequence);
        Some(run.segment)
    }

    /// Records the new position of a record.
    pub(in crate::spool) fn relocate(&mut self, sequence: u64, known: &Known) {
        let (partly, read) = (self.partly.remove(&sequence), self.known.get(&sequence).copied());
        let bodies = self.bodies.remove(&sequence);
        self.remove(sequence);
        self.insert(sequence, known.segment, known.end - known.length);
        if let Some(partly) = partly {
            self.partly.insert(sequence, partly);
        }
        if let Some(bodies) = bodies {
            self.bodies.insert(sequence, bodies);
        }
        if let Some(Known { came, .. }) = read {
            self.known.insert(sequence, Known { came, ..*known });
        }
    }

    /// Removes the unsettled records of a segment, which are lost.
    pub(in crate::spool) fn lose(&mut self, segment: u64) {
        let lost: Vec<u64> =
            self.runs.iter().filter(|(_, run)| run.segment == segment).map(|(first, _)| *first).collect();
        for first in lost {
            let Some(run) = self.runs.remove(&first) else { continue };
            self.partly.retain(|sequence, _| !(first..=run.last).contains(sequence));
            self.bodies.retain(|sequence, _| !(first..=run.last).contains(sequence));
            self.known.retain(|sequence, _| !(first..=run.last).contains(sequence));
        }
        if self.runs.is_empty() {
            (self.messages, self.bytes) = (0, 0);
        }
    }

    /// Records that messages are sent together, whatever they were sent with before. Nothing is recorded for settled records.
    pub(in crate::spool) fn sent_together(&mut self, bodies: &[Arc<LaneMessages>]) {
        for body in bodies {
            for (sequence, ranges) in &**body {
                let touched: Vec<Arc<LaneMessages>> = self
                    .bodies_of(*sequence)
                    .filter(|before| touch(before, *sequence, ranges))
                    .cloned()
                    .collect();
                for before in &touched {
                    self.forget(before);
                }
            }
        }
        for body in bodies {
            for (sequence, _) in &**body {
                self.bodies.entry(*sequence).or_default().push(body.clone());
            }
        }
    }

    fn bodies_of(&self, sequence: u64) -> impl Iterator<Item = &Arc<LaneMessages>> {
        self.bodies.get(&sequence).into_iter().flatten()
    }

    fn forget(&mut self, body: &Arc<LaneMessages>) {
        for (sequence, _) in &**body {
            if let Some(bodies) = self.bodies.get_mut(sequence) {
                bodies.retain(|other| !Arc::ptr_eq(other, body));
            }
        }
    }

    /// Drops bodies of records that are settled.
    pub(in crate::spool) fn forget_settled_bodies(&mut self) {
        let settled: Vec<u64> =
            self.bodies.keys().copied().filter(|sequence| self.run(*sequence).is_none()).collect();
        for sequence in settled {
            self.bodies.remove(&sequence);
        }
    }

    /// Each body once.
    pub(in crate::spool) fn all_bodies(&self) -> impl Iterator<Item = &LaneMessages> {
        // It is returned at the first of its records that is still there.
        let first = |sequence: u64, body: &LaneMessages| {
            body.iter().map(|(of, _)| *of).find(|of| self.bodies.contains_key(of)) == Some(sequence)
        };
        let each =
            self.bodies.iter().flat_map(|(sequence, bodies)| bodies.iter().map(|body| (*sequence, &**body)));
        each.filter(move |(sequence, body)| first(*sequence, body)).map(|(_, body)| body)
    }

    /// The unsettled sequences, first and last of each range.
    pub(in crate::spool) fn unsettled(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(first, run)| (*first, run.last))
    }

    /// How many runs there are.
    pub(in crate::spool) fn runs(&self) -> usize {
        self.runs.len()
    }
}

/// Whether a body holds one of these messages of a record.
fn touch(body: &LaneMessages, sequence: u64, ranges: &[(u32, u32)]) -> bool {
    let of_record = body.iter().filter(|(of, _)| *of == sequence).flat_map(|(_, ranges)| ranges);
    of_record.into_iter().any(|a| ranges.iter().any(|b| a.0 <= b.1 && b.0 <= a.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_split_and_found() {
        let mut lane = Lane::default();
        for sequence in 1..=10 {
            lane.insert(sequence, 1, sequence * 100);
        }
        for sequence in 11..=12 {
            lane.insert(sequence, 2, sequence * 100);
        }
        assert_eq!((lane.runs(), lane.next), (2, 13));
        lane.known.insert(5, Known { segment: 1, end: 600, length: 100, messages: 1, came: None });
        assert_eq!(lane.remove(5), Some(1));
        assert_eq!(lane.remove(5), None);
        assert_eq!(lane.first_after(0), Some((1, Run { last: 4, segment: 1, position: 100 })));
        assert_eq!(lane.first_after(4), Some((6, Run { last: 10, segment: 1, position: 600 })));
        assert_eq!(lane.first_after(10), Some((11, Run { last: 12, segment: 2, position: 1100 })));
        assert_eq!(lane.first_after(12), None);
        assert_eq!(lane.remove(1), Some(1));
        assert_eq!(lane.remove(12), Some(2));
        assert_eq!(lane.unsettled().collect::<Vec<_>>(), [(2, 4), (6, 10), (11, 11)]);
    }
}
