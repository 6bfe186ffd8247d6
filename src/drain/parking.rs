//! Delivers a lane without an order, or ordered by key: messages that have to be sent again are parked, and all others
//! continue.

use std::{collections::BTreeSet, sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;
use tracing::error;

use super::{
    lanes::{Lanes, UNWRITTEN, WAITS},
    parked::Together,
    progress::{Selection, Shared},
    unit::{Message, Unit},
    window::{Backlog, Index, Window},
};
use crate::{
    deliver::{Parked as Until, RetryState},
    plan::{self, Before},
    settle::Account,
    spool::{LaneKey, SpoolError},
    telemetry::LaneWait,
};

/// How many bodies are taken together if there are enough messages: the last of them may not be full.
const BODIES: usize = 4;

/// What was read from a lane, and the rest of it.
struct Read {
    backlog: Backlog,
    window: Result<Option<Window>, SpoolError>,
}

/// How records ended, or some messages of them.
#[derive(Default)]
struct Ended {
    /// The group that they are parked in, if they have to be sent again.
    group: u64,
    index: Index,
    /// If keys are kept in order: the key of each message, and the bodies that they were sent in before.
    keys: Vec<u64>,
    bodies: Vec<Vec<usize>>,
    account: Account,
    failed: Option<Failed>,
}

/// A failure of whole records, and which of their messages must be sent nevertheless.
struct Failed {
    why: SpoolError,
    units: Vec<Unit>,
}

impl Lanes {
    /// Delivers what is stored in a lane until there is nothing left, or the connector is being closed.
    pub(super) async fn deliver_side_by_side(&self, lane: &LaneKey) {
        let terms = self.terms(lane);
        let bodies_fill = terms.body.mode.batches();
        // One more is kept ready for a free slot; but a body that is made early cannot fill any further.
        let at_once = terms.concurrency.max().get() + usize::from(!bodies_fill);
        let shared = Shared::default();
        let mut counted = Counted { lanes: self, messages: 0 };
        let mut version = self.spool.subscribe();
        let mut breaker_closed = self.pipeline.routes().breaker_closed(lane.stream(), lane.topic());
        let mut retries_now = self.pipeline.routes().retries_now(lane.stream(), lane.topic());
        let mut given_up = self.pipeline.counters.heads_given_up();
        let mut windows: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
        let mut units: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
        let mut reading: Option<BoxFuture<'_, Read>> = None;
        let (mut backlog, mut read_all, mut read_pause) = (Backlog::default(), false, Duration::ZERO);
        let mut wait = Wait::default();
        while !self.pipeline.is_closing() {
            let now = Instant::now();
            self.resend_due(lane, now, at_once, windows.is_empty(), &shared, &mut units);
            counted.set(shared.lock().known());
            if reading.is_none() && !read_all && windows.len() < at_once && self.may_park_more() {
                let (mut backlog, pause) = (std::mem::take(&mut backlog), std::mem::take(&mut read_pause));
                let read = async move {
                    tokio::time::sleep(pause).await;
                    let window = self.next_window(lane, &mut backlog, BODIES).await;
                    Read { backlog, window }
                };
                reading = Some(read.boxed());
            }
            let idle =
                reading.is_none() && windows.is_empty() && units.is_empty() && shared.lock().is_empty();
            if idle && read_all {
                return;
            }
            let next_due = shared.lock().next_due().filter(|_| units.len() < at_once);
            let due = async { tokio::time::sleep_until(next_due.unwrap_or(now)).await };
            tokio::select! {
                biased;
                () = self.pipeline.closing() => break,
                Some(ended) = units.next() => self.absorb(lane, ended, &shared, &mut wait),
                Some(ended) = windows.next() => self.absorb(lane, ended, &shared, &mut wait),
                read = async { reading.as_mut().expect("checked").await }, if reading.is_some() => {
                    reading = None;
                    backlog = read.backlog;
                    match read.window {
                        Ok(None) => read_all = true,
                        Ok(Some(window)) => {
                            let (first, kind) = window.begin();
                            shared.lock().read(first, kind);
                            windows.push(self.first_send(window.whole(), &shared).boxed());
                        }
                        Err(why) => {
                            error!("{lane}: what is stored cannot be read: {why}");
                            read_pause = wait.next();
                        }
                    }
                }
                () = due, if next_due.is_some() => {}
                () = shared.changed.notified() => {}
                // Nothing of this lane is parked, but too much of other lanes.
                () = tokio::time::sleep(WAITS.0), if idle => {}
                _ = breaker_closed.changed() => shared.lock().breaker_closed(Instant::now()),
                _ = retries_now.changed() => shared.lock().due_if(Instant::now(), |_| true),
                // The counters outlive this, so there is no error.
                _ = given_up.changed() => shared.lock().due_if(Instant::now(), |unit| unit.retry.is_given_up()),
                // The spool outlives this, so there is no error.
                _ = version.changed() => read_all = false,
            }
        }
        // Requests in flight end by themselves.
        drop(reading);
        while windows.next().await.is_some() {}
        while units.next().await.is_some() {}
    }

    /// Begins to send what is due of a lane, until `at_once` are in flight.
    fn resend_due<'l>(
        &'l self,
        lane: &'l LaneKey,
        now: Instant,
        at_once: usize,
        no_windows: bool,
        shared: &'l Shared,
        units: &mut FuturesUnordered<BoxFuture<'l, Ended>>,
    ) {
        while units.len() < at_once {
            let alone = units.is_empty() && no_windows;
            let room = self.room(lane, BODIES);
            let mut parked = shared.lock();
            let taken = parked.take_due(now).or_else(|| parked.take_free(now, alone, &room));
            drop(parked);
            let Some((group, due)) = taken else { break };
            if due.is_empty() {
                // They were taken already, when the breaker closed.
                continue;
            }
            units.push(self.resend(lane, group, due, shared).boxed());
        }
    }

    /// Sends the messages of some records that nothing is ahead of.
    async fn first_send(&self, window: Window, shared: &Shared) -> Ended {
        let (group, index) = (window.record(0).sequence, window.index());
        let open: Vec<usize> = window.open(&index).collect();
        let keys = match self.keys(&window, &open) {
            Ok(keys) => keys,
            Err(why) => {
                let open = open.into_iter().map(|message| index.message(message)).collect();
                let unit = Unit::new(open, Vec::new(), not_before(Instant::now()));
                return Ended::failed(group, why, vec![unit]);
            }
        };
        let sent: Vec<Message> = if keys.is_empty() {
            open.into_iter().map(|message| index.message(message)).collect()
        } else {
            let bodies = self.bodies(&window, &index);
            let before = Before::of(keys.len(), bodies, |message| open.binary_search(&message).is_ok());
            let units = before.units(open, |message| keys[message]);
            let all: Vec<Together> = units.into_iter().map(|unit| together(unit, &index, &keys)).collect();
            shared.lock().begin(&all, |sequence| window.length_of(sequence))
        };
        let key_of = |message: &Message| index.of(*message).and_then(|at| keys.get(at)).copied();
        if sent.is_empty() {
            return Ended::default();
        }
        let selection = if sent.len() as u64 == window.left() {
            Selection::default()
        } else {
            Selection::only(sent.iter().copied().collect())
        };
        match self.deliver(&window, &index, &selection, order(&keys, shared)).await {
            Ok(account) => {
                let bodies = self.bodies(&window, &index);
                Ended { group, index, keys, bodies, account, failed: None }
            }
            Err(why) => {
                let keys = sent.iter().filter_map(key_of).collect();
                Ended::failed(group, why, vec![Unit::new(sent, keys, not_before(Instant::now()))])
            }
        }
    }

    /// Reads records again, and sends what is due of them.
    async fn resend(&self, lane: &LaneKey, group: u64, mut units: Vec<Unit>, shared: &Shared) -> Ended {
        let mut records = Vec::new();
        let sequences: BTreeSet<u64> =
            units.iter().flat_map(|unit| &unit.messages).map(|(sequence, _)| *sequence).collect();
        {
            let admission = self.budget.admit().await;
            for sequence in sequences {
                match self.open_again(lane, sequence, &admission) {
                    // What waited behind a key may be of different kinds.
                    Ok(Some(opened))
                        if records.first().is_some_and(|first| !self.may_share(first, &opened)) =>
                    {
                        shared.lock().put_behind(group, sequence, &mut units, Instant::now());
                        break;
                    }
                    Ok(Some(opened)) => records.push(opened),
                    // It is settled, or damaged on disk, which was logged: others of its keys need not wait.
                    Ok(None) => shared.lock().gone(sequence, &mut units, Instant::now()),
                    Err(why) => return Ended::failed(group, why, units),
                }
            }
        }
        if units.is_empty() {
            return Ended::default();
        }
        let window = Window::of(records);
        let index = window.index();
        let keys = index.keys(&units);
        let selection = Selection::of(&units);
        match self.deliver(&window, &index, &selection, order(&keys, shared)).await {
            Ok(account) => {
                let bodies = self.bodies(&window, &index);
                Ended { group, index, keys, bodies, account, failed: None }
            }
            Err(why) => Ended::failed(group, why, units),
        }
    }

    /// Returns the bodies that messages were sent in before, in modes with several messages per body.
    fn bodies(&self, window: &Window, index: &Index) -> Vec<Vec<usize>> {
        if self.terms(window.lane()).body.mode.batches() { window.bodies(index) } else { Vec::new() }
    }

    /// Parks what has to be sent again.
    fn absorb(&self, lane: &LaneKey, ended: Ended, shared: &Shared, wait: &mut Wait) {
        let Ended { group, index, keys, bodies, account, failed } = ended;
        let mut parked = shared.lock();
        let now = Instant::now();
        if let Some(Failed { why, units }) = failed {
            error!("{lane}: {why}");
            let until = now + wait.next();
            self.pipeline.counters.lane_waits(lane, || LaneWait {
                until,
                for_breaker: false,
                why: why.to_string(),
            });
            for unit in units {
                parked.park_again(group, unit, until);
            }
            return;
        }
        let mut park = |messages: &[usize], until: Until| {
            let messages: BTreeSet<usize> = messages.iter().copied().collect();
            let keys = messages.iter().filter_map(|message| keys.get(*message)).copied().collect();
            let messages = messages.into_iter().map(|message| index.message(message)).collect();
            parked.park(group, Unit::new(messages, keys, until));
        };
        if account.unwritten.is_empty() && account.parked.is_empty() && account.left.is_empty() {
            *wait = Wait::default();
            if parked.is_empty() {
                self.pipeline.counters.lane_goes_on(lane);
            }
            return;
        }
        self.pipeline.counters.lane_waits(lane, || told(&account, now + wait.0));
        // Their lanes stopped, and nothing more will come of them.
        let stopped = !account.parked.is_empty() || !account.unwritten.is_empty();
        for (messages, until) in account.parked {
            park(&messages, until);
        }
        if !account.unwritten.is_empty() {
            let until = not_before(now + wait.next());
            for message in &account.unwritten {
                park(&[*message], until.clone());
            }
        }
        if account.left.is_empty() {
            return;
        }
        if !stopped {
            // Delivery broke off.
            park(&account.left, not_before(now + wait.next()));
        } else if keys.is_empty() {
            park(&account.left, not_before(now));
        } else {
            // Messages that were not attempted wait behind those that were, if they have the same keys.
            let left: BTreeSet<usize> = account.left.into_iter().collect();
            let before = Before::of(keys.len(), bodies, |message| left.contains(&message));
            let units = before.units(left.into_iter().collect(), |message| keys[message]);
            let all: Vec<Together> = units.into_iter().map(|unit| together(unit, &index, &keys)).collect();
            parked.put_back(&all, now);
        }
    }
}

