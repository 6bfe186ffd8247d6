//! What an attempt passes on its way out. All lanes of an endpoint pass the same gate.
//!
//! It is one queue, first come first served: an attempt that failed comes again at its end, so that a message that
//! always fails delays its own lane alone. The breaker, a pause that the endpoint asked for, the rate and the slots are
//! policies that know no clock and wait for nothing; whoever is next in the queue does the waiting for them.

mod control;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use twox_hash::XxHash3_64;

pub(crate) use self::control::{BreakerState, GateState};
use super::{
    adaptive::Load,
    breaker::{Admission, Breaker, Change},
    classify::Class,
    patience::{Ended, Patience},
    rate::Pace,
    slots::Slots,
};
use crate::config::Config;

/// How long one that comes again stays away at least while a probe is on its way.
const AFTER_PROBE: Duration = Duration::from_millis(100);

/// The gate of one endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    /// Counts how often the breaker has closed.
    closed: watch::Sender<u64>,
    /// Counts how often an operator asked to retry now.
    retries_now: watch::Sender<u64>,
}

/// Where messages come from: what is of one lane has one origin. It tells an endpoint that is away from one that
/// refuses the messages of a single lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(pub(super) u64);

/// An attempt that asks for leave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) origin: Origin,
    /// Whether an attempt before it has failed.
    pub(super) tried: bool,
    /// Whether its messages are kept elsewhere, so that it comes again in place of waiting here for long.
    pub(super) parks: bool,
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// Leave for one attempt. It must be told how the attempt ended; when it is dropped instead, the
/// attempt was broken off.
#[derive(Debug)]
pub(super) struct Pass<'g> {
    gate: &'g Gate,
    origin: Origin,
    pub(super) probe: bool,
    began: Instant,
    /// Its place in the order of all attempts.
    number: u64,
    given_back: bool,
}

/// Why an attempt does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The deadline is over, and waiting would have to go on.
    Deadline,
    /// The deadline is over, and the breaker is open.
    BreakerOpen,
    /// The connector is closed.
    Closed,
    /// It is to come again.
    Later {
        until: Instant,
        /// It may come earlier once the breaker has closed.
        for_breaker: bool,
    },
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    paused_until: Option<Instant>,
    /// Whether an operator paused the endpoint, until the operator resumes it.
    held: bool,
    rate: Rate,
    slots: Slots,
    queue: VecDeque<Waiter>,
    /// How many have ever waited; it numbers them.
    waited: u64,
    /// How many attempts have begun.
    begun: u64,
}

#[derive(Debug)]
struct Rate {
    requests: Option<Pace>,
    messages: Option<Pace>,
    bytes: Option<Pace>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    asking: Asking,
    deadline: Instant,
    /// Told when it may be its turn.
    woken: Arc<Notify>,
}

/// What the gate says to one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It goes, as a probe or not.
    Go { probe: bool },
    /// It is next, and not before this time.
    NotBefore(Instant),
    /// Somebody wakes it when it may be its turn.
    Later,
}

impl Gate {
    pub(super) fn new(config: &Config) -> Self {
        let state = State {
            breaker: Breaker::new(
                config.circuit_breaker.failure_threshold,
                config.retry.delay,
                config.circuit_breaker.cool_down,
            ),
            paused_until: None,
            held: false,
            rate: Rate {
                requests: Pace::limited_to(config.rate_limit.requests_per_second),
                messages: Pace::limited_to(config.rate_limit.messages_per_second),
                bytes: Pace::limited_to(config.rate_limit.bytes_per_second),
            },
            slots: Slots::new(config.concurrency),
            queue: VecDeque::new(),
            waited: 0,
            begun: 0,
        };
        Self { state: Mutex::new(state), closed: watch::Sender::new(0), retries_now: watch::Sender::new(0) }
    }

