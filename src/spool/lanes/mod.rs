//! The state of each lane, and the messages that were stored last. Nothing here knows about files.

pub(in crate::spool) mod dedup;
pub(in crate::spool) mod key;
pub(in crate::spool) mod lane;
pub(in crate::spool) mod mixed;
pub(in crate::spool) mod ranges;
