//! What the pipeline gets to know about a record's messages, and what it reports about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, PoisonError},
};

use tokio::{sync::Notify, time::Instant};
use tracing::error;

use super::{
    parked::Parked,
    unit::{Message, Unit},
    window::{Index, Window},
};
use crate::{
    deliver::RetryState,
    plan::{MessageState, Stored},
    settle::Progress,
    spool::{LaneMessages, Record, Spool},
};

/// Which messages of some records are sent, and their attempts so far.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// `None`: all that are unsettled.
    only: Option<BTreeSet<Message>>,
    /// Messages that begin a body, with the attempts made at it so far.
    begins: BTreeMap<Message, RetryState>,
}

/// Records whose messages are being settled.
pub(super) struct InSpool<'r> {
    spool: &'r Spool,
    window: &'r Window,
    index: &'r Index,
    selection: &'r Selection,
    states: Vec<MessageState>,
    /// If keys are kept in order: the key of each message that is sent, and the messages that wait behind it.
    keys: Option<(&'r [u64], &'r Shared)>,
}

/// The parked messages of a lane, and the notification for when some are due.
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
    /// Messages that are sent as they were before.
    pub(super) fn of(units: &[Unit]) -> Self {
        let only = units.iter().flat_map(|unit| &unit.messages).copied().collect();
        let begin = |unit: &Unit| Some((*unit.messages.first()?, unit.retry.clone()));
        Self { only: Some(only), begins: units.iter().filter_map(begin).collect() }
    }

    /// Only these messages.
    pub(super) fn only(messages: BTreeSet<Message>) -> Self {
        Self { only: Some(messages), begins: BTreeMap::new() }
    }

    /// All that are unsettled; some of them begin a body as before.
    pub(super) fn resumed(begins: BTreeMap<Message, RetryState>) -> Self {
        Self { only: None, begins }
    }

    /// Whether a message is one of them.
    pub(super) fn contains(&self, message: Message) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&message))
    }
}

impl<'r> InSpool<'r> {
    pub(super) fn of(
        spool: &'r Spool,
        window: &'r Window,
        index: &'r Index,
        selection: &'r Selection,
        keys: Option<(&'r [u64], &'r Shared)>,
    ) -> Self {
        let states = window.records().flat_map(|record| {
            (0..record.messages()).map(|message| {
                if record.is_settled(message) {
                    MessageState::Settled
                } else if selection.contains((record.sequence, message)) {
                    MessageState::Open
                } else {
                    MessageState::Elsewhere
                }
            })
        });
        Self { spool, window, index, selection, states: states.collect(), keys }
    }
}

impl fmt::Debug for InSpool<'_> {
    /// Without the messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InSpool")
            .field("lane", self.window.lane())
            .field("index", self.index)
            .finish_non_exhaustive()
    }
}

impl Stored for InSpool<'_> {
    fn state(&self, message: usize) -> MessageState {
        self.states[message]
    }

    fn key(&self, message: usize) -> Option<u64> {
        self.keys.map(|(keys, _)| keys[message])
    }

    fn bodies(&self) -> Vec<Vec<usize>> {
        self.window.bodies(self.index)
    }
}

impl Progress for InSpool<'_> {
    fn sending(&self, bodies: &[Vec<usize>]) {
        let known = |body: &LaneMessages| {
            self.window.records().flat_map(Record::bodies).any(|known| **known == *body)
        };
        let new: Vec<LaneMessages> =
            bodies.iter().map(|body| self.index.ranges(body)).filter(|body| !known(body)).collect();
        if new.is_empty() {
            return;
        }
        let lane = self.window.lane();
        if let Err(why) = self.spool.note_bodies(lane, new) {
            error!("{lane}: {why}: after a crash messages may be sent together with others");
        }
    }

    fn retry(&self, message: usize) -> RetryState {
        self.selection.begins.get(&self.index.message(message)).cloned().unwrap_or_default()
    }

    fn holds_back(&self) -> bool {
        self.window.goes_on
    }

    fn settled(&self, messages: &[usize]) {
        let mut sorted = messages.to_vec();
        sorted.sort_unstable();
        let lane = self.window.lane();
        if let Err(why) = self.spool.settle_together(lane, &self.index.by_record(&sorted)) {
            error!("{lane}: {why}: after a crash {} messages are sent again", messages.len());
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
