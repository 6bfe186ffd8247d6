//! How many requests at once an endpoint takes well: additive increase, multiplicative decrease.
//!
//! Pure: it is told how each request ended and when, and says how many may be under way.

use std::time::Duration;

use tokio::time::Instant;

/// Latency counts as congestion when it is over so many times the least that was seen lately …
const LATENCY_FACTOR: u32 = 3;
/// … and over that by this much, so that the noise of a fast endpoint does not.
const LATENCY_SLACK: Duration = Duration::from_millis(5);
/// What is left of the limit when latency grows.
const LATENCY_BACKOFF: f64 = 0.85;
/// What is left of it when the endpoint says that it is too much.
const REFUSAL_BACKOFF: f64 = 0.5;
/// How long the least latency counts: endpoints change.
const BASELINE_AGE: Duration = Duration::from_secs(30);

/// How a request ended, as far as congestion goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Answered, after this time.
    Answered(Duration),
    /// Refused for too many requests, or not answered in time.
    Refused,
    /// It says nothing about load.
    Unknown,
}

/// The limit and what it was learned from.
#[derive(Debug)]
pub(super) struct Aimd {
    limit: f64,
    max: f64,
    /// Until the first congestion the limit doubles a round trip.
    slow_start: bool,
    baseline: Option<(Duration, Instant)>,
    /// The least latency since `baseline` was set, to follow it.
    next_baseline: Duration,
    /// One round trip may lower the limit once.
    lowered_until: Option<Instant>,
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
        }
    }

    /// How many may be under way.
    pub(super) fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and max")]
        let limit = self.limit as usize;
        limit.max(1)
    }

    /// A request ended, while so many were under way with it.
    pub(super) fn ended(&mut self, load: Load, under_way: usize, now: Instant) {
        match load {
            Load::Unknown => {}
            Load::Refused => {
                let round_trip = self.baseline.map_or(LATENCY_SLACK, |(latency, _)| latency);
                self.lower(REFUSAL_BACKOFF, round_trip, now);
            }
            Load::Answered(latency) => {
                let baseline = self.follow(latency, now);
                if latency > baseline.saturating_mul(LATENCY_FACTOR).saturating_add(LATENCY_SLACK) {
                    self.lower(LATENCY_BACKOFF, latency, now);
                } else if under_way * 2 > self.limit() {
                    // At least half of what is allowed is made use of, so more may be as well.
                    let step = if self.slow_start { 1.0 } else { 1.0 / self.limit };
                    self.limit = (self.limit + step).min(self.max);
                }
            }
        }
    }

    /// The least latency of late.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint that works on so many at once and keeps the others in a queue; so many round trips.
    fn run(aimd: &mut Aimd, workers: u32, rounds: usize, now: &mut Instant) {
        for _ in 0..rounds {
            let under_way = aimd.limit();
            let queue = u32::try_from(under_way).expect("a small limit").div_ceil(workers);
            let latency = Duration::from_millis(10) * queue;
            *now += latency;
            for _ in 0..under_way {
                aimd.ended(Load::Answered(latency), under_way, *now);
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
    fn a_refusal_halves_it_once_a_round_trip() {
        let mut now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        run(&mut aimd, 1000, 10, &mut now);
        for _ in 0..64 {
            aimd.ended(Load::Refused, 64, now);
        }
        assert_eq!(aimd.limit(), 32);
        now += Duration::from_secs(1);
        aimd.ended(Load::Refused, 32, now);
        assert_eq!(aimd.limit(), 16);
    }

    #[test]
    fn it_never_falls_below_one() {
        let mut now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        for _ in 0..100 {
            now += Duration::from_secs(1);
            aimd.ended(Load::Refused, 1, now);
        }
        assert_eq!(aimd.limit(), 1);
    }

    #[test]
    fn it_does_not_grow_while_fewer_requests_are_under_way() {
        let now = Instant::now();
        let mut aimd = Aimd::up_to(64);
        for _ in 0..100 {
            aimd.ended(Load::Answered(Duration::from_millis(1)), 1, now);
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
            aimd.ended(Load::Answered(Duration::from_millis(100)), aimd.limit(), now);
        }
        assert_eq!(aimd.limit(), 8);
    }
}
