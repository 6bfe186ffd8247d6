//! The log: segments on disk, their state, and how records are appended.

pub(in crate::spool) mod buffers;
pub(in crate::spool) mod clock;
pub(in crate::spool) mod cursor;
pub(in crate::spool) mod damage;
pub(in crate::spool) mod lock;
pub(in crate::spool) mod options;
pub(in crate::spool) mod segment;
pub(in crate::spool) mod shared;
pub(in crate::spool) mod state;