    /// Waits until an attempt may begin.
    ///
    /// With the deadline over, what was tried is refused unless only a pause kept it: then it has its last attempt. What was
    /// not tried yet waits on for the rate and a slot, since behind them is an endpoint at work, but for no breaker.
    pub(super) async fn enter(&self, patience: &mut Patience, asking: Asking) -> Result<Pass<'_>, Refused> {
        let now = Instant::now();
        if patience.is_stopped(now) {
            return Err(Refused::Closed);
        }
        let (number, woken) = {
            let mut state = self.lock();
            if state.queue.is_empty()
                && let Verdict::Go { probe } = state.alone(&asking, patience.deadline(), now)
            {
                return Ok(self.pass(&mut state, &asking, probe, now));
            }
            if let Some(later) = state.later(&asking, patience.deadline(), now) {
                return Err(later);
            }
            state.queue_up(asking, patience.deadline())
        };
        let queued = Queued { gate: self, number };
        loop {
            let now = Instant::now();
            let over = patience.deadline() <= now;
            let verdict = {
                let mut state = self.lock();
                let verdict = state.verdict(queued.number, now);
                if let Verdict::Go { probe } = verdict {
                    let pass = self.pass(&mut state, &asking, probe, now);
                    drop(state);
                    // Leaving the queue wakes the next.
                    drop(queued);
                    return Ok(pass);
                }
                if over {
                    if !state.breaker.look(now, asking.stranger()).goes() {
                        return Err(Refused::BreakerOpen);
                    }
                    if asking.tried {
                        return Err(Refused::Deadline);
                    }
                }
                if let Some(later) = state.later(&asking, patience.deadline(), now) {
                    return Err(later);
                }
                verdict
            };
            let ended = if let Verdict::NotBefore(time) = verdict {
                let time = if over { time } else { time.min(patience.deadline()) };
                tokio::select! {
                    waited = patience.wait_beyond(time) => waited.err(),
                    () = woken.notified() => None,
                }
            } else {
                tokio::select! {
                    biased;
                    ended = patience.ended(!over) => Some(ended),
                    () = woken.notified() => None,
                }
            };
            if ended == Some(Ended::Closed) {
                return Err(Refused::Closed);
            }
        }
    }

    /// Why an attempt at what was not tried yet would be refused now, without a wait.
    pub(super) fn refuses(&self, patience: &Patience) -> Option<Refused> {
        let now = Instant::now();
        if patience.is_stopped(now) {
            return Some(Refused::Closed);
        }
        let open = patience.deadline() <= now && !self.lock().breaker.look(now, None).goes();
        open.then_some(Refused::BreakerOpen)
    }

    /// Changes whenever the breaker has closed.
    pub(super) fn closed(&self) -> watch::Receiver<u64> {
        self.closed.subscribe()
    }

    /// Leave to go now.
    fn pass(&self, state: &mut State, asking: &Asking, probe: bool, now: Instant) -> Pass<'_> {
        state.slots.take();
        state.rate.charge(asking, now);
        if probe {
            state.breaker.probe_begins(now);
        }
        state.begun += 1;
        let (number, origin) = (state.begun, asking.origin);
        Pass { gate: self, origin, probe, began: now, number, given_back: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    /// What is of one partition of a topic.
    pub(crate) fn of_partition(stream: &str, topic: &str, partition: u32) -> Self {
        let of_stream = XxHash3_64::oneshot_with_seed(partition.into(), stream.as_bytes());
        Self(XxHash3_64::oneshot_with_seed(of_stream, topic.as_bytes()))
    }

    /// What is of no other lane.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

impl Asking {
    /// The origin whose failures say nothing about it, if it has not failed itself.
    fn stranger(&self) -> Option<Origin> {
        (!self.tried).then_some(self.origin)
    }
}

impl State {
    fn queue_up(&mut self, asking: Asking, deadline: Instant) -> (u64, Arc<Notify>) {
        self.waited += 1;
        let (number, woken) = (self.waited, Arc::<Notify>::default());
        self.queue.push_back(Waiter { number, asking, deadline, woken: woken.clone() });
        (number, woken)
    }

    /// The verdict on one beside whom nobody waits.
    fn alone(&self, asking: &Asking, deadline: Instant, now: Instant) -> Verdict {
        if self.stands_open(asking, deadline, now) {
            self.next(asking, deadline, now)
        } else {
            Verdict::Later
        }
    }

    /// The verdict on one that waits.
    fn verdict(&self, number: u64, now: Instant) -> Verdict {
        match self.first(now) {
            Some(waiter) if waiter.number == number => self.next(&waiter.asking, waiter.deadline, now),
            Some(waiter) => {
                // Whoever did the waiting for all is not always the one that goes.
                waiter.woken.notify_one();
                Verdict::Later
            }
            None => match self.queue.front() {
                Some(front) if front.number == number => {
                    let breaker = match self.breaker.look(now, front.asking.stranger()) {
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

    /// The verdict on one whose turn it is, if there is room.
    fn next(&self, asking: &Asking, deadline: Instant, now: Instant) -> Verdict {
        if !self.slots.is_free(now) {
            return Verdict::Later;
        }
        let last_chance = asking.tried && deadline <= now;
        match self.rate.not_before() {
            Some(time) if time > now && !last_chance => Verdict::NotBefore(time),
            _ => Verdict::Go { probe: self.breaker.look(now, asking.stranger()) == Admission::Probe },
        }
    }

    /// Whether neither a pause nor the breaker keeps it now. With its deadline an attempt is due, whatever the endpoint
    /// asked for; what was tried has one only where a pause kept it.
    fn stands_open(&self, asking: &Asking, deadline: Instant, now: Instant) -> bool {
        let paused = self.held || self.paused_until.is_some_and(|until| until > now);
        let over = deadline <= now;
        let kept_by_pause = if over { asking.tried && !paused } else { paused };
        !kept_by_pause && self.breaker.look(now, asking.stranger()).goes()
    }

    /// Where one that failed before is to come again, since the breaker or a pause keeps it now: it would only take the
    /// memory of those that have not failed.
    fn later(&self, asking: &Asking, deadline: Instant, now: Instant) -> Option<Refused> {
        if !(asking.parks && asking.tried) || deadline <= now || self.stands_open(asking, deadline, now) {
            return None;
        }
        let breaker = match self.breaker.look(now, None) {
            Admission::NotBefore(time) => Some(time),
            // Its end is told; where it is not, as when the probe is broken off, it is looked at again.
            Admission::AfterProbe => Some(now + self.breaker.wait().max(AFTER_PROBE)),
            Admission::Go | Admission::Probe => None,
        };
        let paused = self.paused_until.filter(|until| *until > now);
        let until = breaker.max(paused)?.min(deadline);
        Some(Refused::Later { until, for_breaker: breaker.is_some() && paused.is_none() })
    }

    /// Whose turn it is.
    ///
    /// A probe that failed before says little: where many messages fail for ever, each would take its turn, and keep the
    /// breaker open for all others. So a probe is one that has not failed, where there is one, and the last that came: those
    /// that stood before it when others failed are the likelier to fail as well.
    fn first(&self, now: Instant) -> Option<&Waiter> {
        let mut open =
            self.queue.iter().filter(|waiter| self.stands_open(&waiter.asking, waiter.deadline, now));
        let first = open.next()?;
        if self.breaker.is_closed() {
            return Some(first);
        }
        Some(open.rfind(|waiter| !waiter.asking.tried).unwrap_or(first))
    }

    /// Wakes whose turn it is, or else the one that does the waiting for all.
    fn wake(&self, now: Instant) {
        match self.first(now) {
            // Whoever gives a slot back wakes it.
            Some(_) if !self.slots.is_free(now) => {}
            Some(waiter) => waiter.woken.notify_one(),
            None => {
                if let Some(front) = self.queue.front() {
                    front.woken.notify_one();
                }
            }
        }
    }
}

impl State {
    /// Whoever comes again later need not stay.
    fn wake_those_that_park(&self) {
        for waiter in self.queue.iter().filter(|waiter| waiter.asking.parks && waiter.asking.tried) {
            waiter.woken.notify_one();
        }
    }
}

impl Rate {
    fn all(&self) -> impl Iterator<Item = &Pace> {
        [&self.requests, &self.messages, &self.bytes].into_iter().flatten()
    }

    /// The time at which the next may go.
    fn not_before(&self) -> Option<Instant> {
        self.all().filter_map(Pace::not_before).max()
    }

    fn charge(&mut self, asking: &Asking, now: Instant) {
        let Self { requests, messages, bytes } = self;
        for (pace, cost) in [(requests, 1), (messages, asking.messages), (bytes, asking.bytes)] {
            if let Some(pace) = pace {
                pace.charge(cost, now);
            }
        }
    }
}

/// A place in the queue, left when dropped.
struct Queued<'g> {
    gate: &'g Gate,
    number: u64,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if let Some(index) = state.queue.iter().position(|waiter| waiter.number == self.number) {
            state.queue.remove(index);
        }
        state.wake(Instant::now());
    }
}

impl Pass<'_> {
    /// The attempt ended. A wait that the endpoint asked for pauses all lanes.
    pub(super) fn ended(mut self, class: Class, asked: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.gate.lock();
        if let Some(until) = asked.and_then(|asked| now.checked_add(asked)) {
            state.paused_until = state.paused_until.max(Some(until));
        }
        let load = match class {
            Class::Throttled | Class::TimedOut => Load::Refused,
            Class::Success => Load::Answered(now.saturating_duration_since(self.began)),
            _ => Load::Unknown,
        };
        state.slots.ended(load, now);
        let change = if class == Class::Stale {
            // Nothing was heard of the endpoint. Giving the pass back makes room for another probe.
            Change::None
        } else if class.is_transient() && (asked.is_none() || self.probe)
            || class == Class::Hold && self.probe
        {
            // A probe that is put off has not found the endpoint back.
            let begun = state.begun;
            state.breaker.failed(self.probe, self.origin, self.number, begun, now)
        } else {
            // An endpoint that says when to come back is alive, and so is one that refuses for good.
            state.breaker.succeeded(self.probe)
        };
        if change == Change::Closed {
            self.gate.closed.send_modify(|times| *times += 1);
        }
        if change == Change::Opened || asked.is_some() {
            state.wake_those_that_park();
        }
        self.probe &= class == Class::Stale;
        self.give_back(&mut state, now);
    }

    /// This machine had no room for the attempt, so that fewer go at once from now on. Says how many, where that is worth a
    /// line of the log.
    pub(super) fn fell_short(mut self) -> Option<usize> {
        let now = Instant::now();
        let mut state = self.gate.lock();
        let told = state.slots.fell_short(now);
        self.give_back(&mut state, now);
        told
    }

    fn give_back(&mut self, state: &mut State, now: Instant) {
        self.given_back = true;
        state.slots.give_back();
        if self.probe {
            state.breaker.abandoned(now);
        }
        state.wake(now);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.given_back {
            let gate = self.gate;
            self.give_back(&mut gate.lock(), Instant::now());
        }
    }
}
