//! How long to wait.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tracing::warn;

/// The value of a duration that cannot be parsed.
const FALLBACK: Duration = Duration::from_secs(1);

/// Parses a duration such as `"500ms"`, `"1m 30s"`, or the default if there is none.
///
/// One that cannot be parsed becomes one second, with a WARN line that names it. It is better to refuse a wrong
/// configuration: for that, parse it with the crate `humantime`.
pub fn parse_duration(value: Option<&str>, default_value: &str) -> Duration {
    humantime::parse_duration(value.unwrap_or(default_value)).unwrap_or_else(|error| {
        warn!(
            "{:?} is not a duration ({error}), 1s is used: write a number and a unit, such as \"500ms\" or \"1m 30s\"",
            value.unwrap_or(default_value)
        );
        FALLBACK
    })
}

/// Returns the wait before a retry: `base` for attempt 0, twice as long for each further one, at most `max_delay`.
pub fn exponential_backoff(base: Duration, attempt: u32, max_delay: Duration) -> Duration {
    base.saturating_mul(2_u32.saturating_pow(attempt)).min(max_delay)
}

/// Returns a random duration from 80 to 120 percent of `base`, so that clients that failed together do not return together.
pub fn jitter(base: Duration) -> Duration {
    let fifth = base / 5;
    // Each of these has its own random keys.
    let random = RandomState::new().build_hasher().finish();
    // A fraction with 32 bits: a finer one makes no difference to a duration.
    let share = (random >> 32) as f64 / f64::from(u32::MAX);
    base.saturating_sub(fifth).saturating_add((fifth * 2).mul_f64(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let base = Duration::from_millis(100);
        let cap = Duration::from_secs(1);
        let waits: Vec<_> =
            (0..6).map(|attempt| exponential_backoff(base, attempt, cap).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        for attempt in [31, 32, 63, 64, u32::MAX] {
            assert_eq!(exponential_backoff(base, attempt, cap), cap);
            assert!(exponential_backoff(base, attempt, Duration::MAX) > cap);
            assert_eq!(exponential_backoff(Duration::ZERO, attempt, cap), Duration::ZERO);
        }
    }

    #[test]
    fn jitter_is_spread_over_a_fifth_each_way() {
        let base = Duration::from_secs(10);
        let drawn: Vec<_> = (0..2000).map(|_| jitter(base).as_secs_f64()).collect();
        assert!(drawn.iter().all(|seconds| (8.0..=12.0).contains(seconds)), "{drawn:?}");
        // Each half of the range is drawn: all 2000 on one side would be one chance in 2^1999.
        assert!(drawn.iter().any(|seconds| *seconds < 9.0) && drawn.iter().any(|seconds| *seconds > 11.0));
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
        assert!(jitter(Duration::MAX) > Duration::MAX / 2);
    }

    #[test]
    fn durations_and_what_is_none() {
        assert_eq!(parse_duration(Some("1m 30s"), "5s"), Duration::from_secs(90));
        assert_eq!(parse_duration(None, "200ms"), Duration::from_millis(200));
        for wrong in ["5sec!", "", "-1s", "10"] {
            assert_eq!(parse_duration(Some(wrong), "5s"), Duration::from_secs(1), "{wrong}");
        }
    }
}
