//! How long to wait before each retry.

use std::time::{Duration, SystemTime};

use reqwest_retry::{Jitter as PolicyJitter, RetryDecision, RetryPolicy, policies::ExponentialBackoff};

use crate::config::{Jitter, RetryConfig};

/// Exponential backoff with the configured bounds and jitter.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    policy: ExponentialBackoff,
    /// The least wait where a server asks for none.
    pub(super) first: Duration,
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
            .build_with_max_retries(config.max_retries);
        Self { policy, first: config.delay, max_retry_after: config.max_retry_after }
    }

    /// The wait before the next retry, when `spent` retries are spent already; `None` once there are no more.
    pub(super) fn wait(&self, spent: u32) -> Option<Duration> {
        // The policy speaks of points in time; only the distance from now matters here.
        let now = SystemTime::now();
        match self.policy.should_retry(now, spent) {
            RetryDecision::Retry { execute_after } => {
                Some(execute_after.duration_since(now).unwrap_or_default())
            }
            RetryDecision::DoNotRetry => None,
        }
    }

    /// The wait that a server asked for, within the cap. One that asks for none gets the first wait,
    /// or a confused server would be asked again without a pause.
    pub(super) fn asked(&self, retry_after: Duration) -> Duration {
        if retry_after.is_zero() { self.first } else { retry_after }.min(self.max_retry_after)
    }
}
