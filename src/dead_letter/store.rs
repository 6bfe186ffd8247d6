//! Appends dead letters to a folder, durably.

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use tracing::warn;

use crate::world::{Files, SegmentFile, World};

use super::{
    folder::{Lock, lock},
    names,
};

/// The one writer of a folder. What [`Store::append`] returned `Ok` for is on disk.
///
/// A process that runs out of file descriptors has letters to write just then, so everything they need is opened in advance:
/// the folder, and a spare file that becomes the next segment by renaming.
#[derive(Debug)]
pub(crate) struct Store {
    files: Arc<dyn Files>,
    max_bytes: u64,
    segment_bytes: u64,
    /// The total size of all segments.
    bytes: u64,
    last: Segment,
    spare: Option<Arc<dyn SegmentFile>>,
    /// Keeps other writers away; the system releases it when the process ends, however it ends.
    _lock: Option<Lock>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
    /// Opened with the first record.
    file: Option<Arc<dyn SegmentFile>>,
}

impl Store {
    /// Opens a folder, and creates it if there is none.
    ///
    /// # Errors
    /// It cannot be written to, or another process or connector writes to it.
    pub(crate) fn open(folder: &Path, max_bytes: u64, segment_bytes: u64, world: &World) -> io::Result<Self> {
        let files = world.folder(folder)?;
        let lock = if world.is_real() {
            let lock = lock(&folder.join(names::LOCK))?.ok_or_else(|| {
                let message =
                    "another connector or process writes dead letters there: give each its own path";
                io::Error::new(ErrorKind::ResourceBusy, message)
            })?;
            Some(lock)
        } else {
            None
        };
        Self::with(files, lock, max_bytes, segment_bytes)
    }

    /// Opens an existing folder that nobody else writes to.
    pub(super) fn with(
        files: Arc<dyn Files>,
        lock: Option<Lock>,
        max_bytes: u64,
        segment_bytes: u64,
    ) -> io::Result<Self> {
        let mut store = Self {
            spare: Some(make_spare(&*files)?),
            files,
            max_bytes,
            segment_bytes,
            bytes: 0,
            last: Segment { number: 1, bytes: 0, file: None },
            _lock: lock,
        };
        let segments = store.segments()?;
        store.bytes = segments.iter().map(|(_, bytes)| bytes).sum();
        if let Some((number, _)) = segments.into_iter().max() {
            store.cut(number)?;
            // An earlier process may have written lines that it could not sync, which read as if they were on disk.
            store.last.number = number + 1;
        }
        Ok(store)
    }

