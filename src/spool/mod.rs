//! The durable queue between consume and delivery: what consume returned `Ok` for survives a crash.
//!
//! A folder holds segments `000000000001.log`, appended to by one owner, who holds `lock`. A segment begins
//! with a checkpoint, all that segments before it told; then follow batches, and the progress of their
//! delivery. A segment is deleted when nothing in it is unsettled.
//!
//! ```text
//! accept -> repeats left out -> encoded -> [queue] -> one write, one sync for all that wait -> lane
//! lane -> next -> delivered … -> settle -> progress -> segment deleted
//! ```
//!
//! Batches are kept in lanes by stream, topic and partition. In memory there is nothing for each record:
//! runs of unsettled records, and for the last batch of each partition what tells its messages apart, so
//! that they are not stored again when they come once more.

mod accept;
mod checkpoint;
mod clock;
mod damage;
mod error;
mod files;
mod format;
mod lanes;
mod mixed;
mod ranges;
mod read;
mod record;
mod recover;
mod settle;
mod space;
mod state;
mod status;
mod store;
mod sync;
#[cfg(test)]
pub(crate) mod tests;
mod walk;
mod window;

pub use accept::Accepted;
pub use damage::Damage;
pub use error::SpoolError;
pub(crate) use files::on_disk;
pub use files::{Files, SegmentFile};
pub use lanes::LaneKey;
pub use record::{LaneMessages, MessageRanges, Record, Stored};
pub use status::{LaneStatus, Status, holds_messages, status};
pub use store::{LaneHeld, LanesBy, Options, Recovery, Spool, SyncMode, Usage, WhenFull};
