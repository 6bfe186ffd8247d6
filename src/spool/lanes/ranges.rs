//! A set of numbers, kept as ranges.

use std::collections::BTreeMap;

/// Messages of one batch, as ranges of indexes into it, first and last of each, ascending.
pub type MessageRanges = Vec<(u32, u32)>;

/// Messages of one body or of one settlement, by the sequence of their batch, ascending.
pub type LaneMessages = Vec<(u64, MessageRanges)>;

/// Numbers of which most lie side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::spool) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds `first..=last`.
    pub(in crate::spool) fn insert(&mut self, mut first: u64, mut last: u64) {
        if first > last {
            return;
        }
        // What touches the new range from below, and then all that begins inside of it.
        if let Some((&before, &end)) = self.0.range(..=first).next_back()
            && end >= first.saturating_sub(1)
        {
            first = before;
            last = last.max(end);
        }
        while let Some((&begin, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.0.remove(&begin);
        }
        self.0.insert(first, last);
    }

    /// Whether a number is in it.
    pub(in crate::spool) fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
    }

    /// How many numbers are in it.
    pub(in crate::spool) fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The ranges, first and last, ascending.
    pub(in crate::spool) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

impl Extend<(u64, u64)> for Ranges {
    fn extend<I: IntoIterator<Item = (u64, u64)>>(&mut self, ranges: I) {
        for (first, last) in ranges {
            self.insert(first, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_hold_what_a_set_holds() {
        let mut state = 7_u64;
        for _ in 0..200 {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for _ in 0..20 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let first = (state >> 33) % 60;
                let last = first + (state >> 50) % 8;
                ranges.insert(first, last);
                set.extend(first..=last);
                assert_eq!(ranges.count(), set.len() as u64);
                assert!((0..80).all(|number| ranges.contains(number) == set.contains(&number)));
                let all: Vec<_> = ranges.iter().collect();
                assert!(all.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{all:?}");
            }
        }
    }
}
