//! A set of numbers, kept as ranges.

/// Messages of one batch, as ranges of indexes into it, first and last of each, ascending.
pub type MessageRanges = Vec<(u32, u32)>;

/// Messages of one body or of one settlement, by the sequence of their batch, ascending.
pub type LaneMessages = Vec<(u64, MessageRanges)>;

/// A set of mostly adjacent numbers: the first and the last of each range, ascending. There is one for each partly settled
/// record, so its overhead matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::spool) struct Ranges(Vec<(u64, u64)>);

/// Room for fewer ranges is not worth giving back.
const FEW: usize = 4;

impl Ranges {
    /// Adds `first..=last`.
    pub(in crate::spool) fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // Ranges that overlap with it or touch it are merged with it.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(begin, _)| *begin <= last.saturating_add(1));
        if from == to {
            self.0.insert(from, (first, last));
            return;
        }
        self.0[from] = (self.0[from].0.min(first), self.0[to - 1].1.max(last));
        self.0.drain(from + 1..to);
        if self.0.capacity() > FEW.max(self.0.len() * 4) {
            self.0.shrink_to(FEW.max(self.0.len() * 2));
        }
    }

    /// Whether a number is in it.
    pub(in crate::spool) fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// How many numbers are in it.
    pub(in crate::spool) fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The ranges, first and last, ascending.
    pub(in crate::spool) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
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

    #[test]
    fn what_is_left_of_many_ranges_takes_the_room_of_few() {
        let mut ranges = Ranges::default();
        let scattered = (0..1000).step_by(2).chain((1..999).step_by(2).filter(|number| *number != 501));
        scattered.for_each(|number| ranges.insert(number, number));
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, 500), (502, 998)]);
        assert!(ranges.0.capacity() <= 8, "{}", ranges.0.capacity());
    }
}
