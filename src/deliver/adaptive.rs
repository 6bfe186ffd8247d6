//! Learns how many concurrent requests an endpoint can take: additive increase, multiplicative decrease (Chiu and Jain,
//! 1989).
//!
//! It is pure: from how and when each request ended, it computes how many may be in flight.

use std::time::Duration;

use tokio::time::Instant;

/// Latency counts as congestion above this multiple of the lowest seen recently …
const LATENCY_FACTOR: u32 = 3;
/// … plus this much, so that the noise of a fast endpoint does not count.
const LATENCY_SLACK: Duration = Duration::from_millis(5);
/// The factor applied to the limit when latency grows.
const LATENCY_BACKOFF: f64 = 0.85;
/// The factor applied to the limit when the endpoint refuses because of load.
const REFUSAL_BACKOFF: f64 = 0.5;
/// How long the lowest latency is remembered: endpoints change.
const BASELINE_AGE: Duration = Duration::from_secs(30);
/// Refusals are counted over this multiple of the limit, and at least this many attempts: few enough to notice load at once,
/// enough to distinguish it from single messages that the endpoint never accepts.
const ROUND: (usize, usize) = (4, 100);
/// One attempt in this many may be refused without effect, as BBR tolerates a loss of 2 % that it did not cause
/// (draft-ietf-ccwg-bbr section 2.7).
const BORNE: usize = 25;
/// How many refusals are enough if they are more than a third of all attempts.
const FEW: usize = 3;

/// What the end of a request says about congestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Answered, after this time.
    Answered(Duration),
    /// Refused because of too many requests, or not answered in time.
    Refused,
    /// It says nothing about load.
    Unknown,
}

/// The limit, and what it was learned from.
#[derive(Debug)]
pub(super) struct Aimd {
    limit: f64,
    max: f64,
    /// Until the first congestion, the limit doubles per round trip.
    slow_start: bool,
    baseline: Option<(Duration, Instant)>,
    /// The lowest latency since `baseline` was set, which will replace it.
    next_baseline: Duration,
    /// The limit is lowered at most once per round trip.
    lowered_until: Option<Instant>,
    refusals: Refusals,
}

/// Distinguishes an overloaded endpoint from one that refuses some messages whatever its load.
#[derive(Debug, Default)]
struct Refusals {
    first: Attempts,
    retries: Attempts,
}

#[derive(Debug, Default)]
struct Attempts {
    ended: usize,
    refused: usize,
}

impl Aimd {
    pub(super) fn up_to(max: usize) -> Self {
        Self {
            limit: 1.0,
            #[expect(clippy::cast_precision_loss, reason = "limits stay far below 2^52")]
            max: max as f64,
            slow_start: true,
            baseline: None,
            next_baseline: Duration::MAX,
            lowered_until: None,
            refusals: Refusals::default(),
        }
    }

    /// How many may be in flight.
    pub(super) fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and max")]
        let limit = self.limit as usize;
        limit.max(1)
    }

    /// A request ended, a retry if `tried`, with `under_way` in flight including itself.
    pub(super) fn ended(&mut self, load: Load, tried: bool, under_way: usize, now: Instant) {
        let too_much = self.refusals.ended(load, tried, self.limit());
        match load {
            Load::Unknown => {}
            Load::Refused if !too_much => {}
            Load::Refused => {
                let round_trip = self.baseline.map_or(LATENCY_SLACK, |(latency, _)| latency);
                self.lower(REFUSAL_BACKOFF, round_trip, now);
            }
            Load::Answered(latency) => {
                let baseline = self.follow(latency, now);
                if latency > baseline.saturating_mul(LATENCY_FACTOR).saturating_add(LATENCY_SLACK) {
                    self.lower(LATENCY_BACKOFF, latency, now);
                } else if under_way * 2 > self.limit() {
                    // At least half of the limit is in use, so it may grow.
                    let step = if self.slow_start { 1.0 } else { 1.0 / self.limit };
                    self.limit = (self.limit + step).min(self.max);
                }
            }
        }
    }

    /// Updates and returns the lowest recent latency.
    fn follow(&mut self, latency: Duration, now: Instant) -> Duration {
        let (baseline, since) = self.baseline.unwrap_or((latency, now));
        self.next_baseline = self.next_baseline.min(latency);
        let (baseline, since) = if now.saturating_duration_since(since) > BASELINE_AGE {
            let next = self.next_baseline;
            self.next_baseline = Duration::MAX;
            (next, now)
        } else {
            (baseline.min(latency), since)
        };
        self.baseline = Some((baseline, since));
        baseline
    }

    fn lower(&mut self, factor: f64, round_trip: Duration, now: Instant) {
        self.slow_start = false;
        if self.lowered_until.is_some_and(|until| now < until) {
            return;
        }
        self.lowered_until = Some(now + round_trip);
        self.limit = (self.limit * factor).max(1.0);
    }
}

