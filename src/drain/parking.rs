//! A lane without an order, or with one of keys alone: what has to be sent again is parked, and all others go on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;
use tracing::error;

use super::{
    Lanes, Opened, WAITS,
    parked::Unit,
    progress::{Selection, Shared},
};
use crate::{
    deliver::{Parked as Until, RetryState},
    settle::Account,
    spool::{LaneKey, SpoolError},
};

/// How a record ended, or some messages of it.
struct Ended {
    sequence: u64,
    /// Where keys are kept in order: the key of each message of the record.
    keys: Vec<u64>,
    account: Result<Account, Failed>,
}

/// What went wrong with a record as a whole, and what is to be sent of it nevertheless.
struct Failed {
    why: SpoolError,
    units: Vec<Unit>,
}

impl Lanes {
    /// Delivers what is stored in a lane until there is nothing left, or the connector is being closed.
    pub(super) async fn deliver_side_by_side(&self, lane: &LaneKey) {
        let at_once = self.pipeline.config.concurrency.max().get() + 1;
        let shared = Shared::default();
        let mut counted = Counted { lanes: self, messages: 0 };
        let mut news = self.spool.news();
        let mut breaker_closed = self.pipeline.breaker_closed();
        let mut records: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
        let mut units: FuturesUnordered<BoxFuture<'_, Ended>> = FuturesUnordered::new();
        let mut reading: Option<BoxFuture<'_, Result<Option<Opened>, SpoolError>>> = None;
        let (mut after, mut read_all, mut read_pause) = (0, false, Duration::ZERO);
        let mut wait = Wait::default();
        while !self.pipeline.is_closing() {
            let now = Instant::now();
            while units.len() < at_once
                && let Some((sequence, due)) = shared.lock().take_due(now)
            {
                units.push(self.resend(lane, sequence, due, &shared).boxed());
            }
            counted.set(shared.lock().known());
            if reading.is_none() && !read_all && records.len() < at_once && self.may_park_more() {
                let (from, pause) = (after, std::mem::take(&mut read_pause));
                let read = async move {
                    tokio::time::sleep(pause).await;
                    self.open_next(lane, from, self.budget.admit().await)
                };
                reading = Some(read.boxed());
            }
            let idle =
                reading.is_none() && records.is_empty() && units.is_empty() && shared.lock().is_empty();
            if idle && read_all {
                return;
            }
            let next_due = shared.lock().next_due().filter(|_| units.len() < at_once);
            let due = async { tokio::time::sleep_until(next_due.unwrap_or(now)).await };
            tokio::select! {
                biased;
                () = self.pipeline.closing() => break,
                Some(ended) = units.next() => Self::absorb(lane, ended, &shared, &mut wait),
                Some(ended) = records.next() => Self::absorb(lane, ended, &shared, &mut wait),
                read = async { reading.as_mut().expect("checked").await }, if reading.is_some() => {
                    reading = None;
                    match read {
                        Ok(None) => read_all = true,
                        Ok(Some(opened)) => {
                            after = opened.record.sequence;
                            records.push(self.first_send(opened, &shared).boxed());
                        }
                        Err(why) => {
                            error!("{lane}: what is stored cannot be read: {why}");
                            read_pause = wait.next();
                        }
                    }
                }
                () = due, if next_due.is_some() => {}
                () = shared.changed.notified() => {}
                // Nothing of this lane is parked, but too much of others.
                () = tokio::time::sleep(WAITS.0), if idle => {}
                _ = breaker_closed.changed() => shared.lock().breaker_closed(Instant::now()),
                // The spool outlives this, so there is no error.
                _ = news.changed() => read_all = false,
            }
        }
        // What is on its way ends by itself.
        drop(reading);
        while records.next().await.is_some() {}
        while units.next().await.is_some() {}
    }

    /// Sends the messages of a record that nothing is ahead of.
    async fn first_send(&self, opened: Opened, shared: &Shared) -> Ended {
        let record = &opened.record;
        let (sequence, mut messages) = (record.sequence, Vec::new());
        let open = (0..record.messages()).filter(|message| !record.is_settled(*message));
        let keys = match self.keys(record) {
            Ok(keys) => keys,
            Err(why) => {
                let units = vec![Unit::new(open.collect(), Vec::new(), not_before(Instant::now()))];
                return Ended { sequence, keys: Vec::new(), account: Err(Failed { why, units }) };
            }
        };
        if keys.is_empty() {
            messages.extend(open);
        } else {
            let mut of_key: HashMap<u64, Vec<u32>> = HashMap::new();
            for message in open {
                of_key.entry(keys[message as usize]).or_default().push(message);
            }
            let mut parked = shared.lock();
            for (key, of_key) in of_key {
                if parked.begin(key, sequence, &of_key) {
                    messages.extend(of_key);
                }
            }
            messages.sort_unstable();
        }
        if messages.is_empty() {
            return Ended { sequence, keys, account: Ok(Account::default()) };
        }
        let all = messages.len() as u64 == u64::from(record.messages()) - record.settled();
        let selection =
            if all { Selection::default() } else { Selection::only(messages.iter().copied().collect()) };
        let delivered = self.deliver(record, &selection, order(&keys, shared)).await;
        let account = delivered.map_err(|why| {
            let of_messages = keys_of(&messages, &keys);
            let units = vec![Unit::new(messages, of_messages, not_before(Instant::now()))];
            Failed { why, units }
        });
        Ended { sequence, keys, account }
    }

