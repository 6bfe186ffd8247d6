//! Selects lines of an input.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// Lines counted from 1, as ranges in ascending order that do not touch. Written as `5,8-10,21-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection(Vec<RangeInclusive<u64>>);

impl Selection {
    /// Every line from this one on.
    pub(crate) fn from_line(line: u64) -> Self {
        Self(vec![line.max(1)..=u64::MAX])
    }

    /// The first line.
    pub(crate) fn first(&self) -> u64 {
        self.0.first().map_or(1, |range| *range.start())
    }

    /// Whether it is every line from the first one on.
    pub(crate) fn is_tail(&self) -> bool {
        matches!(&*self.0, [range] if *range.end() == u64::MAX)
    }

    /// The part that is at or after `line`; `None` if there is none.
    pub(crate) fn since(&self, line: u64) -> Option<Self> {
        let rest: Vec<_> = self
            .0
            .iter()
            .filter(|range| *range.end() >= line)
            .map(|range| *range.start().max(&line)..=*range.end())
            .collect();
        (!rest.is_empty()).then_some(Self(rest))
    }

    /// Creates a selection of these lines, in ascending order, and of `rest`, which is after them; `None` if it would be
    /// empty.
    pub(crate) fn of(lines: impl IntoIterator<Item = u64>, rest: Option<Self>) -> Option<Self> {
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        let lines = lines.into_iter().map(|line| line..=line);
        for range in lines.chain(rest.into_iter().flat_map(|rest| rest.0)) {
            match ranges.last_mut() {
                Some(last) if last.end().saturating_add(1) >= *range.start() => {
                    *last = *last.start()..=*range.end().max(last.end());
                }
                _ => ranges.push(range),
            }
        }
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// Returns a cursor that tells whether a line is selected, for ascending lines.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { ranges: self.0.clone(), next: 0 }
    }
}

/// Follows a reader of lines.
#[derive(Debug)]
pub(crate) struct Cursor {
    ranges: Vec<RangeInclusive<u64>>,
    next: usize,
}

impl Cursor {
    /// Whether this line is selected. Lines must be passed in ascending order.
    pub(crate) fn takes(&mut self, line: u64) -> bool {
        while self.ranges.get(self.next).is_some_and(|range| *range.end() < line) {
            self.next += 1;
        }
        self.ranges.get(self.next).is_some_and(|range| range.contains(&line))
    }

    /// Whether no line after this one is meant.
    pub(crate) fn ends_at(&self, line: u64) -> bool {
        self.ranges.last().is_none_or(|range| *range.end() <= line)
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::from_line(1)
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write lines counted from 1 in ascending order, such as 5,8-10,21-".to_owned();
        let number = |text: &str| text.trim().parse::<u64>().ok().filter(|line| *line > 0).ok_or_else(wrong);
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for part in text.split(',') {
            let (start, end) = match part.split_once('-') {
                None => (number(part)?, number(part)?),
                Some((start, end)) if end.trim().is_empty() => (number(start)?, u64::MAX),
                Some((start, end)) => (number(start)?, number(end)?),
            };
            if start > end || ranges.last().is_some_and(|last| *last.end() >= start) {
                return Err(wrong());
            }
            ranges.push(start..=end);
        }
        Ok(Self(ranges))
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (*range.start(), *range.end()) {
                (start, u64::MAX) => write!(f, "{comma}{start}-")?,
                (start, end) if start == end => write!(f, "{comma}{start}")?,
                (start, end) => write!(f, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_read_and_written() {
        for text in ["5", "5,8-10,21-", "1-", "2-3,5"] {
            assert_eq!(text.parse::<Selection>().unwrap().to_string(), text);
        }
        for text in ["", "0", "5-4", "5,5", "8-,9", "x", "1,,2", "-5"] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cursor_takes_what_is_meant() {
        let selection: Selection = "2,4-5,8-".parse().unwrap();
        let mut cursor = selection.cursor();
        let taken: Vec<u64> = (1..=10).filter(|line| cursor.takes(*line)).collect();
        assert_eq!(taken, [2, 4, 5, 8, 9, 10]);
        assert!(!cursor.ends_at(10) && "2,4".parse::<Selection>().unwrap().cursor().ends_at(4));
    }

    #[test]
    fn the_rest_is_told_in_few_words() {
        let all = Selection::default();
        assert_eq!(Selection::of([], all.since(11)).unwrap().to_string(), "11-");
        assert_eq!(Selection::of([8, 9, 10], all.since(11)).unwrap().to_string(), "8-");
        assert_eq!(Selection::of([3, 4, 7], all.since(11)).unwrap().to_string(), "3-4,7,11-");
        let some: Selection = "2-5,9".parse().unwrap();
        assert_eq!(Selection::of([], some.since(4)).unwrap().to_string(), "4-5,9");
        assert_eq!(Selection::of([], some.since(10)), None);
    }
}
