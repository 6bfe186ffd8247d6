//! How long to wait before each retry.

use std::time::{Duration, SystemTime};

use reqwest_retry::{Jitter as PolicyJitter, RetryDecision, RetryPolicy, policies::ExponentialBackoff};

use crate::config::{Jitter, RetryConfig};

/// The shortest wait that is not counted against `max_retries`: without an end to their number, such
/// waits must have a length.
const UNCOUNTED: Duration = Duration::from_millis(10);

/// Exponential backoff with the configured bounds and jitter.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    policy: ExponentialBackoff,
    /// The least wait where a server asks for none.
    first: Duration,
    max_retry_after: Duration,
}

impl Backoff {
    pub(super) fn new(config: &RetryConfig) -> Self {
        let policy = ExponentialBackoff::builder()
            .retry_bounds(config.delay, config.max_delay)
            .base(config.multiplier)
            .jitter(match config.jitter {
                Jitter::Full => PolicyJitter::Full,
                Jitter::Bounded => PolicyJitter::Bounded,
                Jitter::None => PolicyJitter::None,
            })
            // Whoever waits counts: held answers and those with Retry-After do not.
            .build_with_max_retries(u32::MAX);
        Self { policy, first: config.delay, max_retry_after: config.max_retry_after }
    }

    /// The wait before the next attempt, after so many waits before.
    pub(super) fn wait(&self, waits: u32) -> Duration {
        // The policy speaks of points in time; only the distance from now matters here.
        let now = SystemTime::now();
        match self.policy.should_retry(now, waits.min(u32::MAX - 1)) {
            RetryDecision::Retry { execute_after } => execute_after.duration_since(now).unwrap_or_default(),
            RetryDecision::DoNotRetry => self.first,
        }
    }

    /// The wait that a server asked for, within the cap. One that asks for none gets the first wait,
    /// or a confused server would be asked again without a pause.
    pub(super) fn asked(&self, retry_after: Duration) -> Duration {
        if retry_after.is_zero() { self.first } else { retry_after }.min(self.max_retry_after).max(UNCOUNTED)
    }

    /// The wait before the next attempt at a held answer, after so many waits before.
    pub(super) fn held(&self, waits: u32) -> Duration {
        self.wait(waits).max(UNCOUNTED)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff::new(&RetryConfig {
            max_retries: 3,
            delay: Duration::from_secs(1),
            multiplier: 2,
            max_delay: Duration::from_secs(30),
            jitter,
            max_duration: Duration::from_secs(300),
            max_retry_after: Duration::from_secs(60),
            status_codes: BTreeSet::default(),
            hold_status_codes: BTreeSet::default(),
            isolate_status_codes: BTreeSet::default(),
        })
    }

    /// The policy reads the clock a moment after the caller.
    fn about(wait: Duration) -> u64 {
        u64::try_from(wait.as_millis()).expect("a short wait").div_ceil(50) * 50
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = backoff(Jitter::None);
        let waits: Vec<u64> = (0..7).map(|n| about(backoff.wait(n)) / 1000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(about(backoff.wait(u32::MAX)) / 1000, 30);
    }

    #[test]
    fn jitter_keeps_within_its_bounds() {
        for _ in 0..200 {
            assert!(backoff(Jitter::Full).wait(10) <= Duration::from_millis(30_050));
            let bounded = backoff(Jitter::Bounded).wait(10);
            assert!(
                (Duration::from_millis(450)..=Duration::from_millis(30_050)).contains(&bounded),
                "{bounded:?}"
            );
        }
    }

    #[test]
    fn what_a_server_asks_for_is_capped_and_never_nothing() {
        let backoff = backoff(Jitter::Full);
        assert_eq!(backoff.asked(Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(backoff.asked(Duration::MAX), Duration::from_secs(60));
        assert_eq!(backoff.asked(Duration::ZERO), Duration::from_secs(1));
    }
}
