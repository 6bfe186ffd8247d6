//! Rate limits: token buckets for requests, messages and bytes.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::RateLimitConfig;

/// How much unused time a bucket keeps: enough to even out timers, too little to be a burst.
const CATCH_UP: Duration = Duration::from_millis(50);

/// A token bucket, kept as the time of its next token (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct TokenBucket {
    per_second: f64,
    next: Option<Instant>,
}

impl TokenBucket {
    /// `None` if there is no limit.
    fn limited_to(per_second: Option<f64>) -> Option<Self> {
        per_second.map(|per_second| Self { per_second, next: None })
    }

    /// When the next request may be sent; `None`: at once.
    fn not_before(&self) -> Option<Instant> {
        self.next
    }

    /// Takes `cost` tokens. If there are fewer, the next requests wait for the rest.
    fn charge(&mut self, cost: usize, now: Instant) {
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let slot = self.next.map_or(now, |next| next.max(earliest));
        #[expect(clippy::cast_precision_loss, reason = "sizes stay far below 2^52")]
        let spacing = Duration::try_from_secs_f64(cost as f64 / self.per_second).unwrap_or(Duration::MAX);
        self.next = Some(slot.checked_add(spacing).unwrap_or(slot));
    }
}

/// The rate limits of one endpoint.
#[derive(Debug)]
pub(super) struct Rate {
    requests: Option<TokenBucket>,
    messages: Option<TokenBucket>,
    bytes: Option<TokenBucket>,
}

impl Rate {
    pub(super) fn new(limits: &RateLimitConfig) -> Self {
        Self {
            requests: TokenBucket::limited_to(limits.requests_per_second),
            messages: TokenBucket::limited_to(limits.messages_per_second),
            bytes: TokenBucket::limited_to(limits.bytes_per_second),
        }
    }

    fn all(&self) -> impl Iterator<Item = &TokenBucket> {
        [&self.requests, &self.messages, &self.bytes].into_iter().flatten()
    }

    /// When the next request may be sent; `None`: at once.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.all().filter_map(TokenBucket::not_before).max()
    }

    /// Takes the tokens for a request with this many messages and bytes.
    pub(super) fn charge(&mut self, of_messages: usize, of_bytes: usize, now: Instant) {
        let Self { requests, messages, bytes } = self;
        for (bucket, cost) in [(requests, 1), (messages, of_messages), (bytes, of_bytes)] {
            if let Some(bucket) = bucket {
                bucket.charge(cost, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes as soon as it may, from `now` on; says when that was.
    fn go(bucket: &mut TokenBucket, cost: usize, now: Instant) -> Instant {
        let goes = bucket.not_before().map_or(now, |time| time.max(now));
        bucket.charge(cost, goes);
        goes
    }

    #[test]
    fn costs_are_spaced_by_the_rate() {
        let now = Instant::now();
        let mut bucket = TokenBucket::limited_to(Some(10.0)).expect("a limit");
        for n in 0..20 {
            assert_eq!(go(&mut bucket, 1, now), now + Duration::from_millis(100) * n);
        }
    }

    #[test]
    fn a_large_cost_delays_the_next_and_not_itself() {
        let now = Instant::now();
        let mut bucket = TokenBucket::limited_to(Some(1000.0)).expect("a limit");
        assert_eq!(go(&mut bucket, 5000, now), now);
        assert_eq!(go(&mut bucket, 1, now), now + Duration::from_secs(5));
    }

    #[test]
    fn quiet_times_do_not_save_up_for_a_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::limited_to(Some(100.0)).expect("a limit");
        bucket.charge(1, start);
        let later = start + Duration::from_secs(60);
        let within = (0..100).filter(|_| go(&mut bucket, 1, later) <= later).count();
        assert!(within <= 7, "{within} requests at once at 100 a second");
    }
}
