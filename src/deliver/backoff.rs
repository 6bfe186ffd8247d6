//! How long to wait before each retry.

use std::time::Duration;

use crate::{
    config::{Jitter, RetryConfig},
    world::World,
};

/// The shortest wait before an attempt that is not counted in `max_retries`: their number is unlimited, so they must take
/// time.
const UNCOUNTED: Duration = Duration::from_millis(10);

/// Exponential backoff with the configured bounds and jitter.
///
/// The policies of `reqwest-retry` use their own clock and random generator; this one takes both from the [`World`].
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    /// The shortest wait if a server asks for none.
    first: Duration,
    multiplier: u32,
    longest: Duration,
    jitter: Jitter,
    max_retry_after: Duration,
    world: World,
}

impl Backoff {
    pub(super) fn new(config: &RetryConfig, world: World) -> Self {
        Self {
            first: config.delay,
            multiplier: config.multiplier,
            longest: config.max_delay,
            jitter: config.jitter,
            max_retry_after: config.max_retry_after,
            world,
        }
    }

    /// Returns the wait before the next attempt, given the number of waits before it.
    pub(super) fn wait(&self, waits: u32) -> Duration {
        let bound = self.first.saturating_mul(self.multiplier.saturating_pow(waits)).min(self.longest);
        // https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        match self.jitter {
            Jitter::Full => self.up_to(bound),
            Jitter::Bounded => bound / 2 + self.up_to(bound / 2),
            Jitter::None => bound,
        }
    }

    /// Returns a uniformly distributed wait up to a bound.
    fn up_to(&self, bound: Duration) -> Duration {
        // The quotient is at most the bound, and the bound at most ten years.
        let nanos = (bound.as_nanos() * u128::from(self.world.random())) >> u64::BITS;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the wait that a server asked for, within the cap. If it asks for zero, the first wait applies; otherwise a
    /// confused server would be asked without a pause.
    pub(super) fn asked(&self, retry_after: Duration) -> Duration {
        if retry_after.is_zero() { self.first } else { retry_after }.min(self.max_retry_after).max(UNCOUNTED)
    }

    /// Returns the wait before the next attempt after a held answer, given the number of waits before it.
    pub(super) fn held(&self, waits: u32) -> Duration {
        self.wait(waits).max(UNCOUNTED)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff::new(
            &RetryConfig {
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
            },
            World::real(),
        )
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = backoff(Jitter::None);
        let waits: Vec<u64> = (0..7).map(|n| backoff.wait(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.wait(u32::MAX), Duration::from_secs(30));
    }

    #[test]
    fn jitter_keeps_within_its_bounds() {
        let (full, bounded) = (backoff(Jitter::Full), backoff(Jitter::Bounded));
        let cap = Duration::from_secs(30);
        let spread = |waits: &[Duration]| (waits.iter().min().copied(), waits.iter().max().copied());
        let waits: Vec<Duration> = (0..1000).map(|_| full.wait(10)).collect();
        let (least, most) = spread(&waits);
        assert!(
            least < Some(cap / 10) && most > Some(cap / 10 * 9) && most <= Some(cap),
            "{least:?} {most:?}"
        );
        let waits: Vec<Duration> = (0..1000).map(|_| bounded.wait(10)).collect();
        let (least, most) = spread(&waits);
        assert!(
            least >= Some(cap / 2) && most > Some(cap / 10 * 9) && most <= Some(cap),
            "{least:?} {most:?}"
        );
    }

    #[test]
    fn what_a_server_asks_for_is_capped_and_never_nothing() {
        let backoff = backoff(Jitter::Full);
        assert_eq!(backoff.asked(Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(backoff.asked(Duration::MAX), Duration::from_secs(60));
        assert_eq!(backoff.asked(Duration::ZERO), Duration::from_secs(1));
    }
}
