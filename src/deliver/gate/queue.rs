//! The queue of a gate, which decides who is next.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::asking::{Asking, Refused};
use crate::{
    config::Config,
    deliver::{
        breaker::{Admission, Breaker},
        rate::Rate,
        slots::Slots,
    },
};

/// The shortest time for which a retry stays away while a probe is in flight.
const AFTER_PROBE: Duration = Duration::from_millis(100);

/// What a gate knows about its endpoint, and who waits.
#[derive(Debug)]
pub(super) struct State {
    pub(super) breaker: Breaker,
    pub(super) paused_until: Option<Instant>,
    /// Whether an operator paused the endpoint, until the operator resumes it.
    pub(super) held: bool,
    rate: Rate,
    pub(super) slots: Slots,
    queue: VecDeque<Waiter>,
    /// How many have ever waited; numbers the waiters.
    waited: u64,
    /// How many attempts have begun.
    pub(super) begun: u64,
}

/// An attempt that waits.
#[derive(Debug)]
struct Waiter {
    number: u64,
    asking: Asking,
    deadline: Instant,
    /// Notified when it may be next.
    woken: Arc<Notify>,
}

/// The gate's reply to an attempt that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may begin, as a probe or not.
    Go { probe: bool },
    /// It is next, but not before this time.
    NotBefore(Instant),
    /// It is woken when it may be next.
    Later,
}

impl State {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            breaker: Breaker::new(
                config.circuit_breaker.failure_threshold,
                config.retry.delay,
                config.circuit_breaker.cool_down,
            ),
            paused_until: None,
            held: false,
            rate: Rate::new(&config.rate_limit),
            slots: Slots::new(config.concurrency),
            queue: VecDeque::new(),
            waited: 0,
            begun: 0,
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Begins an attempt, as a probe or not: takes a slot and tokens for it. Returns its number among all attempts.
    pub(super) fn begin(&mut self, asking: &Asking, probe: bool, now: Instant) -> u64 {
        self.slots.take();
        self.rate.charge(asking.messages, asking.bytes, now);
        if probe {
            self.breaker.probe_begins(now);
        }
        self.begun += 1;
        self.begun
    }

    pub(super) fn queue_up(&mut self, asking: Asking, deadline: Instant) -> (u64, Arc<Notify>) {
        self.waited += 1;
        let (number, woken) = (self.waited, Arc::<Notify>::default());
        self.queue.push_back(Waiter { number, asking, deadline, woken: woken.clone() });
        (number, woken)
    }

    /// Removes one that waited.
    pub(super) fn leave(&mut self, number: u64, now: Instant) {
        if let Some(index) = self.queue.iter().position(|waiter| waiter.number == number) {
            self.queue.remove(index);
        }
        self.wake(now);
    }

    /// The verdict on an attempt while nobody waits.
    pub(super) fn alone(&self, asking: &Asking, deadline: Instant, now: Instant) -> Verdict {
        if self.stands_open(asking, deadline, now) {
            self.next(asking, deadline, now)
        } else {
            Verdict::Later
        }
    }

    /// The verdict on one that waits.
    pub(super) fn verdict(&self, number: u64, now: Instant) -> Verdict {
        match self.first(now) {
            Some(waiter) if waiter.number == number => self.next(&waiter.asking, waiter.deadline, now),
            Some(waiter) => {
                // The one that waited on behalf of all is not always the one that begins.
                waiter.woken.notify_one();
                Verdict::Later
            }
            None => match self.queue.front() {
                Some(front) if front.number == number => {
                    let breaker = match self.breaker.admission(now, front.asking.stranger()) {
                        Admission::NotBefore(time) => Some(time),
                        Admission::Go | Admission::Probe | Admission::AfterProbe => None,
                    };
                    breaker
                        .max(self.paused_until)
                        .filter(|time| *time > now)
                        .map_or(Verdict::Later, Verdict::NotBefore)
                }
                _ => Verdict::Later,
            },
        }
    }

    /// The verdict on the first, if there is room.
    fn next(&self, asking: &Asking, deadline: Instant, now: Instant) -> Verdict {
        if !self.slots.is_free(now) {
            return Verdict::Later;
        }
        let last_chance = asking.tried && deadline <= now;
        match self.rate.not_before() {
            Some(time) if time > now && !last_chance => Verdict::NotBefore(time),
            _ => Verdict::Go { probe: self.breaker.admission(now, asking.stranger()) == Admission::Probe },
        }
    }

    /// Whether neither a pause nor the breaker holds it now. At its deadline an attempt is due, whatever pause the endpoint
    /// asked for; a retry is due only if a pause held it.
    fn stands_open(&self, asking: &Asking, deadline: Instant, now: Instant) -> bool {
        let paused = self.held || self.paused_until.is_some_and(|until| until > now);
        let over = deadline <= now;
        let kept_by_pause = if over { asking.tried && !paused } else { paused };
        !kept_by_pause && self.breaker.admission(now, asking.stranger()).goes()
    }

    /// Returns when a retry that the breaker or a pause holds now should come back: waiting here, it would only take memory
    /// from first attempts.
    pub(super) fn later(&self, asking: &Asking, deadline: Instant, now: Instant) -> Option<Refused> {
        if !(asking.parks && asking.tried) || deadline <= now || self.stands_open(asking, deadline, now) {
            return None;
        }
        let breaker = match self.breaker.admission(now, None) {
            Admission::NotBefore(time) => Some(time),
            // The end of a probe wakes it, except if the probe is aborted: then it asks once more.
            Admission::AfterProbe => Some(now + self.breaker.wait().max(AFTER_PROBE)),
            Admission::Go | Admission::Probe => None,
        };
        let paused = self.paused_until.filter(|until| *until > now);
        let until = breaker.max(paused)?.min(deadline);
        Some(Refused::Later { until, for_breaker: breaker.is_some() && paused.is_none() })
    }

    /// Returns the one that is next.
    ///
    /// A retry is a poor probe: if many messages always fail, each would be the probe once, and keep the breaker open for all
    /// others. So the probe is a first attempt, if there is one, and of these the latest: the others were there when the
    /// breaker opened, and are more likely to fail as well.
    fn first(&self, now: Instant) -> Option<&Waiter> {
        let mut open =
            self.queue.iter().filter(|waiter| self.stands_open(&waiter.asking, waiter.deadline, now));
        let first = open.next()?;
        if self.breaker.is_closed() {
            return Some(first);
        }
        Some(open.rfind(|waiter| !waiter.asking.tried).unwrap_or(first))
    }

    /// Wakes the one that is next, or else the first, which waits on behalf of all.
    pub(super) fn wake(&self, now: Instant) {
        match self.first(now) {
            // It is woken when a slot is given back.
            Some(_) if !self.slots.is_free(now) => {}
            Some(waiter) => waiter.woken.notify_one(),
            None => {
                if let Some(front) = self.queue.front() {
                    front.woken.notify_one();
                }
            }
        }
    }

    /// Wakes the retries that can come back later instead of waiting here.
    pub(super) fn wake_those_that_park(&self) {
        for waiter in self.queue.iter().filter(|waiter| waiter.asking.parks && waiter.asking.tried) {
            waiter.woken.notify_one();
        }
    }
}
