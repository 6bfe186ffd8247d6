//! The runs of records of one kind.

use std::collections::BTreeSet;

use crate::drain::unit::Kind;

/// How many runs are distinguished.
const RUNS: usize = 4096;

/// The runs of records of one kind, in the order of the lane. Only messages of one run are sent together: if records of
/// another kind were between them, they would be between them again after a restart, when what was sent together is read as
/// one.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// The first sequence of each run; that of the oldest runs is forgotten.
    begins: BTreeSet<u64>,
    kind: Option<Kind>,
}

impl Runs {
    pub(super) fn read(&mut self, sequence: u64, kind: Option<Kind>) {
        if kind.is_some() && self.kind == kind {
            return;
        }
        self.kind = kind;
        self.begins.insert(sequence);
        if self.begins.len() > RUNS {
            self.begins.pop_first();
        }
    }

    /// Whether two records are known to belong to one run.
    pub(super) fn are_together(&self, first: u64, next: u64) -> bool {
        let begin = |sequence: u64| self.begins.range(..=sequence).next_back();
        first == next || begin(first).is_some_and(|of_first| begin(next) == Some(of_first))
    }
}

#[cfg(test)]
mod tests {
    use iggy_connector_sdk::Schema;

    use super::*;

    #[test]
    fn runs_without_end_take_no_memory() {
        let mut runs = Runs::default();
        for sequence in 0..10_000 {
            runs.read(sequence * 2, Some((u32::from(sequence % 2 == 0), Schema::Json)));
        }
        assert_eq!(runs.begins.len(), RUNS);
        assert!(runs.are_together(19_998, 19_999) && !runs.are_together(19_997, 19_998));
        assert!(runs.are_together(3, 3) && !runs.are_together(2, 3), "they may be");
    }
}