impl Refusals {
    /// Records that an attempt ended. Returns whether enough were refused recently to lower the limit.
    fn ended(&mut self, load: Load, tried: bool, limit: usize) -> bool {
        if load == Load::Unknown {
            return false;
        }
        let round = (limit * ROUND.0).max(ROUND.1);
        let attempts = if tried { &mut self.retries } else { &mut self.first };
        attempts.ended += 1;
        attempts.refused += usize::from(load == Load::Refused);
        // A retry is likely to fail because of its content, unless some retries succeed. It counts if there is little else to
        // learn from.
        let counts = self.retries.refused < self.retries.ended || self.retries.ended > self.first.ended;
        let retries = if counts { &self.retries } else { &Attempts::default() };
        let (ended, refused) = (self.first.ended + retries.ended, self.first.refused + retries.refused);
        let too_much = refused > round / BORNE || refused >= FEW && refused * 3 > ended;
        if too_much {
            *self = Self::default();
        } else if self.first.ended + self.retries.ended >= round {
            // Half of the counts is kept: otherwise, a few retries at the start of a round would be all there is to learn
            // from.
            self.first.halve();
            self.retries.halve();
        }
        too_much
    }
}

impl Attempts {
    fn halve(&mut self) {
        self.ended /= 2;
        self.refused /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint that works on `capacity` at once and queues the others, for a number of round trips.
    fn run(aimd: &mut Aimd, workers: u32, rounds: usize, now: &mut Instant) {
        for _ in 0..rounds {
            let under_way = aimd.limit();
            let queue = u32::try_from(under_way).expect("a small limit").div_ceil(workers);
            let latency = Duration::from_millis(10) * queue;
            *now += latency;
            for _ in 0..under_way {
                aimd.ended(Load::Answered(latency), false, under_way, *now);
            }
        }
    }

    #[test]
    fn the_limit_doubles_each_round_trip_until_it_is_reached() {
        let mut now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        assert_eq!(aimd.limit(), 1);
        run(&mut aimd, 1000, 6, &mut now);
        assert_eq!(aimd.limit(), 64);
        run(&mut aimd, 1000, 10, &mut now);
        assert_eq!(aimd.limit(), 64);
    }

    #[test]
    fn every_worker_of_the_endpoint_is_kept_busy_without_a_long_queue() {
        for workers in [1, 4, 8, 20] {
            let mut now = Instant::now();
            let mut aimd = Aimd::up_to(64);
            run(&mut aimd, workers, 50, &mut now);
            for _ in 0..200 {
                run(&mut aimd, workers, 1, &mut now);
                let limit = u32::try_from(aimd.limit()).expect("a small limit");
                assert!(limit >= workers && limit <= workers * 5, "{limit} for {workers} workers");
            }
        }
    }

    #[test]
    fn refusals_halve_it_once_a_round_trip() {
        let mut now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        run(&mut aimd, 1000, 10, &mut now);
        for limit in [32, 16] {
            now += Duration::from_secs(1);
            for _ in 0..64 {
                aimd.ended(Load::Refused, false, 64, now);
            }
            assert_eq!(aimd.limit(), limit);
        }
    }

    #[test]
    fn it_never_falls_below_one() {
        let mut now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        for _ in 0..100 {
            now += Duration::from_secs(1);
            aimd.ended(Load::Refused, false, 1, now);
        }
        assert_eq!(aimd.limit(), 1);
    }

    /// The least limit over many attempts, of which one in so many is refused, and before each so many at what was refused
    /// before.
    fn least(refused: usize, again: usize) -> usize {
        let mut now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        run(&mut aimd, 1000, 10, &mut now);
        let answer = Load::Answered(Duration::from_millis(10));
        let attempt = |number: usize| {
            now += Duration::from_millis(1);
            for _ in 0..again {
                aimd.ended(Load::Refused, true, 64, now);
            }
            let load = if number.is_multiple_of(refused) { Load::Refused } else { answer };
            aimd.ended(load, false, 64, now);
            aimd.limit()
        };
        (1..10_000).map(attempt).min().expect("there are attempts")
    }

    #[test]
    fn messages_that_are_always_refused_do_not_lower_it() {
        assert_eq!(least(100, 0), 64);
        assert_eq!(least(50, 1), 64);
    }

    #[test]
    fn an_endpoint_that_refuses_what_is_too_much_lowers_it() {
        assert!(least(10, 0) <= 32);
        assert!(least(100, 2) <= 32, "nearly all that is sent again is refused, and there is little else");
    }

    #[test]
    fn the_limit_is_about_what_an_endpoint_takes_that_refuses_what_is_more() {
        for takes in [4, 20] {
            let mut now = Instant::now();
            let mut aimd = Aimd::up_to(64);
            let (mut sum, mut refused) = (0, 0);
            for _ in 0..1000 {
                now += Duration::from_millis(10);
                let limit = aimd.limit();
                sum += limit;
                refused += limit.saturating_sub(takes);
                for number in 0..limit {
                    let answer = Load::Answered(Duration::from_millis(10));
                    aimd.ended(if number < takes { answer } else { Load::Refused }, false, limit, now);
                }
            }
            let mean = sum / 1000;
            assert!(mean * 3 >= takes * 2 && mean <= takes + 2, "{mean} of {takes}");
            assert!(refused * 3 <= sum, "{refused} of {sum} refused, where {takes} are taken");
        }
    }

    #[test]
    fn it_does_not_grow_while_fewer_requests_are_under_way() {
        let now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        for _ in 0..100 {
            aimd.ended(Load::Answered(Duration::from_millis(1)), false, 1, now);
        }
        assert_eq!(aimd.limit(), 2);
    }

    #[test]
    fn an_endpoint_that_became_slower_for_good_is_the_new_measure() {
        let mut now = Instant::now();
        let mut aimd = Aimd::up_to(8);
        run(&mut aimd, 1000, 10, &mut now);
        for _ in 0..1000 {
            now += Duration::from_millis(100);
            aimd.ended(Load::Answered(Duration::from_millis(100)), false, aimd.limit(), now);
        }
        assert_eq!(aimd.limit(), 8);
    }

    #[test]
    fn a_few_retries_that_come_together_do_not_lower_it_whenever_they_come() {
        for before in 0..400 {
            let mut now = Instant::now();
            let mut aimd = Aimd::up_to(64);
            run(&mut aimd, 1000, 10, &mut now);
            for _ in 0..before {
                aimd.ended(Load::Answered(Duration::from_millis(10)), false, 64, now);
            }
            for _ in 0..5 {
                aimd.ended(Load::Refused, true, 64, now);
            }
            assert_eq!(aimd.limit(), 64, "behind {before} others");
        }
    }
}
