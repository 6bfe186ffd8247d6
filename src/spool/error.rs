//! What can go wrong with a spool.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
};

use thiserror::Error;

use crate::machine;

/// Why an operation of a spool failed. Nothing that ended with one of these counts as stored.
#[derive(Debug, Clone, Error)]
pub enum SpoolError {
    /// Somebody else has the folder open.
    #[error("the spool {} is in use{}: one connector and process at a time; give each its own spool.path",
        path.display(), process.map(|id| format!(" by process {id}")).unwrap_or_default())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that has it, if it is known.
        process: Option<u32>,
    },
    /// The folder was written by a release with another format.
    #[error("{} has format version {version}, and this release reads version {known}: \
        deliver what it holds with the release that wrote it, or move it away", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version that is known here.
        known: u32,
    },
    /// `max_bytes` are in use, and with `when_full = "dead_letter"` nobody waits.
    #[error(
        "the spool is full: {used} of spool.max_bytes = {max} bytes are in use, and {needed} more are needed"
    )]
    Full {
        /// The bytes on disk.
        used: u64,
        /// What they can be at most.
        max: u64,
        /// What the batch takes.
        needed: u64,
    },
    /// The spool is three quarters full, the topic holds more of it than its equal share, and with
    /// `when_full = "dead_letter"` nobody waits.
    #[error(
        "the spool is three quarters full, and the topic holds {held} bytes of it, more than its share: \
        {share} of spool.max_bytes = {max}"
    )]
    OverShare {
        /// The bytes that the topic holds.
        held: u64,
        /// Its equal share.
        share: u64,
        /// What all can hold at most.
        max: u64,
    },
    /// No space is left on the device, and with `when_full = "dead_letter"` nobody waits.
    #[error("no space is left for the spool: {0}")]
    NoSpace(String),
    /// The batch does not fit even into an empty spool.
    #[error(
        "a batch of {needed} bytes never fits into a spool of spool.max_bytes = {max}: \
        raise it, or lower batch_length"
    )]
    TooLarge {
        /// What the batch takes.
        needed: u64,
        /// What there is at most.
        max: u64,
    },
    /// The spool was closed while the batch waited for space.
    #[error("the connector is closing, and the spool is full")]
    Closing,
    /// The system failed.
    #[error("{doing}: {why}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system said.
        #[source]
        why: Arc<io::Error>,
    },
    /// A record that was read does not hold what its checksum promised.
    #[error("a record of the spool cannot be decoded: {0}")]
    Undecodable(String),
}

impl SpoolError {
    /// Whether this machine is short of something, so that another attempt may help at any time.
    pub(crate) fn is_shortage(&self) -> bool {
        matches!(self, Self::Io { why, .. } if machine::is_short(why))
    }

    /// Adds to an error of the system what was attempted.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |why| Self::Io { doing, why: Arc::new(why) }
    }

    /// Whether its only cause is that no space is left on the device.
    pub(super) fn is_no_space(&self) -> bool {
        matches!(self, Self::Io { why, .. } if no_space(why.kind()))
    }
}

/// Whether the only cause is a lack of space.
pub(super) fn no_space(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
