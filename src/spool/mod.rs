//! The durable queue between consume and delivery: what consume returned `Ok` for survives a crash.
//!
//! A folder holds segments `000000000001.log`, appended to by one owner, who holds `lock`. A segment begins with a checkpoint
//! of everything that the segments before it recorded, followed by batches and the progress of their delivery. A segment is
//! deleted when nothing in it is unsettled.
//!
//! ```text
//! accept -> repeats left out -> encoded -> [queue] -> one write, one sync for all that wait -> lane
//! lane -> next -> delivered … -> settle -> progress -> segment deleted
//! ```
//!
//! Imports go one way: store -> recovery, compaction -> log -> format -> lanes.
//!
//! Batches are kept in lanes by stream, topic and partition. Nothing is kept in memory per record: only runs of unsettled
//! records and, for the last batch of each partition, the ids of its messages, so that they are not stored again when they
//! come a second time.

mod compaction;
mod error;
mod export;
mod format;
mod lanes;
mod log;
mod recovery;
mod status;
mod store;
#[cfg(test)]
pub(crate) mod tests;

pub use error::SpoolError;
pub use export::{Exported, export};
pub use lanes::{
    key::LaneKey,
    ranges::{LaneMessages, MessageRanges},
};
pub use log::{
    damage::Damage,
    options::{LanesBy, Options, SyncMode, WhenFull},
};
pub use status::{LaneStatus, Status, holds_messages, status};
pub use store::{Accepted, LaneHeld, Record, Recovery, Spool, Stored, Turn, Usage};