    /// Writes whole lines. When it returns `Ok`, they survive a crash of the machine.
    ///
    /// # Errors
    /// The folder is full, or the system cannot write. Then none of the lines is in it.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.bytes + length > self.max_bytes {
            // It may have been purged since. If that cannot be read, it counts as full as before.
            self.bytes = self.measure().unwrap_or(self.bytes);
        }
        if self.bytes + length > self.max_bytes {
            return Err(io::Error::new(
                ErrorKind::StorageFull,
                format!(
                    "the dead letters hold {} bytes and dead_letter.max_bytes is {}: replay and purge them, or raise it",
                    self.bytes, self.max_bytes
                ),
            ));
        }
        if self.spare.is_none() {
            self.spare = make_spare(&*self.files).ok();
        }
        // A segment that is too large is better than letters without one.
        if self.last.bytes > 0 && self.last.bytes + length > self.segment_bytes && self.spare.is_some() {
            self.last = Segment { number: self.last.number + 1, bytes: 0, file: None };
        }
        if let Err(why) = self.write(lines) {
            self.begin_anew();
            return Err(why);
        }
        self.last.bytes += length;
        self.bytes += length;
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let name = names::segment_name(self.last.number);
        let exists = self.files.length_of(&name)?.is_some();
        // Somebody may have removed the file by hand.
        let file = match self.last.file.take().filter(|_| exists) {
            Some(file) => file,
            None => self.begin(&name, exists)?,
        };
        let file = self.last.file.insert(file);
        file.write_at(self.last.bytes, lines)?;
        file.sync()
    }

    /// After a failed write or sync, nothing more is appended to the segment, even if its tail could be cut off: the system
    /// may consider pages written that never reached the disk, and does not write them again with a later sync.
    fn begin_anew(&mut self) {
        let Some(file) = self.last.file.take() else { return };
        let name = names::segment_name(self.last.number);
        // A segment with only the failed record is deleted, so that they do not accumulate while a disk stays full.
        if self.last.bytes == 0 && self.files.delete(&name).is_ok() {
            return;
        }
        if let Err(why) = file.truncate(self.last.bytes).and_then(|()| file.sync()) {
            // Lines that were not acknowledged may stay: their messages count as failed nevertheless.
            warn!("a dead letter that failed to be written cannot be taken back from {name}: {why}");
        }
        self.last = Segment { number: self.last.number + 1, bytes: 0, file: None };
    }

    /// Opens the last segment, and creates it if there is none.
    fn begin(&mut self, name: &str, exists: bool) -> io::Result<Arc<dyn SegmentFile>> {
        if !exists {
            // Marks of removed letters must not apply to the new ones.
            match self.files.delete(&names::replayed_name(self.last.number)) {
                Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
                _ => {}
            }
            self.last.bytes = 0;
            if let Some(spare) = self.spare.take() {
                match self.files.rename(names::SPARE, name) {
                    Ok(()) => {
                        // The name of a new file is durable only with its folder.
                        self.files.sync_names()?;
                        return Ok(spare);
                    }
                    // Purged by hand as well, perhaps with the folder.
                    Err(why) if why.kind() == ErrorKind::NotFound => {}
                    Err(why) => {
                        self.spare = Some(spare);
                        return Err(why);
                    }
                }
            }
        }
        let file = if exists { self.files.open(name)? } else { self.files.create(name)? };
        self.last.bytes = file.length()?;
        self.files.sync_names()?;
        Ok(file)
    }

    /// Ends the segment that is appended to. Returns the number of the next: those before it are complete.
    pub(crate) fn end_segment(&mut self) -> u64 {
        if self.last.bytes > 0 {
            self.last = Segment { number: self.last.number + 1, bytes: 0, file: None };
        }
        self.last.number
    }

    /// Returns the size and its limit, in bytes.
    pub(crate) fn room(&self) -> (u64, u64) {
        (self.measure().unwrap_or(self.bytes), self.max_bytes)
    }

    /// The bytes of all segments.
    fn measure(&self) -> io::Result<u64> {
        Ok(self.segments()?.iter().map(|(_, bytes)| bytes).sum())
    }

    /// The segments by number, with their bytes.
    fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        let files = self.files.list()?.into_iter();
        Ok(files.filter_map(|(name, bytes)| Some((names::segment_number(&name)?, bytes))).collect())
    }

    /// Removes a line that a crash cut off at the end of a segment: it was never acknowledged.
    fn cut(&mut self, number: u64) -> io::Result<()> {
        let file = self.files.open(&names::segment_name(number))?;
        let bytes = file.length()?;
        let whole = whole_lines(&*file, bytes)?;
        if whole < bytes {
            warn!(
                "the last dead letter was cut off by a crash before it was acknowledged: {} bytes are dropped",
                bytes - whole
            );
            file.truncate(whole)?;
            self.bytes -= bytes - whole;
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // A folder without dead letters contains none of their files. If this one stays, it is empty and does no harm.
        if self.spare.take().is_some() {
            let _ = self.files.delete(names::SPARE);
        }
    }
}