    /// Reads a record once more, and sends what is due of it.
    async fn resend(&self, lane: &LaneKey, sequence: u64, units: Vec<Unit>, shared: &Shared) -> Ended {
        let admission = self.budget.admit().await;
        let failed = |why, units| Ended { sequence, keys: Vec::new(), account: Err(Failed { why, units }) };
        let opened = match self.open_again(lane, sequence, admission) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                // It is settled, or its place on disk is damaged, which was told: others of its keys need not wait.
                let now = Instant::now();
                let mut parked = shared.lock();
                for unit in &units {
                    parked.gone(unit, now);
                }
                return Ended { sequence, keys: Vec::new(), account: Ok(Account::default()) };
            }
            Err(why) => return failed(why, units),
        };
        let keys = match self.keys(&opened.record) {
            Ok(keys) => keys,
            Err(why) => return failed(why, units),
        };
        let selection = Selection::of(&units);
        let delivered = self.deliver(&opened.record, &selection, order(&keys, shared)).await;
        Ended { sequence, keys, account: delivered.map_err(|why| Failed { why, units }) }
    }

    /// Parks what has to be sent again.
    fn absorb(lane: &LaneKey, ended: Ended, shared: &Shared, wait: &mut Wait) {
        let Ended { sequence, keys, account } = ended;
        let mut parked = shared.lock();
        let now = Instant::now();
        let account = match account {
            Ok(account) => account,
            Err(Failed { why, units }) => {
                error!("{lane}: {why}");
                let until = now + wait.next();
                for unit in units {
                    parked.park_again(sequence, unit, until);
                }
                return;
            }
        };
        let mut park = |messages: &[usize], until: Until| {
            let messages = indexes(messages);
            let keys = keys_of(&messages, &keys);
            parked.park(sequence, Unit::new(messages, keys, until));
        };
        if account.unwritten.is_empty() && account.parked.is_empty() && account.left.is_empty() {
            *wait = Wait::default();
            return;
        }
        // What stands behind a parked message of its key waits as long as that.
        let mut of_key: BTreeMap<u64, Until> = BTreeMap::new();
        for (messages, until) in account.parked {
            for message in messages.iter().filter_map(|message| keys.get(*message)) {
                of_key.insert(*message, until.behind());
            }
            park(&messages, until);
        }
        if !account.unwritten.is_empty() {
            let until = not_before(now + wait.next());
            for message in &account.unwritten {
                if let Some(key) = keys.get(*message) {
                    of_key.insert(*key, until.clone());
                }
                park(&[*message], until.clone());
            }
        }
        let mut rest: Vec<usize> = Vec::new();
        let mut behind: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for message in account.left {
            match keys.get(message).filter(|key| of_key.contains_key(key)) {
                Some(key) => behind.entry(*key).or_default().push(message),
                None => rest.push(message),
            }
        }
        for (key, messages) in behind {
            park(&messages, of_key[&key].clone());
        }
        if !rest.is_empty() {
            // The bodies behind one that is parked, with other keys; or delivery broke off.
            let until = if of_key.is_empty() { wait.next() } else { Duration::ZERO };
            park(&rest, not_before(now + until));
        }
    }
}

/// Where keys are kept in order: what tells of those that are settled.
fn order<'k>(keys: &'k [u64], shared: &'k Shared) -> Option<(&'k [u64], &'k Shared)> {
    (!keys.is_empty()).then_some((keys, shared))
}

/// The keys of some messages of a record, where keys are kept in order.
fn keys_of(messages: &[u32], keys: &[u64]) -> Vec<u64> {
    messages.iter().filter_map(|message| keys.get(*message as usize)).copied().collect()
}

fn not_before(until: Instant) -> Until {
    Until { until, for_breaker: false, retry: RetryState::default() }
}

/// A record has no more messages than fit.
fn indexes(messages: &[usize]) -> Vec<u32> {
    let messages: BTreeSet<u32> =
        messages.iter().filter_map(|message| u32::try_from(*message).ok()).collect();
    messages.into_iter().collect()
}

/// How long what could not be settled waits, longer each time.
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

/// The parked messages of a lane in the count of all.
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
