//! Keeps account of every message of a batch until each has its outcome.

use super::{Failure, Outcome, Reason};
use crate::batch::Batch;

/// The account of one batch. What nobody settled by its end counts as failed, so that no mistake of
/// a stage before can make a message vanish.
#[derive(Debug)]
pub(crate) struct Ledger {
    settled: Vec<bool>,
    account: Account,
}

/// What became of the messages of a batch, as indexes into it.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// How many were delivered.
    pub(crate) delivered: usize,
    /// All others, with the reason.
    pub(crate) undelivered: Vec<(Vec<usize>, Failure)>,
}

impl Ledger {
    pub(crate) fn of(batch: &Batch<'_>) -> Self {
        Self { settled: vec![false; batch.messages.len()], account: Account::default() }
    }

    /// Writes down the outcome of messages.
    pub(crate) fn settle(&mut self, messages: Vec<usize>, outcome: Outcome) {
        for &message in &messages {
            self.settled[message] = true;
        }
        let undelivered = &mut self.account.undelivered;
        match outcome {
            Outcome::Delivered => self.account.delivered += messages.len(),
            // Failures of the same kind next to each other read as one.
            Outcome::Failed(failure) => match undelivered.last_mut() {
                Some((others, last)) if *last == failure => others.extend(messages),
                _ => undelivered.push((messages, failure)),
            },
        }
    }

    /// Ends the account.
    pub(crate) fn close(mut self) -> Account {
        let unsettled = |(message, settled): (usize, &bool)| (!settled).then_some(message);
        let forgotten: Vec<usize> = self.settled.iter().enumerate().filter_map(unsettled).collect();
        if !forgotten.is_empty() {
            let detail = "the sink stopped before it knew what became of them".to_owned();
            let failure = Failure { reason: Reason::Internal, status: None, detail, attempts: 0 };
            self.settle(forgotten, Outcome::Failed(failure));
        }
        self.account
    }
}

#[cfg(test)]
mod tests {
    use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};

    use super::*;

    #[test]
    fn messages_that_nobody_settled_are_failed() {
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
        let mut ledger = Ledger::of(&Batch::borrowed(&topic, &metadata, &messages));
        ledger.settle(vec![1], Outcome::Delivered);
        let account = ledger.close();
        assert_eq!(account.delivered, 1);
        assert_eq!(account.undelivered.len(), 1);
        assert_eq!(account.undelivered[0].0, [0, 2]);
        assert_eq!(account.undelivered[0].1.reason, Reason::Internal);
    }
}
