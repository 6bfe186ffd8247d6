//! The circuit breaker as a state machine: from what happened, and when, it decides whether a request may be sent. It has no
//! clock and never waits; the [gate](super::gate) does both.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

use super::origin::Origin;

/// When several lanes have failed, how many probes of other lanes may be sent before the first regular one: enough to find a
/// lane that the endpoint accepts, too few to bother an endpoint that is down.
const EARLY_PROBES: u32 = 5;

/// Opens after this many transient failures in a row, lets one probe through at a time, and
/// closes when one succeeds.
#[derive(Debug)]
pub(super) struct Breaker {
    /// `None`: it never opens.
    threshold: Option<NonZeroU32>,
    /// The wait before the first probe; each failed probe doubles it, up to the longest.
    first_wait: Duration,
    longest_wait: Duration,
    state: State,
    /// Whose failures are counted.
    failing: Failing,
    /// How many early probes are left before it closes.
    early_probes: u32,
    /// Attempts up to this number had begun when the last failure was counted.
    counted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    /// Until the next regular probe, after this wait.
    Open {
        until: Instant,
        wait: Duration,
    },
    /// A probe is on its way; an early one if it began before the regular one was due.
    HalfOpen {
        until: Instant,
        wait: Duration,
        early: bool,
    },
}

/// Whose attempts have failed since the last success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failing {
    Nobody,
    Only(Origin),
    Several,
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Go,
    /// It may, as the one that finds out whether the endpoint is back.
    Probe,
    /// Not before this time.
    NotBefore(Instant),
    /// Not before the probe on its way has ended.
    AfterProbe,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It opened, for the first time or again.
    Opened,
    /// It closed.
    Closed,
}

impl Admission {
    /// Whether the request may go, as a probe or not.
    pub(super) fn goes(self) -> bool {
        match self {
            Self::Go | Self::Probe => true,
            Self::NotBefore(_) | Self::AfterProbe => false,
        }
    }
}

impl Breaker {
    /// Creates a breaker that opens after `failure_threshold` failures, or never if that is 0. The first probe follows after
    /// `first_wait`; each later wait is twice as long, up to `cool_down`.
    pub(super) fn new(failure_threshold: u32, first_wait: Duration, cool_down: Duration) -> Self {
        Self {
            threshold: NonZeroU32::new(failure_threshold),
            first_wait: first_wait.min(cool_down),
            longest_wait: cool_down,
            state: State::Closed { failures: 0 },
            failing: Failing::Nobody,
            early_probes: EARLY_PROBES,
            counted: 0,
        }
    }

