//! Offsets in a log line.

use std::fmt;

/// Displays offsets as ranges, in the order they were given: `3-5, 9`. All of them, so that searching for a message finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRanges(Vec<(u64, u64)>);

impl OffsetRanges {
    /// The ranges of these offsets.
    pub fn of(offsets: impl IntoIterator<Item = u64>) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for offset in offsets {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(offset) => *last = offset,
                _ => ranges.push((offset, offset)),
            }
        }
        Self(ranges)
    }
}

impl OffsetRanges {
    /// Appends others to these.
    pub fn append(&mut self, others: Self) {
        for (first, end) in others.0 {
            match self.0.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(first) => *last = end,
                _ => self.0.push((first, end)),
            }
        }
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many offsets they hold.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }
}

impl fmt::Display for OffsetRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_as_ranges() {
        let shown = |offsets: &[u64]| OffsetRanges::of(offsets.iter().copied()).to_string();
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[7]), "7");
        assert_eq!(shown(&[3, 4, 5, 9, 11, 12]), "3-5, 9, 11-12");
        assert_eq!(shown(&[u64::MAX, 0]), format!("{}, 0", u64::MAX));
        let mut ranges = OffsetRanges::of([1, 2]);
        ranges.append(OffsetRanges::of([3, 7, 8]));
        assert_eq!((ranges.to_string().as_str(), ranges.len(), ranges.count()), ("1-3, 7-8", 2, 5));
        let odd: Vec<u64> = (0..1000).map(|n| 2 * n + 1).collect();
        assert_eq!(shown(&odd).split(", ").count(), 1000);
    }
}
