//! Rate limits: each request that goes says when the next may.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::RateLimitConfig;

/// How far behind its schedule a limiter may catch up at once: enough to even out timers, too little
/// to be a burst.
const CATCH_UP: Duration = Duration::from_millis(50);

/// Spaces costs so that at most a given number per second pass.
#[derive(Debug)]
struct Pace {
    per_second: f64,
    next: Option<Instant>,
}

impl Pace {
    /// `None` where there is no limit.
    fn limited_to(per_second: Option<f64>) -> Option<Self> {
        per_second.map(|per_second| Self { per_second, next: None })
    }

    /// The time at which the next may go, if it is known to be limited.
    fn not_before(&self) -> Option<Instant> {
        self.next
    }

    /// One of this cost goes now. A cost above a second's worth makes the ones after it wait accordingly.
    fn charge(&mut self, cost: usize, now: Instant) {
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let place = self.next.map_or(now, |next| next.max(earliest));
        #[expect(clippy::cast_precision_loss, reason = "sizes stay far below 2^52")]
        let spacing = Duration::try_from_secs_f64(cost as f64 / self.per_second).unwrap_or(Duration::MAX);
        self.next = Some(place.checked_add(spacing).unwrap_or(place));
    }
}

/// The rate limits of one endpoint.
#[derive(Debug)]
pub(super) struct Rate {
    requests: Option<Pace>,
    messages: Option<Pace>,
    bytes: Option<Pace>,
}

impl Rate {
    pub(super) fn new(limits: &RateLimitConfig) -> Self {
        Self {
            requests: Pace::limited_to(limits.requests_per_second),
            messages: Pace::limited_to(limits.messages_per_second),
            bytes: Pace::limited_to(limits.bytes_per_second),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Pace> {
        [&self.requests, &self.messages, &self.bytes].into_iter().flatten()
    }

    /// The time at which the next may go.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.all().filter_map(Pace::not_before).max()
    }

    /// A request with this many messages and bytes goes now.
    pub(super) fn charge(&mut self, of_messages: usize, of_bytes: usize, now: Instant) {
        let Self { requests, messages, bytes } = self;
        for (pace, cost) in [(requests, 1), (messages, of_messages), (bytes, of_bytes)] {
            if let Some(pace) = pace {
                pace.charge(cost, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes as soon as it may, from `now` on; says when that was.
    fn go(pace: &mut Pace, cost: usize, now: Instant) -> Instant {
        let goes = pace.not_before().map_or(now, |time| time.max(now));
        pace.charge(cost, goes);
        goes
    }

    #[test]
    fn costs_are_spaced_by_the_rate() {
        let now = Instant::now();
        let mut pace = Pace::limited_to(Some(10.0)).expect("a limit");
        for n in 0..20 {
            assert_eq!(go(&mut pace, 1, now), now + Duration::from_millis(100) * n);
        }
    }

    #[test]
    fn a_large_cost_delays_the_next_and_not_itself() {
        let now = Instant::now();
        let mut pace = Pace::limited_to(Some(1000.0)).expect("a limit");
        assert_eq!(go(&mut pace, 5000, now), now);
        assert_eq!(go(&mut pace, 1, now), now + Duration::from_secs(5));
    }

    #[test]
    fn quiet_times_do_not_save_up_for_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::limited_to(Some(100.0)).expect("a limit");
        pace.charge(1, start);
        let later = start + Duration::from_secs(60);
        let within = (0..100).filter(|_| go(&mut pace, 1, later) <= later).count();
        assert!(within <= 7, "{within} requests at once at 100 a second");
    }
}
