//! A body that is being written, and what becomes of messages in it.

use super::body::{Body, Record, Special};
use crate::payload::Refusal;

/// What becomes of messages in encoding.
#[derive(Debug)]
pub enum Encoded {
    /// They are in this body.
    Body(Body),
    /// The message, an index into the batch, is in none.
    Refused(usize, Refusal),
}

/// A body that is being written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Record>,
    /// Which of the bodies that are written side by side it is.
    pub(super) number: u64,
    /// Whether it was written down before.
    pub(super) noted: bool,
    /// The most bytes that it may have.
    pub(super) limit: usize,
    /// What it has of its own, where requests depend on their messages.
    pub(super) special: Option<Box<Special>>,
}

/// What became of a message that was to go into a body.
pub(super) enum Put {
    /// It is in it.
    Added,
    /// It is in it, and the last one.
    Full,
    /// It has no room in it, and begins the next one.
    NoRoom,
    Refused(Refusal),
}