/// Adds the keys to messages that are sent together.
fn together(unit: plan::Unit, index: &Index, keys: &[u64]) -> Together {
    let with_key = |message: usize| (index.message(message), keys[message]);
    Together { messages: unit.messages.into_iter().map(with_key).collect() }
}

impl Ended {
    fn failed(group: u64, why: SpoolError, units: Vec<Unit>) -> Self {
        Self { group, failed: Some(Failed { why, units }), ..Self::default() }
    }
}

/// Says why messages that have to be sent again wait; `until` applies if they do not wait for the endpoint.
fn told(account: &Account, until: Instant) -> LaneWait {
    match account.parked.first() {
        Some((_, parked)) => {
            LaneWait { until: parked.until, for_breaker: parked.for_breaker, why: parked.why() }
        }
        None if account.unwritten.is_empty() => {
            LaneWait { until, for_breaker: false, why: "delivery broke off".to_owned() }
        }
        None => LaneWait { until, for_breaker: false, why: UNWRITTEN.to_owned() },
    }
}

/// If keys are kept in order: where settled ones are reported.
fn order<'k>(keys: &'k [u64], shared: &'k Shared) -> Option<(&'k [u64], &'k Shared)> {
    (!keys.is_empty()).then_some((keys, shared))
}

fn not_before(until: Instant) -> Until {
    Until { until, for_breaker: false, apart: false, retry: RetryState::default() }
}

/// How long messages that could not be settled wait, longer each time.
struct Wait(Duration);

impl Default for Wait {
    fn default() -> Self {
        Self(WAITS.0)
    }
}

impl Wait {
    fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(WAITS.1);
        wait
    }
}

/// Includes the parked messages of a lane in the count of all lanes.
struct Counted<'l> {
    lanes: &'l Lanes,
    messages: usize,
}

impl Counted<'_> {
    fn set(&mut self, messages: usize) {
        self.lanes.parked.fetch_sub(self.messages, Relaxed);
        self.lanes.parked.fetch_add(messages, Relaxed);
        self.messages = messages;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}
