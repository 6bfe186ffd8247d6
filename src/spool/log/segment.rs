//! What is known of segments.

use std::sync::Arc;

use crate::files::SegmentFile;

/// What is known of a segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::spool) struct Segment {
    pub(in crate::spool) length: u64,
    /// How many of its records are unsettled.
    pub(in crate::spool) live: u64,
    /// Their bytes.
    pub(in crate::spool) live_bytes: u64,
}

/// The segment that is appended to.
#[derive(Debug, Clone)]
pub(in crate::spool) struct Active {
    pub(in crate::spool) number: u64,
    pub(in crate::spool) file: Arc<dyn SegmentFile>,
    /// Where the first record after the checkpoint begins.
    pub(in crate::spool) begin: u64,
    pub(in crate::spool) length: u64,
    /// Whether it and its checkpoint survive a crash, so that segments covered by the checkpoint can be deleted.
    pub(in crate::spool) durable: bool,
}

/// Where records were written.
#[derive(Debug)]
pub(in crate::spool) struct Written {
    pub(in crate::spool) active: Active,
    pub(in crate::spool) from: u64,
    /// The position of each.
    pub(in crate::spool) positions: Vec<u64>,
}
