//! What is known about a batch that is kept until it is delivered, and so may have been sent before.

use std::fmt;

/// The messages of such a batch.
pub(crate) trait Stored: fmt::Debug + Sync {
    /// Returns the state of the message with this index in the batch.
    fn state(&self, message: usize) -> MessageState;

    /// Returns the bodies that unsettled messages were sent in before, each ascending.
    fn bodies(&self) -> Vec<Vec<usize>>;

    /// Returns the digest of a message's key, if keys are kept in order and it is known.
    fn key(&self, message: usize) -> Option<u64>;
}

/// The state of a stored message, before its batch is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageState {
    /// It is to be sent.
    Open,
    /// It is settled already.
    Settled,
    /// It is handled elsewhere.
    Elsewhere,
}

impl MessageState {
    /// Whether it is to be sent now.
    pub(crate) fn is_open(self) -> bool {
        match self {
            Self::Open => true,
            Self::Settled | Self::Elsewhere => false,
        }
    }
}
