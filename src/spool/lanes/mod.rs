//! What waits, lane by lane, and what was stored last. Nothing here knows of files.

pub(in crate::spool) mod dedup;
pub(in crate::spool) mod key;
pub(in crate::spool) mod lane;
pub(in crate::spool) mod mixed;
pub(in crate::spool) mod ranges;
