//! Messages of a lane that are sent together.

use iggy_connector_sdk::Schema;
use tokio::time::Instant;

use crate::deliver::{Parked as Until, RetryState};

/// A message of a lane: the sequence of its record, and its index in that.
pub(super) type Message = (u64, u32);

/// What messages must have in common to share a body: the label of their batch, and their schema.
pub(super) type Kind = (u32, Schema);

/// How much is taken together.
pub(super) struct Room {
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) messages: usize,
}

/// Messages that are sent together, ascending.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) messages: Vec<Message>,
    /// If keys are kept in order: the key of each message.
    pub(super) keys: Vec<u64>,
    pub(super) retry: RetryState,
    pub(super) until: Instant,
    pub(super) for_breaker: bool,
}

impl Unit {
    pub(super) fn new(messages: Vec<Message>, keys: Vec<u64>, until: Until) -> Self {
        Self { messages, keys, retry: until.retry, until: until.until, for_breaker: until.for_breaker }
    }

    /// Creates a unit of messages that were not attempted yet.
    pub(super) fn now(messages: Vec<Message>, keys: Vec<u64>, now: Instant) -> Self {
        Self { messages, keys, retry: RetryState::default(), until: now, for_breaker: false }
    }
}
