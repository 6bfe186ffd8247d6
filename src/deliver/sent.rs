//! How sending a body ended.

use super::retry::{Parked, RetryState};
use crate::failure::{Failure, Reason};

/// How it ended.
#[derive(Debug)]
pub(super) enum Sent {
    /// Its messages are delivered.
    Delivered,
    /// They are not, and sending the same body again would not change that.
    Failed(Failure),
    /// The body is too large; its halves may not be.
    Split(Failure),
    /// Some message in it is bad.
    Isolate(Failure),
    /// It is to be sent again later, from where its messages are kept.
    Parked(Parked),
    /// Each of its messages has its own outcome.
    Apart(Apart),
}

/// The outcome of a body whose messages each have their own.
#[derive(Debug)]
pub(super) struct Apart {
    /// In the order of the body.
    pub(super) ends: Vec<ItemEnd>,
    /// What becomes of those that are to be sent again.
    pub(super) again: Again,
}

/// How a message ended.
#[derive(Debug)]
pub(super) enum ItemEnd {
    Taken,
    Refused(Failure),
    /// It may be accepted later; if it is not sent again, this is its failure.
    Again(Failure),
}

/// What becomes of messages that are to be sent again, without the others of their body.
#[derive(Debug)]
pub(super) enum Again {
    /// They are, continuing with these attempts.
    Sent(RetryState),
    /// They are, from where they are kept.
    Parked(Parked),
    /// There is no attempt left for them.
    Failed(Reason),
}
