//! Removes dead letters: whole files, or selected letters.

use std::{
    fs,
    io::{self, ErrorKind},
};

use super::{
    Entry, Folder, LetterPosition,
    folder::{MARK_DIGITS, REMOVED, lock},
    names,
};

/// What a purge removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Segments.
    pub segments: usize,
    /// Dead letters in them.
    pub records: usize,
    /// Their size.
    pub bytes: u64,
}

impl Folder {
    /// Returns what [`purge`](Self::purge) would remove, and how many of these letters were never replayed.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn would_purge(&self, all: bool) -> io::Result<(Purged, usize)> {
        let (mut purged, mut waiting) = (Purged::default(), 0);
        let mut segments = names::segments(&self.path)?;
        if lock(&self.path.join(names::LOCK))?.is_none() {
            segments.pop();
        }
        for segment in segments {
            let (records, open) = self.count(segment)?;
            if all || open == 0 {
                purged.bytes += fs::metadata(names::segment(&self.path, segment))?.len();
                purged.segments += 1;
                purged.records += records;
                waiting += open;
            }
        }
        Ok((purged, waiting))
    }

    /// Removes segments whose letters have all been replayed, or `all` segments. The one that a running connector appends to
    /// stays.
    ///
    /// # Errors
    /// Somebody replays or purges already, or a file cannot be removed.
    pub fn purge(&self, all: bool) -> io::Result<Purged> {
        let _replaying = self.replaying()?;
        // Held until the end, so that no connector opens the folder meanwhile.
        let writer = lock(&self.path.join(names::LOCK))?;
        let mut segments = names::segments(&self.path)?;
        if writer.is_none() {
            segments.pop();
        }
        self.remove(segments, |_, open| all || open == 0)
    }

    /// The same while a connector appends to the segment with this number or later ones.
    ///
    /// # Errors
    /// As of [`purge`](Self::purge).
    pub(crate) fn purge_before(&self, next: u64, all: bool) -> io::Result<Purged> {
        let _replaying = self.replaying()?;
        let mut segments = names::segments(&self.path)?;
        segments.retain(|segment| *segment < next);
        self.remove(segments, |_, open| all || open == 0)
    }

    /// Removes letters, replayed or not, while a connector appends to the segment with this number or later ones. They are no
    /// longer listed; a file is deleted when none of its letters is left.
    ///
    /// # Errors
    /// As of [`purge`](Self::purge).
    pub(crate) fn purge_meant(&self, next: u64, meant: impl Fn(&Entry) -> bool) -> io::Result<Purged> {
        let replaying = self.replaying()?;
        let mut positions = Vec::new();
        self.for_each(|entry| {
            if entry.position.segment < next && meant(&entry) {
                positions.push(entry.position);
            }
            entry.position.segment < next
        })?;
        let mark = |position: &LetterPosition| format!("{REMOVED}{:01$}", position.byte, MARK_DIGITS - 1);
        self.make_room(&positions, &replaying)?.write(&positions, mark)?;
        let mut segments = names::segments(&self.path)?;
        segments.retain(|segment| *segment < next);
        let emptied = self.remove(segments, |records, _| records == 0)?;
        Ok(Purged { records: positions.len(), ..emptied })
    }

    fn remove(&self, segments: Vec<u64>, is_over: impl Fn(usize, usize) -> bool) -> io::Result<Purged> {
        let mut purged = Purged::default();
        for segment in segments {
            let (records, open) = self.count(segment)?;
            if is_over(records, open) {
                let path = names::segment(&self.path, segment);
                purged.bytes += fs::metadata(&path)?.len();
                // The marks are deleted first: a crash in between means that letters are sent again, not that new ones count
                // as replayed.
                match fs::remove_file(names::replayed(&self.path, segment)) {
                    Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
                    _ => {}
                }
                fs::remove_file(path)?;
                purged.segments += 1;
                purged.records += records;
            }
        }
        Ok(purged)
    }
}
