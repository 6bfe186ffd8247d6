//! What the pipeline learns of a record's messages, and what it tells of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use tokio::{sync::Notify, time::Instant};
use tracing::error;

use super::parked::{Parked, Unit};
use crate::{
    deliver::RetryState,
    settle::{MessageState, Progress},
    spool::{BodyRanges, Record, Spool},
};

/// Which messages of a record are sent, and what is known of them from attempts before.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// `None`: all that are open.
    only: Option<BTreeSet<u32>>,
    /// Messages that begin a body, with the attempts that were made at it.
    begins: BTreeMap<u32, RetryState>,
}

/// A record whose messages are being settled.
#[derive(Debug)]
pub(super) struct InSpool<'r> {
    pub(super) spool: &'r Spool,
    pub(super) record: &'r Record,
    pub(super) selection: &'r Selection,
    /// Where keys are kept in order: the key of each message, and who waits for it.
    pub(super) keys: Option<(&'r [u64], &'r Shared)>,
}

/// What is parked of a lane, and who waits for something in it to be due.
#[derive(Debug, Default)]
pub(super) struct Shared {
    parked: Mutex<Parked>,
    pub(super) changed: Notify,
}

impl Shared {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Selection {
    /// Parts of a record that are sent as they were before.
    pub(super) fn of(units: &[Unit]) -> Self {
        let only = units.iter().flat_map(|unit| &unit.messages).copied().collect();
        let begin = |unit: &Unit| Some((*unit.messages.first()?, unit.retry.clone()));
        Self { only: Some(only), begins: units.iter().filter_map(begin).collect() }
    }

    /// These messages alone.
    pub(super) fn only(messages: BTreeSet<u32>) -> Self {
        Self { only: Some(messages), begins: BTreeMap::new() }
    }

    /// All that are open; some of them begin a body as before.
    pub(super) fn resumed(begins: BTreeMap<u32, RetryState>) -> Self {
        Self { only: None, begins }
    }

    /// Whether a message is one of them.
    pub(super) fn contains(&self, message: u32) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&message))
    }
}

/// Ascending indexes as ranges. A record has no more messages than fit.
fn ranges(messages: &[usize]) -> BodyRanges {
    let mut ranges = BodyRanges::new();
    for message in messages.iter().filter_map(|message| u32::try_from(*message).ok()) {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(message) => *last = message,
            _ => ranges.push((message, message)),
        }
    }
    ranges
}

impl Progress for InSpool<'_> {
    fn state(&self, message: usize) -> MessageState {
        // A record has no more messages than fit.
        let Ok(message) = u32::try_from(message) else { return MessageState::Elsewhere };
        if self.record.is_settled(message) {
            MessageState::Settled
        } else if !self.selection.contains(message) {
            MessageState::Elsewhere
        } else {
            MessageState::Open
        }
    }

    fn bodies(&self) -> Vec<Vec<usize>> {
        let messages = |body: &BodyRanges| {
            body.iter().flat_map(|(first, last)| *first as usize..=*last as usize).collect()
        };
        self.record.bodies().iter().map(messages).collect()
    }

    fn sending(&self, bodies: &[Vec<usize>]) {
        let known = self.record.bodies();
        let new: Vec<BodyRanges> =
            bodies.iter().map(|body| ranges(body)).filter(|body| !known.contains(body)).collect();
        if new.is_empty() {
            return;
        }
        if let Err(why) = self.spool.note_bodies(&self.record.lane, self.record.sequence, new) {
            error!("{}: {why}: after a crash messages may be sent together with others", self.record.lane);
        }
    }

    fn retry(&self, message: usize) -> RetryState {
        let message = u32::try_from(message).ok();
        message.and_then(|message| self.selection.begins.get(&message).cloned()).unwrap_or_default()
    }

    fn settled(&self, messages: &[usize]) {
        let indexes: Vec<u32> = messages.iter().filter_map(|&message| u32::try_from(message).ok()).collect();
        if let Err(why) = self.spool.settle(&self.record.lane, self.record.sequence, &indexes) {
            error!("{}: {why}: after a crash {} messages are sent again", self.record.lane, messages.len());
        }
        if let Some((keys, shared)) = self.keys {
            let now = Instant::now();
            let mut parked = shared.lock();
            for message in messages {
                parked.settled(keys[*message], now);
            }
            drop(parked);
            shared.changed.notify_one();
        }
    }
}
