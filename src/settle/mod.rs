//! What became of each message, and what is done about those that were not delivered.

mod dead_letters;
mod ledger;
mod outcome;

use iggy_connector_sdk::OffsetRanges;
use tracing::{error, warn};

pub(crate) use self::{
    dead_letters::DeadLetters,
    ledger::{Account, Ledger},
    outcome::{Failure, Outcome, Reason, excerpt},
};
use crate::{batch::Batch, executor::Executor};

/// The sums of a batch, all of whose messages are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) delivered: usize,
    pub(crate) dead_lettered: usize,
    pub(crate) failed: usize,
}

/// Settles a batch: what was not delivered goes to the dead letters, where there are any; what cannot
/// go there has failed. Each such message is named in the log.
pub(crate) async fn settle(
    batch: &Batch<'_>,
    account: Account,
    dead_letters: Option<&DeadLetters>,
    url: &str,
    executor: &Executor,
) -> Sums {
    let mut sums = Sums { delivered: account.delivered, dead_lettered: 0, failed: 0 };
    if account.undelivered.is_empty() {
        return sums;
    }
    let unkept = match dead_letters {
        None => account.undelivered,
        Some(letters) => letters.keep(batch, account.undelivered, url, &mut sums, executor).await,
    };
    for (messages, failure) in unkept {
        sums.failed += messages.len();
        error!("{} failed: {failure}", named(batch, &messages));
    }
    sums
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
        batch.stream,
        batch.topic,
        batch.partition_id,
        OffsetRanges::of(messages.iter().map(|&message| batch.messages[message].offset)),
    )
}
