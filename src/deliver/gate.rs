//! What an attempt passes on its way out: the breaker, a pause that the endpoint asked for, the
//! rate, and a slot. All lanes of an endpoint pass the same gate.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use super::{
    adaptive::Load,
    breaker::{Admission, Breaker, Change},
    classify::Class,
    patience::{Ended, Patience},
    rate::Pace,
    slots::{Slot, Slots},
};
use crate::config::Config;

/// The gate of one endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    breaker: Mutex<Breaker>,
    /// Told whenever the breaker changed.
    breaker_changed: Notify,
    paused_until: Mutex<Option<Instant>>,
    rate: Mutex<Rate>,
    slots: Slots,
    label: String,
}

#[derive(Debug)]
struct Rate {
    requests: Option<Pace>,
    messages: Option<Pace>,
    bytes: Option<Pace>,
}

/// Leave for one attempt. It must be told how the attempt ended; when it is dropped instead, the
/// attempt was broken off.
#[derive(Debug)]
pub(super) struct Pass<'g> {
    gate: &'g Gate,
    slot: Option<Slot<'g>>,
    pub(super) probe: bool,
    began: Instant,
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
}

impl Gate {
    pub(super) fn new(config: &Config, label: String) -> Self {
        Self {
            breaker: Mutex::new(Breaker::new(
                config.circuit_breaker.failure_threshold,
                config.circuit_breaker.cool_down,
            )),
            breaker_changed: Notify::new(),
            paused_until: Mutex::new(None),
            rate: Mutex::new(Rate {
                requests: Pace::limited_to(config.rate_limit.requests_per_second),
                messages: Pace::limited_to(config.rate_limit.messages_per_second),
                bytes: Pace::limited_to(config.rate_limit.bytes_per_second),
            }),
            slots: Slots::new(config.concurrency),
            label,
        }
    }

