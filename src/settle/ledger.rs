//! Keeps account of every message of a batch until each has its outcome.

use super::{DeadLetters, Failure, Outcome, Reason};
use crate::{batch::Batch, deliver::Settled, executor::Executor};

/// The account of one batch, which settles what it is told. What nobody told it by its end counts as
/// failed, so that no mistake of a stage before can make a message vanish.
#[derive(Debug)]
pub(crate) struct Ledger<'b> {
    batch: &'b Batch<'b>,
    dead_letters: Option<&'b DeadLetters>,
    url: &'b str,
    known: Vec<bool>,
    account: Account,
}

/// What became of the messages of a batch, as indexes into it.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// How many were delivered.
    pub(crate) delivered: usize,
    /// How many are dead letters now.
    pub(crate) dead_lettered: usize,
    /// All others, with the reason.
    pub(crate) undelivered: Vec<(Vec<usize>, Failure)>,
}

impl Account {
    /// How many are neither delivered nor dead letters.
    pub(crate) fn failed(&self) -> usize {
        self.undelivered.iter().map(|(messages, _)| messages.len()).sum()
    }
}

impl<'b> Ledger<'b> {
    pub(crate) fn of(batch: &'b Batch<'b>, dead_letters: Option<&'b DeadLetters>, url: &'b str) -> Self {
        let known = vec![false; batch.messages.len()];
        Self { batch, dead_letters, url, known, account: Account::default() }
    }

    /// Settles messages by their outcome: what was not delivered goes to the dead letters, where there
    /// are any.
    pub(crate) async fn settle(&mut self, outcomes: Vec<Settled>, executor: &Executor) {
        let mut undelivered: Vec<(Vec<usize>, Failure)> = Vec::new();
        for (messages, outcome) in outcomes {
            for &message in &messages {
                self.known[message] = true;
            }
            match outcome {
                Outcome::Delivered => self.account.delivered += messages.len(),
                Outcome::Failed(failure) => together(&mut undelivered, messages, failure),
            }
        }
        if undelivered.is_empty() {
            return;
        }
        let unkept = match self.dead_letters {
            None => undelivered,
            Some(letters) => {
                let messages: usize = undelivered.iter().map(|(messages, _)| messages.len()).sum();
                let unkept = letters.keep(self.batch, undelivered, self.url, executor).await;
                let lost: usize = unkept.iter().map(|(messages, _)| messages.len()).sum();
                self.account.dead_lettered += messages - lost;
                unkept
            }
        };
        for (messages, failure) in unkept {
            together(&mut self.account.undelivered, messages, failure);
        }
    }

    /// Ends the account.
    pub(crate) async fn close(mut self, executor: &Executor) -> Account {
        let unknown = |(message, known): (usize, &bool)| (!known).then_some(message);
        let forgotten: Vec<usize> = self.known.iter().enumerate().filter_map(unknown).collect();
        if !forgotten.is_empty() {
            let detail = "the sink stopped before it knew what became of them".to_owned();
            let failure = Failure { reason: Reason::Internal, status: None, detail, attempts: 0 };
            self.settle(vec![(forgotten, Outcome::Failed(failure))], executor).await;
        }
        self.account
    }
}

/// Failures of the same kind next to each other read as one.
fn together(all: &mut Vec<(Vec<usize>, Failure)>, messages: Vec<usize>, failure: Failure) {
    match all.last_mut() {
        Some((others, last)) if *last == failure => others.extend(messages),
        _ => all.push((messages, failure)),
    }
}

#[cfg(test)]
mod tests {
    use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};

    use super::*;

    #[tokio::test]
    async fn messages_of_which_nobody_knows_anything_are_failed() {
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 1, current_offset: 2, schema: Schema::Json };
        let messages = [0, 1, 2].map(|offset| BorrowedMessage {
            id: 1,
            offset,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers: b"",
            payload: b"{}",
        });
        let batch = Batch::borrowed(&topic, &metadata, &messages);
        let executor = Executor::start("test".to_owned()).expect("a thread");
        let mut ledger = Ledger::of(&batch, None, "http://localhost/");
        ledger.settle(vec![(vec![1], Outcome::Delivered)], &executor).await;
        let account = ledger.close(&executor).await;
        assert_eq!((account.delivered, account.dead_lettered, account.failed()), (1, 0, 2));
        assert_eq!(account.undelivered[0].0, [0, 2]);
        assert_eq!(account.undelivered[0].1.reason, Reason::Internal);
    }
}
