//! Dead letters: messages that cannot be delivered, kept with the reason until they are replayed.
//!
//! A folder holds segments `dead-letters-000001.ndjson`, one [`Record`] per line, written by one connector. Anyone can read
//! them as a [`Folder`]. Beside each segment, `dead-letters-000001.replayed` lists what a replay delivered, so a segment
//! itself is only ever appended to.

#[cfg(test)]
mod failing_disk;
mod folder;
mod message;
mod purge;
mod record;
mod selection;
mod store;

pub(crate) use folder::Replaying;
pub use folder::{Entry, Folder, LetterPosition};
pub use message::Message;
pub use purge::Purged;
pub use record::Record;
pub use selection::{Count, Selection, Summary};
pub(crate) use store::Store;

/// The reasons that letters have.
pub fn reasons() -> &'static [&'static str] {
    <crate::failure::Reason as strum::VariantNames>::VARIANTS
}

/// The names of the files of a folder.
mod names {
    use std::path::{Path, PathBuf};

    const PREFIX: &str = "dead-letters-";
    const SEGMENT: &str = ".ndjson";

    /// Locked by the writer.
    pub(super) const LOCK: &str = "lock";
    /// An empty file, open before it is needed: it becomes the next segment.
    pub(super) const SPARE: &str = "spare";
    /// Locked during a replay or a purge.
    pub(super) const REPLAY_LOCK: &str = "replay.lock";

    pub(super) fn segment(folder: &Path, number: u64) -> PathBuf {
        folder.join(segment_name(number))
    }

    pub(super) fn segment_name(number: u64) -> String {
        format!("{PREFIX}{number:06}{SEGMENT}")
    }

    pub(super) fn replayed(folder: &Path, number: u64) -> PathBuf {
        folder.join(replayed_name(number))
    }

    pub(super) fn replayed_name(number: u64) -> String {
        format!("{PREFIX}{number:06}.replayed")
    }

    /// The number of a segment, if it is one.
    pub(super) fn segment_number(name: &str) -> Option<u64> {
        name.strip_prefix(PREFIX)?.strip_suffix(SEGMENT)?.parse().ok()
    }

    /// The numbers of the segments of a folder, ascending.
    pub(super) fn segments(folder: &Path) -> std::io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            numbers.extend(entry?.file_name().to_str().and_then(segment_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}
