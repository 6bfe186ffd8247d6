//! The account of a batch: it holds every message until it has an outcome.

use std::collections::HashSet;

use super::{DeadLetters, Tally};
use crate::{
    batch::Batch,
    deliver::{Outcome, Parked, RetryState, Settled},
    executor::Executor,
    failure::{Failure, Reason},
    plan::Stored,
    telemetry::Ended,
};

/// The account of one batch, which settles its messages. One without an outcome at the end counts as failed, so that no
/// mistake of an earlier stage can make a message vanish.
#[derive(Debug)]
pub(crate) struct Ledger<'b> {
    batch: &'b Batch<'b>,
    dead_letters: Option<&'b DeadLetters>,
    tally: &'b Tally,
    url: &'b str,
    progress: Option<&'b dyn Progress>,
    known: Vec<bool>,
    account: Account,
}

/// Records which messages of a batch have an outcome, if they are kept until then: the others are delivered later.
pub(crate) trait Progress: Stored {
    /// Returns the attempts made so far at the body that begins with this message.
    fn retry(&self, message: usize) -> RetryState;

    /// Whether more messages may wait behind those of the batch, so that a body that is not full need not be sent yet.
    fn holds_back(&self) -> bool;

    /// Records that messages are about to be sent together.
    fn sending(&self, bodies: &[Vec<usize>]);

    /// Records that these messages have an outcome.
    fn settled(&self, messages: &[usize]);
}

/// What became of the messages of a batch, as indexes into it.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// How many were delivered.
    pub(crate) delivered: usize,
    /// How many are dead letters now.
    pub(crate) dead_lettered: usize,
    /// Why, with how many of them.
    pub(crate) reasons: Vec<(Reason, usize)>,
    /// Those that are neither, with the reason.
    pub(crate) undelivered: Vec<(Vec<usize>, Failure)>,
    /// Those that are sent again later, each body by itself. They are kept until then.
    pub(crate) parked: Vec<(Vec<usize>, Parked)>,
    /// Those whose dead letters could not be written. They are kept until they can be.
    pub(crate) unwritten: Vec<usize>,
    /// Those of bodies that are not full, which are sent together with what waits behind them.
    pub(crate) held_back: Vec<usize>,
    /// Others that have no outcome yet, and are kept.
    pub(crate) left: Vec<usize>,
}

impl Account {
    /// Returns the messages that have an outcome.
    pub(crate) fn ended(&self) -> Ended<'_> {
        Ended {
            delivered: self.delivered,
            dead_lettered: self.dead_lettered,
            reasons: &self.reasons,
            undelivered: &self.undelivered,
        }
    }

    /// How many are neither delivered nor dead letters.
    pub(crate) fn failed(&self) -> usize {
        self.ended().failed()
    }
}

impl<'b> Ledger<'b> {
    pub(crate) fn of(
        batch: &'b Batch<'b>,
        dead_letters: Option<&'b DeadLetters>,
        tally: &'b Tally,
        url: &'b str,
        progress: Option<&'b dyn Progress>,
    ) -> Self {
        let known = match progress {
            None => vec![false; batch.messages.len()],
            Some(progress) => {
                (0..batch.messages.len()).map(|message| !progress.state(message).is_open()).collect()
            }
        };
        Self { batch, dead_letters, tally, url, progress, known, account: Account::default() }
    }

    /// Settles messages by their outcome: those that were not delivered become dead letters, if these are configured. Returns
    /// whether all of them are settled now, so that messages behind them in order may be sent.
    pub(crate) async fn settle(&mut self, outcomes: Vec<Settled>, executor: &Executor) -> bool {
        let mut all = true;
        let mut undelivered: Vec<(Vec<usize>, Failure)> = Vec::new();
        let (mut delivered, mut apart) = (Vec::new(), Vec::new());
        for (messages, outcome) in outcomes {
            for &message in &messages {
                self.known[message] = true;
            }
            match outcome {
                Outcome::Delivered => {
                    self.account.delivered += messages.len();
                    if self.progress.is_some() {
                        delivered.extend(messages);
                    }
                }
                Outcome::Failed(failure) => together(&mut undelivered, messages, failure),
                Outcome::Parked(parked) => {
                    all = false;
                    if parked.apart {
                        apart.push(messages.clone());
                    }
                    self.account.parked.push((messages, parked));
                }
            }
        }
        // All at once: if only some parts of a split body were recorded, the rest would be put together differently.
        self.written_down(&delivered);
        if let Some(progress) = self.progress.filter(|_| !apart.is_empty()) {
            // They continue together, without those that have ended.
            progress.sending(&apart);
        }
        if self.progress.is_some() {
            // The close of the connector is no reason to give up messages that are kept.
            undelivered.retain(|(messages, failure)| {
                if failure.reason != Reason::Closed {
                    return true;
                }
                self.account.left.extend(messages);
                all = false;
                false
            });
        }
        all & self.settle_undelivered(undelivered, executor).await
    }

