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
    /// The messages that were to be sent, where something went wrong with the record as a whole.
    messages: Vec<u32>,
    account: Result<Option<Account>, SpoolError>,
    keys: Vec<u64>,
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
            if reading.is_none() && records.is_empty() && units.is_empty() && shared.lock().is_empty() {
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
        let keys = match self.keys(record) {
            Ok(keys) => keys,
            Err(why) => return Ended { sequence, messages, account: Err(why), keys: Vec::new() },
        };
        let open = (0..record.messages()).filter(|message| !record.is_settled(*message));
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
        let all = messages.len() as u64 == u64::from(record.messages()) - record.settled();
        let selection =
            if all { Selection::default() } else { Selection::only(messages.iter().copied().collect()) };
        let account = if messages.is_empty() {
            Ok(None)
        } else {
            self.deliver(record, &selection, order(&keys, shared)).await.map(Some)
        };
        Ended { sequence, messages, account, keys }
    }

    /// Reads a record once more, and sends what is due of it.
    async fn resend(&self, lane: &LaneKey, sequence: u64, units: Vec<Unit>, shared: &Shared) -> Ended {
        let messages: Vec<u32> = units.iter().flat_map(|unit| &unit.messages).copied().collect();
        let admission = self.budget.admit().await;
        let opened = match self.open_again(lane, sequence, admission) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ended { sequence, messages: Vec::new(), account: Ok(None), keys: Vec::new() },
            Err(why) => return Ended { sequence, messages, account: Err(why), keys: Vec::new() },
        };
        let keys = self.keys(&opened.record).unwrap_or_default();
        let selection = Selection::of(units);
        let account = self.deliver(&opened.record, &selection, order(&keys, shared)).await.map(Some);
        Ended { sequence, messages, account, keys }
    }

    /// Parks what has to be sent again.
    fn absorb(lane: &LaneKey, ended: Ended, shared: &Shared, wait: &mut Wait) {
        let Ended { sequence, messages, account, keys } = ended;
        let mut parked = shared.lock();
        let now = Instant::now();
        let later =
            |wait: Duration| Until { until: now + wait, for_breaker: false, retry: RetryState::default() };
        let account = match account {
            Ok(None) => return,
            Ok(Some(account)) => account,
            Err(why) => {
                error!("{lane}: {why}");
                parked.park(sequence, messages, later(wait.next()));
                return;
            }
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
            parked.park(sequence, indexes(&messages), until);
        }
        if !account.unwritten.is_empty() {
            let until = later(wait.next());
            for message in &account.unwritten {
                if let Some(key) = keys.get(*message) {
                    of_key.insert(*key, until.clone());
                }
                parked.park(sequence, indexes(&[*message]), until.clone());
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
            parked.park(sequence, indexes(&messages), of_key[&key].clone());
        }
        if !rest.is_empty() {
            // The bodies behind one that is parked, with other keys; or delivery broke off.
            let until = if of_key.is_empty() { wait.next() } else { Duration::ZERO };
            parked.park(sequence, indexes(&rest), later(until));
        }
    }
}

/// Where keys are kept in order: what tells of those that are settled.
fn order<'k>(keys: &'k [u64], shared: &'k Shared) -> Option<(&'k [u64], &'k Shared)> {
    (!keys.is_empty()).then_some((keys, shared))
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