    /// Waits until an attempt with so many messages and bytes may begin.
    ///
    /// For messages that were `tried`, no wait goes beyond the deadline. For others a wait for the
    /// rate or a slot may, since behind it is an endpoint at work; so may none for the breaker.
    pub(super) async fn enter(
        &self,
        patience: &mut Patience,
        tried: bool,
        messages: usize,
        bytes: usize,
    ) -> Result<Pass<'_>, Refused> {
        let mut placed = false;
        loop {
            if self.paused(patience, tried).await? | self.closed_breaker(patience).await? {
                // Its place in time has passed without it.
                placed = false;
            }
            let slot = tokio::select! {
                biased;
                ended = patience.ended(tried) => return Err(match ended {
                    Ended::Deadline => Refused::Deadline,
                    Ended::Closed => Refused::Closed,
                }),
                slot = self.slots.take() => slot,
            };
            // The wait for a slot can have been long; from here to the request there is none.
            let now = Instant::now();
            if (tried || !patience.over()) && self.pause().is_some_and(|until| until > now) {
                continue;
            }
            if !placed {
                placed = true;
                let place = self.place(messages, bytes, now);
                if place > now {
                    drop(slot);
                    let waited = if tried {
                        patience.wait_until(place).await
                    } else {
                        patience.wait_beyond(place).await
                    };
                    match waited {
                        Ok(()) => continue,
                        Err(Ended::Deadline) => return Err(Refused::Deadline),
                        Err(Ended::Closed) => return Err(Refused::Closed),
                    }
                }
            }
            let probe = match lock(&self.breaker).admit(now) {
                Admission::Go => false,
                Admission::Probe => true,
                Admission::NotBefore(_) | Admission::AfterProbe => continue,
            };
            return Ok(Pass { gate: self, slot: Some(slot), probe, began: now });
        }
    }

    /// Waits out a pause that the endpoint asked for; whether there was one.
    async fn paused(&self, patience: &mut Patience, tried: bool) -> Result<bool, Refused> {
        let mut waited = false;
        while let Some(until) = self.pause() {
            match patience.wait_until(until).await {
                Ok(()) => {
                    waited = true;
                    let mut paused_until = lock(&self.paused_until);
                    if *paused_until == Some(until) {
                        *paused_until = None;
                    }
                }
                // With the deadline its one attempt is due, whatever the endpoint would like.
                Err(Ended::Deadline) if !tried => {
                    waited |= !patience.over();
                    return if patience.ended(true).await == Ended::Deadline {
                        Ok(waited)
                    } else {
                        Err(Refused::Closed)
                    };
                }
                Err(Ended::Deadline) => return Err(Refused::Deadline),
                Err(Ended::Closed) => return Err(Refused::Closed),
            }
        }
        Ok(waited)
    }

    /// Waits until the breaker lets somebody through; whether that took a wait.
    async fn closed_breaker(&self, patience: &mut Patience) -> Result<bool, Refused> {
        let mut waited_for_it = false;
        loop {
            // Asked for before the look at the breaker, so that no change in between is missed.
            let changed = self.breaker_changed.notified();
            let not_before = match lock(&self.breaker).look(Instant::now()) {
                Admission::Go | Admission::Probe => return Ok(waited_for_it),
                Admission::NotBefore(until) => Some(until),
                Admission::AfterProbe => None,
            };
            let waited = if let Some(until) = not_before {
                tokio::select! {
                    waited = patience.wait_until(until) => waited,
                    () = changed => Ok(()),
                }
            } else {
                tokio::select! {
                    biased;
                    ended = patience.ended(true) => Err(ended),
                    () = changed => Ok(()),
                }
            };
            waited_for_it = true;
            match waited {
                Ok(()) => {}
                Err(Ended::Deadline) => return Err(Refused::BreakerOpen),
                Err(Ended::Closed) => return Err(Refused::Closed),
            }
        }
    }

    fn pause(&self) -> Option<Instant> {
        *lock(&self.paused_until)
    }

    /// The time at which so much may go.
    fn place(&self, messages: usize, bytes: usize, now: Instant) -> Instant {
        let mut rate = lock(&self.rate);
        let Rate { requests, messages: by_messages, bytes: by_bytes } = &mut *rate;
        [(requests, 1), (by_messages, messages), (by_bytes, bytes)]
            .into_iter()
            .filter_map(|(pace, cost)| Some(pace.as_mut()?.place(cost, now)))
            .max()
            .unwrap_or(now)
    }
}

impl Pass<'_> {
    /// The attempt ended. A wait that the endpoint asked for pauses all lanes.
    pub(super) fn ended(mut self, class: Class, asked: Option<Duration>) {
        let now = Instant::now();
        let gate = self.gate;
        if let Some(until) = asked.and_then(|asked| now.checked_add(asked)) {
            let mut paused_until = lock(&gate.paused_until);
            if paused_until.is_none_or(|other| until > other) {
                *paused_until = Some(until);
            }
        }
        if let Some(slot) = self.slot.take() {
            slot.ended(match class {
                Class::Throttled | Class::TimedOut => Load::Refused,
                Class::Success => Load::Answered(now.saturating_duration_since(self.began)),
                _ => Load::Unknown,
            });
        }
        let change = {
            let mut breaker = lock(&gate.breaker);
            if class == Class::Stale {
                // Nothing was heard of the endpoint. Dropping the pass makes room for another probe.
                Change::None
            } else if class.is_transient() && (asked.is_none() || self.probe)
                || class == Class::Hold && self.probe
            {
                // A probe that is put off has not found the endpoint back.
                breaker.failed(self.probe, now)
            } else {
                // An endpoint that says when to come back is alive, and so is one that refuses for good.
                breaker.succeeded(self.probe)
            }
        };
        match change {
            Change::None => {}
            Change::Opened if self.probe => {}
            Change::Opened => warn!("{} keeps failing: requests wait until it is back", gate.label),
            Change::Closed => info!("{} is back", gate.label),
        }
        self.probe &= class == Class::Stale;
        gate.breaker_changed.notify_waiters();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            lock(&self.gate.breaker).abandoned(Instant::now());
            self.gate.breaker_changed.notify_waiters();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
