//! The activity of an endpoint in the last minutes, for charts: sums by interval, in a ring.

use std::time::Duration;

use tokio::time::Instant;

/// The length of an interval, and how many are kept.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
const INTERVALS: usize = 60;

/// The sums of one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    /// Requests that ended.
    pub(crate) requests: u64,
    /// Those that failed.
    pub(crate) failures: u64,
    /// Messages that were delivered.
    pub(crate) messages: u64,
    /// The total time of all requests, and the longest.
    pub(crate) took: Duration,
    pub(crate) longest: Duration,
}

#[derive(Debug)]
pub(super) struct Recent {
    began: Instant,
    intervals: [Interval; INTERVALS],
    /// The number of the newest interval since `began`.
    newest: u64,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), intervals: [Interval::default(); INTERVALS], newest: 0 }
    }

    /// Returns the current interval.
    pub(super) fn now(&mut self) -> &mut Interval {
        self.go_on();
        let index = index(self.newest);
        &mut self.intervals[index]
    }

    /// The finished intervals, oldest first; fewer in the first minutes.
    pub(super) fn past(&mut self) -> Vec<Interval> {
        self.go_on();
        let first = self.newest.saturating_sub(INTERVALS as u64 - 1);
        (first..self.newest).map(|number| self.intervals[index(number)]).collect()
    }

    fn go_on(&mut self) {
        let number = self.began.elapsed().as_secs() / INTERVAL.as_secs();
        let passed = number.saturating_sub(self.newest).min(INTERVALS as u64);
        for number in number + 1 - passed..=number {
            self.intervals[index(number)] = Interval::default();
        }
        self.newest = number;
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number % INTERVALS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn intervals_pass_and_are_forgotten() {
        let mut recent = Recent::new();
        assert_eq!(recent.past(), []);
        recent.now().requests = 1;
        tokio::time::advance(INTERVAL).await;
        recent.now().requests = 2;
        tokio::time::advance(INTERVAL * 2).await;
        let requests: Vec<u64> = recent.past().iter().map(|interval| interval.requests).collect();
        assert_eq!(requests, [1, 2, 0]);
        tokio::time::advance(INTERVAL * 57).await;
        assert_eq!(recent.past().len(), INTERVALS - 1);
        assert_eq!(recent.past()[0].requests, 2);
        tokio::time::advance(INTERVAL * 1000).await;
        assert!(recent.past().iter().all(|interval| *interval == Interval::default()));
    }
}