/// Creates an empty file under the name of the spare.
fn make_spare(files: &dyn Files) -> io::Result<Arc<dyn SegmentFile>> {
    // The spare of a process that crashed.
    match files.delete(names::SPARE) {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    files.create(names::SPARE)
}

/// How many bytes of a file are whole lines.
fn whole_lines(file: &dyn SegmentFile, bytes: u64) -> io::Result<u64> {
    let mut end = bytes;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        // The difference is at most the length of the block.
        let read = file.read_at(start, &mut block)?.min(usize::try_from(end - start).unwrap_or(usize::MAX));
        if let Some(at) = block[..read].iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        io::Write,
    };

    use super::*;

    fn open(folder: &Path, max_bytes: u64, segment_bytes: u64) -> io::Result<Store> {
        Store::open(folder, max_bytes, segment_bytes, &World::real())
    }

    fn content(folder: &Path) -> Vec<String> {
        let numbers = names::segments(folder).expect("the folder is there");
        numbers
            .iter()
            .map(|number| fs::read_to_string(names::segment(folder, *number)).expect("a segment"))
            .collect()
    }

    #[test]
    fn lines_are_appended_over_restarts() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("made/on/demand");
        for line in ["1\n", "2\n", "3\n"] {
            open(&path, 1000, 1000)?.append(line.as_bytes())?;
        }
        assert_eq!(content(&path), ["1\n", "2\n", "3\n"]);
        Ok(())
    }

    #[test]
    fn segments_are_rotated_by_size() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut store = open(folder.path(), 1000, 5)?;
        for line in ["11\n", "2\n", "33\n", "a long one\n", "4\n"] {
            store.append(line.as_bytes())?;
        }
        assert_eq!(content(folder.path()), ["11\n2\n", "33\n", "a long one\n", "4\n"]);
        Ok(())
    }

    #[test]
    fn a_full_folder_takes_nothing_more_until_it_is_purged() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut store = open(folder.path(), 10, 4)?;
        store.append(b"123\n")?;
        store.append(b"456\n")?;
        let full = store.append(b"789\n").expect_err("it is full");
        assert!(
            full.kind() == ErrorKind::StorageFull && full.to_string().contains("max_bytes is 10"),
            "{full}"
        );
        assert_eq!(content(folder.path()), ["123\n", "456\n"]);
        fs::remove_file(names::segment(folder.path(), 1))?;
        store.append(b"789\n")?;
        assert_eq!(content(folder.path()), ["456\n", "789\n"]);
        Ok(())
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_dropped() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        open(folder.path(), 1000, 1000)?.append(b"whole\n")?;
        let long = "x".repeat(200_000);
        OpenOptions::new().append(true).open(names::segment(folder.path(), 1))?.write_all(long.as_bytes())?;
        open(folder.path(), 1000, 1000)?.append(b"next\n")?;
        assert_eq!(content(folder.path()), ["whole\n", "next\n"]);
        Ok(())
    }

    #[test]
    fn two_writers_are_one_too_many() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let first = open(folder.path(), 1000, 1000)?;
        let second = open(folder.path(), 1000, 1000).expect_err("the first is there");
        assert!(second.to_string().contains("its own path"), "{second}");
        drop(first);
        open(folder.path(), 1000, 1000)?;
        Ok(())
    }

    #[test]
    fn what_was_purged_by_hand_is_made_anew() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let folder = root.path().join("letters");
        let mut store = open(&folder, 1000, 4)?;
        for line in ["123\n", "456\n"] {
            store.append(line.as_bytes())?;
        }
        fs::remove_file(names::segment(&folder, 2))?;
        store.append(b"789\n")?;
        assert_eq!(content(&folder), ["123\n", "789\n"]);
        // The spare file, too.
        for entry in fs::read_dir(&folder)? {
            fs::remove_file(entry?.path())?;
        }
        store.append(b"abc\n")?;
        // And the whole folder.
        fs::remove_dir_all(&folder)?;
        fs::create_dir(&folder)?;
        store.append(b"def\n")?;
        store.append(b"ghi\n")?;
        assert_eq!(content(&folder).concat(), "def\nghi\n");
        drop(store);
        assert!(!folder.join(names::SPARE).exists());
        Ok(())
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("file");
        fs::write(&file, "")?;
        assert!(open(&file, 1000, 1000).is_err());
        Ok(())
    }
}
