//! The public interface of a spool: accept, read and settle, and what it holds.

mod accept;
mod read;
mod record;
mod settle;
mod spool;
mod sync;

pub use accept::Accepted;
pub use record::{Record, Stored};
#[cfg(test)]
pub(in crate::spool) use spool::windows;
pub use spool::{LaneHeld, Recovery, Spool, Turn, Usage};
