//! The circuit breaker as a state machine: it is told what happened and when, and says whether a
//! request may go. It waits for nothing and knows no clock; the [gate](super::gate) does and has.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Opens after so many transient failures in a row, lets one probe through after a while, and
/// closes when it succeeds.
#[derive(Debug)]
pub(super) struct Breaker {
    /// `None`: it never opens.
    threshold: Option<NonZeroU32>,
    cool_down: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
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

impl Breaker {
    pub(super) fn new(failure_threshold: u32, cool_down: Duration) -> Self {
        let threshold = NonZeroU32::new(failure_threshold);
        Self { threshold, cool_down, state: State::Closed { failures: 0 } }
    }

    /// Whether a request could go now.
    pub(super) fn look(&self, now: Instant) -> Admission {
        match self.state {
            State::Closed { .. } => Admission::Go,
            State::Open { until } if now < until => Admission::NotBefore(until),
            State::Open { .. } => Admission::Probe,
            State::HalfOpen => Admission::AfterProbe,
        }
    }

    /// Lets a request go now, if it may. One that is told [`Admission::Probe`] must report its end.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        let admission = self.look(now);
        if admission == Admission::Probe {
            self.state = State::HalfOpen;
        }
        admission
    }

    /// The endpoint answered, and not with a transient failure.
    pub(super) fn succeeded(&mut self, probe: bool) -> Change {
        match self.state {
            State::Closed { .. } => {
                self.state = State::Closed { failures: 0 };
                Change::None
            }
            // What was sent before it opened says nothing about now.
            State::Open { .. } | State::HalfOpen if !probe => Change::None,
            State::Open { .. } | State::HalfOpen => {
                self.state = State::Closed { failures: 0 };
                Change::Closed
            }
        }
    }

    /// A transient failure.
    pub(super) fn failed(&mut self, probe: bool, now: Instant) -> Change {
        let Some(threshold) = self.threshold else { return Change::None };
        match self.state {
            State::Closed { failures } if failures + 1 < threshold.get() => {
                self.state = State::Closed { failures: failures + 1 };
                Change::None
            }
            State::Open { .. } | State::HalfOpen if !probe => Change::None,
            State::Closed { .. } | State::Open { .. } | State::HalfOpen => {
                self.state = State::Open { until: now + self.cool_down };
                Change::Opened
            }
        }
    }

    /// The probe ended without a word about the endpoint: the next request is one in its place.
    pub(super) fn abandoned(&mut self, now: Instant) {
        if self.state == State::HalfOpen {
            self.state = State::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOL_DOWN: Duration = Duration::from_secs(30);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(3, COOL_DOWN);
        assert_eq!(breaker.failed(false, now), Change::None);
        assert_eq!(breaker.failed(false, now), Change::None);
        assert_eq!(breaker.failed(false, now), Change::Opened);
        breaker
    }

    #[test]
    fn opens_after_the_threshold_of_failures_in_a_row() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now), Admission::NotBefore(now + COOL_DOWN));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::new(2, COOL_DOWN);
        for _ in 0..10 {
            assert_eq!(breaker.failed(false, now), Change::None);
            assert_eq!(breaker.succeeded(false), Change::None);
        }
        assert_eq!(breaker.admit(now), Admission::Go);
    }

    #[test]
    fn lets_one_probe_through_and_closes_when_it_succeeds() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + COOL_DOWN;
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert_eq!(breaker.admit(later), Admission::AfterProbe);
        assert_eq!(breaker.succeeded(true), Change::Closed);
        assert_eq!(breaker.admit(later), Admission::Go);
    }

    #[test]
    fn a_failed_probe_opens_it_again_for_the_whole_time() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + COOL_DOWN;
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert_eq!(breaker.failed(true, later), Change::Opened);
        assert_eq!(breaker.admit(later), Admission::NotBefore(later + COOL_DOWN));
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.succeeded(false), Change::None);
        assert_eq!(breaker.failed(false, now + COOL_DOWN / 2), Change::None);
        assert_eq!(breaker.admit(now), Admission::NotBefore(now + COOL_DOWN));
    }

    #[test]
    fn an_abandoned_probe_makes_room_for_the_next() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + COOL_DOWN;
        assert_eq!(breaker.admit(later), Admission::Probe);
        breaker.abandoned(later);
        assert_eq!(breaker.admit(later), Admission::Probe);
    }

    #[test]
    fn a_threshold_of_zero_turns_it_off() {
        let now = Instant::now();
        let mut breaker = Breaker::new(0, COOL_DOWN);
        for _ in 0..1000 {
            assert_eq!(breaker.failed(false, now), Change::None);
        }
        assert_eq!(breaker.admit(now), Admission::Go);
    }
}
