//! What became of each message, and what is done about those that were not delivered.

mod dead_letters;
mod ledger;
mod outcome;

use iggy_connector_sdk::{OffsetRanges, shown};
use tracing::{error, warn};

pub(crate) use self::{
    dead_letters::DeadLetters,
    ledger::{Account, Ledger, MessageState, Progress},
    outcome::{Failure, Outcome, Reason},
};
use crate::batch::{Batch, LONGEST_NAME};

/// Names every message that failed in the log: someone must act.
pub(crate) fn report(batch: &Batch<'_>, account: &Account) {
    for (messages, failure) in &account.undelivered {
        report_failed(batch, messages, failure);
    }
}

fn report_failed(batch: &Batch<'_>, messages: &[usize], failure: &Failure) {
    error!("{} failed: {failure}", named(batch, messages));
}

/// Writes down that messages are dead letters now: nothing is lost.
fn kept(batch: &Batch<'_>, messages: &[usize], failure: &Failure) {
    warn!("{} put to the dead letters: {failure}", named(batch, messages));
}

/// Messages by what tells them apart.
fn named(batch: &Batch<'_>, messages: &[usize]) -> String {
    format!(
        "{} message{} of stream {}, topic {}, partition {}, offsets {}",
        messages.len(),
        if messages.len() == 1 { "" } else { "s" },
        shown(batch.stream, LONGEST_NAME),
        shown(batch.topic, LONGEST_NAME),
        batch.partition_id,
        OffsetRanges::of(messages.iter().map(|&message| batch.messages[message].offset)),
    )
}
