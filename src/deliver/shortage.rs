//! How many requests may be in flight while this machine is short of descriptors, threads, memory maps or ports.
//!
//! It is pure: from when something was missing, it computes how many requests may be in flight, and when to log.

use std::time::Duration;

use tokio::time::Instant;

/// The time without a shortage after which more requests are tried.
const RECOVERY: Duration = Duration::from_secs(5);
/// The limit grows by one, or by this fraction of itself.
const STEP: usize = 8;
/// How often a continuing shortage is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The waits after attempts that a shortage ended: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What was learned from requests for which this machine had no descriptor, thread, memory map or port.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    limit: Option<Limit>,
    logged: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    requests: usize,
    /// When something was missing last.
    lowered: Instant,
}

impl Shortage {
    /// Returns how many requests may be in flight now, at most `wanted`.
    pub(super) fn limit(&self, wanted: usize, now: Instant) -> usize {
        let Some(Limit { mut requests, lowered }) = self.limit else { return wanted };
        let mut quiet = now.saturating_duration_since(lowered);
        while quiet >= RECOVERY && requests < wanted {
            requests = requests.saturating_add(1 + requests / STEP);
            quiet -= RECOVERY;
        }
        requests.min(wanted)
    }

    /// Records that something was missing for one of `under_way` requests: from now on there may be one fewer. Returns
    /// whether that should be logged.
    pub(super) fn met(&mut self, under_way: usize, now: Instant) -> bool {
        let requests = under_way.saturating_sub(1).max(1).min(self.limit(usize::MAX, now));
        self.limit = Some(Limit { requests, lowered: now });
        let logs = self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_INTERVAL);
        if logs {
            self.logged = Some(now);
        }
        logs
    }
}

/// Returns the wait before the next attempt, given the number of attempts that a shortage ended: others will release what is
/// missing.
pub(super) fn wait(shortages: u32) -> Duration {
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(shortages)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_limited_before_a_shortage() {
        assert_eq!(Shortage::default().limit(64, Instant::now()), 64);
    }

    #[test]
    fn as_many_stay_under_way_as_there_was_room_for() {
        let now = Instant::now();
        let mut shortage = Shortage::default();
        // Of 64 that begin at once, 40 find no descriptor left, one after the other.
        for under_way in (25..=64).rev() {
            shortage.met(under_way, now);
        }
        assert_eq!(shortage.limit(64, now), 24);
        // One that began before then changes nothing.
        shortage.met(40, now);
        assert_eq!(shortage.limit(64, now), 24);
    }

    #[test]
    fn one_request_may_always_be_under_way() {
        let now = Instant::now();
        let mut shortage = Shortage::default();
        for _ in 0..3 {
            shortage.met(1, now);
        }
        assert_eq!(shortage.limit(64, now), 1);
    }

    #[test]
    fn it_recovers_slowly_and_whole() {
        let mut now = Instant::now();
        let mut shortage = Shortage::default();
        shortage.met(1, now);
        now += RECOVERY;
        assert_eq!(shortage.limit(64, now), 2);
        assert_eq!(shortage.limit(64, now), 2);
        now += Duration::from_secs(60);
        assert!((14..=24).contains(&shortage.limit(64, now)));
        now += Duration::from_secs(120);
        assert_eq!(shortage.limit(64, now), 64);
    }

    #[test]
    fn it_is_logged_once_a_minute() {
        let mut now = Instant::now();
        let mut shortage = Shortage::default();
        let mut logged = 0;
        for _ in 0..=1_200 {
            logged += u32::from(shortage.met(8, now));
            now += Duration::from_millis(100);
        }
        assert_eq!(logged, 3);
    }

    #[test]
    fn waits_grow_up_to_a_second() {
        assert_eq!(
            [0, 1, 6, 7, u32::MAX].map(|shortages| wait(shortages).as_millis()),
            [10, 20, 640, 1000, 1000]
        );
    }
}