    /// Decides whether a request may be sent now. One that has not failed passes its origin as `stranger`: if all failures
    /// are of one other origin, it need not wait, since the endpoint may well accept it; if they are of several origins, a
    /// few may try.
    pub(super) fn admission(&self, now: Instant, stranger: Option<Origin>) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Go,
            State::HalfOpen { .. } => Admission::AfterProbe,
            State::Open { until, .. } if now >= until => Admission::Probe,
            State::Open { until, .. } => match (self.failing, stranger) {
                (Failing::Only(failing), Some(origin)) if failing != origin => Admission::Probe,
                (Failing::Several, Some(_)) if self.early_probes > 0 => Admission::Probe,
                _ => Admission::NotBefore(until),
            },
        }
    }

    /// Whether all requests may be sent.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Returns the present wait between two probes.
    pub(super) fn wait(&self) -> Duration {
        match self.state {
            State::Closed { .. } => Duration::ZERO,
            State::Open { wait, .. } | State::HalfOpen { wait, .. } => wait,
        }
    }

    /// Returns when the next regular probe may be sent; `None` while it is closed.
    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until, .. } | State::HalfOpen { until, .. } => Some(until),
        }
    }

    /// Whether a probe is on its way.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.state, State::HalfOpen { .. })
    }

    /// Makes the next regular probe due.
    pub(super) fn probe_now(&mut self, now: Instant) {
        if let State::Open { wait, .. } = self.state {
            self.state = State::Open { until: now, wait };
        }
    }

    /// Records that a request that got [`Admission::Probe`] is sent; its end must be reported.
    pub(super) fn probe_begins(&mut self, now: Instant) {
        if let State::Open { until, wait } = self.state {
            let early = now < until;
            if early && self.failing == Failing::Several {
                self.early_probes -= 1;
            }
            self.state = State::HalfOpen { until, wait, early };
        }
    }

    /// Records that the endpoint answered, and not with a transient failure.
    pub(super) fn succeeded(&mut self, probe: bool) -> Change {
        match self.state {
            // A request that was sent before it opened says nothing about the present.
            State::Open { .. } | State::HalfOpen { .. } if !probe => Change::None,
            State::Closed { .. } => {
                self.close();
                Change::None
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.close();
                Change::Closed
            }
        }
    }

    /// Records that attempt `number` ended in a transient failure, when `begun` attempts had begun. Failures of attempts that
    /// were in flight together count once: they have the same cause.
    pub(super) fn failed(
        &mut self,
        probe: bool,
        origin: Origin,
        number: u64,
        begun: u64,
        now: Instant,
    ) -> Change {
        let Some(threshold) = self.threshold else { return Change::None };
        self.failing = match self.failing {
            Failing::Nobody => Failing::Only(origin),
            Failing::Only(other) if other == origin => self.failing,
            Failing::Only(_) | Failing::Several => Failing::Several,
        };
        let wait = match self.state {
            State::Closed { failures } => {
                if number <= self.counted {
                    return Change::None;
                }
                self.counted = begun;
                if failures + 1 < threshold.get() {
                    self.state = State::Closed { failures: failures + 1 };
                    return Change::None;
                }
                self.first_wait
            }
            State::Open { .. } | State::HalfOpen { .. } if !probe => return Change::None,
            State::HalfOpen { until, wait, early: true } => {
                // The time of the regular probe does not change.
                self.state = State::Open { until, wait };
                return Change::Opened;
            }
            State::Open { wait, .. } | State::HalfOpen { wait, .. } => (wait * 2).min(self.longest_wait),
        };
        self.state = State::Open { until: now + wait, wait };
        Change::Opened
    }

    /// Records that the probe ended without telling anything about the endpoint: the next request becomes the probe.
    pub(super) fn abandoned(&mut self, now: Instant) {
        if let State::HalfOpen { until, wait, early } = self.state {
            // The time of the regular probe does not change.
            self.state = State::Open { until: if early { until } else { now }, wait };
        }
    }

    fn close(&mut self) {
        self.state = State::Closed { failures: 0 };
        self.failing = Failing::Nobody;
        self.early_probes = EARLY_PROBES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const COOL_DOWN: Duration = Duration::from_secs(30);
    const A: Origin = Origin(1);
    const B: Origin = Origin(2);

    /// Fails attempts of these origins one after the other.
    fn fail(breaker: &mut Breaker, origins: &[Origin], now: Instant) -> Vec<Change> {
        (1..)
            .zip(origins)
            .map(|(number, origin)| breaker.failed(false, *origin, number, number, now))
            .collect()
    }

    fn opened_by(origins: [Origin; 3], now: Instant) -> Breaker {
        let mut breaker = Breaker::new(3, FIRST, COOL_DOWN);
        assert_eq!(fail(&mut breaker, &origins, now), [Change::None, Change::None, Change::Opened]);
        breaker
    }

    /// A probe goes, and fails; of a lane that has failed before, if it is due.
    fn fail_probe(breaker: &mut Breaker, origin: Origin, stranger: bool, now: Instant) {
        assert_eq!(breaker.admission(now, stranger.then_some(origin)), Admission::Probe);
        breaker.probe_begins(now);
        assert_eq!(breaker.failed(true, origin, 100, 100, now), Change::Opened);
    }

    #[test]
    fn opens_after_the_threshold_of_failures_in_a_row() {
        let now = Instant::now();
        assert_eq!(opened_by([A, B, A], now).admission(now, None), Admission::NotBefore(now + FIRST));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::new(2, FIRST, COOL_DOWN);
        for number in 1..10 {
            assert_eq!(breaker.failed(false, A, number, number, now), Change::None);
            assert_eq!(breaker.succeeded(false), Change::None);
        }
        assert_eq!(breaker.admission(now, None), Admission::Go);
    }

    #[test]
    fn failures_that_were_under_way_together_count_once() {
        let now = Instant::now();
        let mut breaker = Breaker::new(2, FIRST, COOL_DOWN);
        for number in 1..=16 {
            assert_eq!(breaker.failed(false, A, number, 16, now), Change::None);
        }
        assert_eq!(breaker.failed(false, A, 17, 17, now), Change::Opened);
    }

    #[test]
    fn lets_one_probe_through_and_closes_when_it_succeeds() {
        let now = Instant::now();
        let mut breaker = opened_by([A, B, A], now);
        let later = now + FIRST;
        assert_eq!(breaker.admission(later, None), Admission::Probe);
        breaker.probe_begins(later);
        assert_eq!(breaker.admission(later, Some(B)), Admission::AfterProbe);
        assert_eq!(breaker.succeeded(true), Change::Closed);
        assert_eq!(breaker.admission(later, None), Admission::Go);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_the_cool_down() {
        let mut now = Instant::now();
        let mut breaker = opened_by([A, B, A], now);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let until = now + Duration::from_secs(seconds);
            assert_eq!(breaker.admission(now, None), Admission::NotBefore(until));
            now = until;
            fail_probe(&mut breaker, A, false, now);
        }
    }

    #[test]
    fn a_lane_that_has_not_failed_need_not_wait_for_one_that_did() {
        let now = Instant::now();
        let mut breaker = opened_by([A, A, A], now);
        assert_eq!(breaker.admission(now, Some(A)), Admission::NotBefore(now + FIRST), "the one that failed");
        assert_eq!(breaker.admission(now, None), Admission::NotBefore(now + FIRST), "a retry");
        fail_probe(&mut breaker, B, true, now);
        // Now it is more than one lane that fails.
        assert_eq!(breaker.admission(now, None), Admission::NotBefore(now + FIRST));
        for stranger in 3..8 {
            fail_probe(&mut breaker, Origin(stranger), true, now);
        }
        assert_eq!(breaker.admission(now, Some(Origin(9))), Admission::NotBefore(now + FIRST));
        fail_probe(&mut breaker, Origin(9), true, now + FIRST);
        assert_eq!(breaker.admission(now, None), Admission::NotBefore(now + FIRST * 3));
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let now = Instant::now();
        let mut breaker = opened_by([A, B, A], now);
        assert_eq!(breaker.succeeded(false), Change::None);
        assert_eq!(breaker.failed(false, A, 9, 9, now + FIRST / 2), Change::None);
        assert_eq!(breaker.admission(now, None), Admission::NotBefore(now + FIRST));
    }

    #[test]
    fn an_abandoned_probe_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = opened_by([A, B, A], now);
        let later = now + FIRST;
        breaker.probe_begins(later);
        breaker.abandoned(later);
        assert_eq!(breaker.admission(later, None), Admission::Probe);
    }

    #[test]
    fn an_early_probe_that_is_abandoned_leaves_the_regular_one_when_it_was_due() {
        let now = Instant::now();
        let mut breaker = opened_by([A, B, A], now);
        assert_eq!(breaker.admission(now, Some(Origin(3))), Admission::Probe);
        breaker.probe_begins(now);
        breaker.abandoned(now);
        assert_eq!(breaker.admission(now, None), Admission::NotBefore(now + FIRST));
        assert_eq!(breaker.admission(now, Some(Origin(3))), Admission::Probe);
    }

    #[test]
    fn a_threshold_of_zero_turns_it_off() {
        let now = Instant::now();
        let mut breaker = Breaker::new(0, FIRST, COOL_DOWN);
        assert!(fail(&mut breaker, &[A; 1000], now).iter().all(|change| *change == Change::None));
        assert_eq!(breaker.admission(now, None), Admission::Go);
    }
}