    /// Makes dead letters of messages, if these are configured, else counts them as failed. Returns whether all of them are
    /// settled now.
    async fn settle_undelivered(
        &mut self,
        undelivered: Vec<(Vec<usize>, Failure)>,
        executor: &Executor,
    ) -> bool {
        if undelivered.is_empty() {
            return true;
        }
        let Some(letters) = self.dead_letters else {
            if self.progress.is_some() {
                // Once this is recorded, nobody delivers them any more. Those that wait for their minute in the tally are not
                // named before; if the process is killed until then, they never are.
                self.tally.failed(self.batch, &undelivered);
            }
            for (messages, failure) in undelivered {
                self.written_down(&messages);
                together(&mut self.account.undelivered, messages, failure);
            }
            return true;
        };
        let messages: Vec<usize> = undelivered.iter().flat_map(|(messages, _)| messages).copied().collect();
        let mut reasons: Vec<(Reason, usize)> =
            undelivered.iter().map(|(messages, failure)| (failure.reason, messages.len())).collect();
        let unkept = letters.keep(self.batch, undelivered, self.url, executor, self.tally).await;
        let lost: HashSet<usize> = unkept.iter().flat_map(|(messages, _)| messages).copied().collect();
        self.account.dead_lettered += messages.len() - lost.len();
        for (lost, failure) in &unkept {
            if let Some((_, kept)) = reasons.iter_mut().find(|(reason, _)| *reason == failure.reason) {
                *kept = kept.saturating_sub(lost.len());
            }
        }
        self.account.reasons.extend(reasons);
        self.written_down(
            &messages.into_iter().filter(|message| !lost.contains(message)).collect::<Vec<_>>(),
        );
        let mut all = true;
        for (messages, failure) in unkept {
            if self.progress.is_some() {
                all = false;
                self.account.unwritten.extend(messages);
            } else {
                together(&mut self.account.undelivered, messages, failure);
            }
        }
        all
    }

    fn written_down(&self, messages: &[usize]) {
        if let Some(progress) = self.progress.filter(|_| !messages.is_empty()) {
            progress.settled(messages);
        }
    }

    /// Records that messages are sent together with what waits behind the batch.
    pub(crate) fn hold_back(&mut self, messages: Vec<usize>) {
        for &message in &messages {
            self.known[message] = true;
        }
        self.account.held_back.extend(messages);
    }

    /// Ends the account, and names what failed.
    pub(crate) async fn close(mut self, executor: &Executor) -> Account {
        let unknown = |(message, known): (usize, &bool)| (!known).then_some(message);
        let forgotten: Vec<usize> = self.known.iter().enumerate().filter_map(unknown).collect();
        if self.progress.is_some() {
            self.account.left.extend(forgotten);
        } else if !forgotten.is_empty() {
            let detail = "the sink stopped before it knew what became of them".to_owned();
            let failure = Failure { reason: Reason::Internal, status: None, detail, attempts: 0 };
            self.settle(vec![(forgotten, Outcome::Failed(failure))], executor).await;
        }
        if self.progress.is_none() {
            self.tally.failed(self.batch, &self.account.undelivered);
        }
        self.account
    }
}

/// Combines failures of the same kind, so that they read as one.
fn together(all: &mut Vec<(Vec<usize>, Failure)>, messages: Vec<usize>, failure: Failure) {
    match all.last_mut() {
        Some((others, last)) if *last == failure => others.extend(messages),
        _ => all.push((messages, failure)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};

    use super::*;
    use crate::{plan::MessageState, world::World};

    fn message(offset: u64) -> BorrowedMessage<'static> {
        BorrowedMessage {
            id: 1,
            offset,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers: b"",
            payload: b"{}",
        }
    }

    /// What was written down at once.
    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<Vec<usize>>>);

    impl Stored for Notes {
        fn state(&self, _message: usize) -> MessageState {
            MessageState::Open
        }

        fn bodies(&self) -> Vec<Vec<usize>> {
            Vec::new()
        }

        fn key(&self, _message: usize) -> Option<u64> {
            None
        }
    }

    impl Progress for Notes {
        fn retry(&self, _message: usize) -> RetryState {
            RetryState::default()
        }

        fn holds_back(&self) -> bool {
            false
        }

        fn sending(&self, _bodies: &[Vec<usize>]) {}

        fn settled(&self, messages: &[usize]) {
            self.0.lock().expect("no panic").push(messages.to_vec());
        }
    }

    #[tokio::test]
    async fn the_delivered_parts_of_a_body_are_written_down_as_one() {
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 1, current_offset: 2, schema: Schema::Json };
        let messages = [0, 1, 2, 3].map(message);
        let batch = Batch::borrowed(&topic, &metadata, &messages);
        let executor = Executor::start("test".to_owned(), &World::real()).expect("a thread");
        let notes = Notes::default();
        let tally = Tally::default();
        let mut ledger = Ledger::of(&batch, None, &tally, "http://localhost/", Some(&notes));
        let detail = String::new();
        let failure = Failure { reason: Reason::Rejected, status: Some(400), detail, attempts: 1 };
        let parts = vec![
            (vec![0], Outcome::Delivered),
            (vec![1], Outcome::Failed(failure)),
            (vec![2, 3], Outcome::Delivered),
        ];
        ledger.settle(parts, &executor).await;
        assert_eq!(*notes.0.lock().expect("no panic"), [vec![0, 2, 3], vec![1]]);
    }

    #[tokio::test]
    async fn messages_of_which_nobody_knows_anything_are_failed() {
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 1, current_offset: 2, schema: Schema::Json };
        let messages = [0, 1, 2].map(message);
        let batch = Batch::borrowed(&topic, &metadata, &messages);
        let executor = Executor::start("test".to_owned(), &World::real()).expect("a thread");
        let tally = Tally::default();
        let mut ledger = Ledger::of(&batch, None, &tally, "http://localhost/", None);
        ledger.settle(vec![(vec![1], Outcome::Delivered)], &executor).await;
        let account = ledger.close(&executor).await;
        assert_eq!((account.delivered, account.dead_lettered, account.failed()), (1, 0, 2));
        assert_eq!(account.undelivered[0].0, [0, 2]);
        assert_eq!(account.undelivered[0].1.reason, Reason::Internal);
    }
}
