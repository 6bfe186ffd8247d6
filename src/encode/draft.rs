//! A body that is being written, and the results of adding messages to it.

use super::body::{Body, Record, Special};
use crate::payload::Refusal;

/// The result of encoding messages.
#[derive(Debug)]
pub enum Encoded {
    /// They are in this body.
    Body(Body),
    /// The message with this index in the batch is in no body.
    Refused(usize, Refusal),
}

/// A body that is being written.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<Record>,
    /// Its number among the bodies that are filled side by side.
    pub(super) number: u64,
    /// Whether it was recorded before.
    pub(super) noted: bool,
    /// The maximum of its bytes.
    pub(super) limit: usize,
    /// Its own fields, if requests depend on their messages.
    pub(super) special: Option<Box<Special>>,
}

/// The result of adding a message to a body.
pub(super) enum Put {
    /// It was added.
    Added,
    /// It was added, and is the last one.
    Full,
    /// There is no room for it: it begins the next body.
    NoRoom,
    Refused(Refusal),
}
