//! Reads the dead letters of a folder, and knows which were replayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt::{self, Write as _},
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{Record, names};
use crate::private::{self, Access};

/// All marks have the length of the longest, so that a partial one is not a mark.
pub(super) const MARK_DIGITS: usize = 20;
/// The first digit of the mark of a letter that was removed by a selection. No position has that many digits, so a release
/// that does not know such marks ignores it.
pub(super) const REMOVED: char = '9';

/// A folder of dead letters, for reading beside the connector that writes to it.
#[derive(Debug, Clone)]
pub struct Folder {
    pub(super) path: PathBuf,
}

/// The position of a dead letter: `SEGMENT:BYTE`. It stays the same as long as the letter exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterPosition {
    /// The number of the segment.
    pub segment: u64,
    /// Where its line begins in the segment.
    pub byte: u64,
}

/// A dead letter and its state.
#[derive(Debug)]
pub struct Entry {
    /// Its position.
    pub position: LetterPosition,
    /// Whether a replay delivered it.
    pub replayed: bool,
    /// The letter, or why its line cannot be read.
    pub record: Result<Record, String>,
}

impl Folder {
    /// # Errors
    /// There is no such folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::read_dir(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Whether its files show that dead letters are, or were, kept there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_ours(&self) -> io::Result<bool> {
        let mut names =
            fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        let of_letters = |name: &OsString| {
            let name = name.to_string_lossy();
            [names::SPARE, names::REPLAY_LOCK].contains(&&*name) || names::segment_number(&name).is_some()
        };
        if names.iter().any(of_letters) {
            return Ok(true);
        }
        // A connector that never had a letter leaves nothing else, but other programs have such a file, too.
        names.retain(|name| name != names::LOCK);
        Ok(names.is_empty() && self.path.join(names::LOCK).exists())
    }

    /// How many letters a segment has, and how many of them were never replayed.
    pub(super) fn count(&self, segment: u64) -> io::Result<(usize, usize)> {
        let (mut records, mut open) = (0, 0);
        self.for_each_of(segment, &mut |entry| {
            records += 1;
            open += usize::from(!entry.replayed);
            true
        })?;
        Ok((records, open))
    }

    /// Calls `each` for every dead letter, oldest first, until it says `false`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn for_each(&self, mut each: impl FnMut(Entry) -> bool) -> io::Result<()> {
        for segment in names::segments(&self.path)? {
            if !self.for_each_of(segment, &mut each)? {
                break;
            }
        }
        Ok(())
    }

    /// The letter at a position, if there is one.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn find(&self, position: LetterPosition) -> io::Result<Option<Entry>> {
        let mut found = None;
        self.for_each_of(position.segment, &mut |entry| {
            if entry.position == position {
                found = Some(entry);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    fn for_each_of(&self, segment: u64, each: &mut impl FnMut(Entry) -> bool) -> io::Result<bool> {
        let file = match private::open(&names::segment(&self.path, segment), Access::Read) {
            Ok(file) => file,
            // It was purged in the meantime.
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(true),
            Err(why) => return Err(why),
        };
        let KnownMarks { replayed, removed } = self.marks(segment)?;
        let mut lines = BufReader::with_capacity(256 * 1024, file);
        let mut line = Vec::new();
        let mut byte = 0;
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            // A line without its end is being written at this moment.
            if line.pop() != Some(b'\n') {
                return Ok(true);
            }
            let record =
                serde_json::from_slice(&line).map_err(|why| format!("the line is no dead letter: {why}"));
            let entry = Entry {
                position: LetterPosition { segment, byte },
                replayed: replayed.contains(&byte),
                record,
            };
            let is_removed = removed.contains(&byte);
            byte += length as u64;
            if !is_removed && !each(entry) {
                return Ok(false);
            }
        }
    }

    fn marks(&self, segment: u64) -> io::Result<KnownMarks> {
        let marks = private::read_to_string(&names::replayed(&self.path, segment))?.unwrap_or_default();
        let mut known = KnownMarks::default();
        // A mark that a crash cut off has fewer digits, whatever was written after it.
        for mark in marks.lines().filter(|mark| mark.len() == MARK_DIGITS) {
            match mark.strip_prefix(REMOVED) {
                Some(removed) => known.removed.extend(removed.parse::<u64>()),
                None => known.replayed.extend(mark.parse::<u64>()),
            }
        }
        Ok(known)
    }

    /// Finds out whether letters of any segment could be marked, before the first of them is sent.
    ///
    /// # Errors
    /// The marks of a segment cannot be opened or made; the first such file is named.
    pub(crate) fn can_mark(&self, _replaying: &Replaying) -> io::Result<()> {
        for segment in names::segments(&self.path)? {
            self.open_marks(segment)?;
        }
        Ok(())
    }

    fn open_marks(&self, segment: u64) -> io::Result<File> {
        let path = names::replayed(&self.path, segment);
        private::open(&path, Access::Make).map_err(|why| private::at(&path, why))
    }

    /// Reserves room for the marks of letters that are about to be sent, durably: once they are delivered it is too late to
    /// find out that they cannot be marked and would be sent again.
    ///
    /// # Errors
    /// The marks cannot be written.
    pub(crate) fn make_room(
        &self,
        positions: &[LetterPosition],
        _replaying: &Replaying,
    ) -> io::Result<Marks> {
        let mut segments: BTreeMap<u64, u64> = BTreeMap::new();
        for position in positions {
            *segments.entry(position.segment).or_default() += MARK_DIGITS as u64 + 1;
        }
        let mut marks = Marks(Vec::with_capacity(segments.len()));
        for (segment, bytes) in segments {
            let file = self.open_marks(segment)?;
            let end = file.metadata()?.len();
            // The first line break separates these from a mark that a crash cut off.
            file.write_all_at(&vec![b'\n'; usize::try_from(bytes).unwrap_or(0) + 1], end)?;
            file.sync_data()?;
            marks.0.push(Room { segment, file, start: end + 1 });
        }
        File::open(&self.path)?.sync_all()?;
        Ok(marks)
    }

    /// Prevents others from replaying and purging at the same time.
    ///
    /// # Errors
    /// Somebody else does so already.
    pub(crate) fn replaying(&self) -> io::Result<Replaying> {
        let path = self.path.join(names::REPLAY_LOCK);
        lock(&path).map_err(|why| private::at(&path, why))?.map(Replaying).ok_or_else(|| {
            io::Error::new(ErrorKind::ResourceBusy, "another replay or purge is at work there")
        })
    }
}

impl Entry {
    /// Returns it as JSON, with the payload as written in the record: converting it to values would change it.
    pub fn to_json(&self) -> String {
        let record = match &self.record {
            Ok(record) => serde_json::to_string(record).unwrap_or_default(),
            Err(why) => serde_json::json!({ "unreadable": why }).to_string(),
        };
        let fields = record.strip_prefix('{').unwrap_or(&record);
        format!("{{\"position\":\"{}\",\"replayed\":{},{fields}", self.position, self.replayed)
    }
}

/// The positions of letters of a segment that have marks.
#[derive(Debug, Default)]
struct KnownMarks {
    replayed: BTreeSet<u64>,
    removed: BTreeSet<u64>,
}

/// Room for the marks of letters.
#[derive(Debug)]
pub(crate) struct Marks(Vec<Room>);

#[derive(Debug)]
struct Room {
    segment: u64,
    file: File,
    start: u64,
}

impl Marks {
    /// Marks those of the letters that were delivered. When it returns `Ok`, no later replay sends them again.
    ///
    /// # Errors
    /// The marks cannot be written.
    pub(crate) fn mark(self, delivered: &[LetterPosition]) -> io::Result<()> {
        self.write(delivered, |position| format!("{:0MARK_DIGITS$}", position.byte))
    }

    pub(crate) fn write(
        self,
        positions: &[LetterPosition],
        mark: impl Fn(&LetterPosition) -> String,
    ) -> io::Result<()> {
        for Room { segment, file, start } in self.0 {
            let mut marks = String::new();
            for position in positions.iter().filter(|position| position.segment == segment) {
                // Writing to a string does not fail.
                let _ = writeln!(marks, "{}", mark(position));
            }
            file.write_all_at(marks.as_bytes(), start)?;
            file.set_len(start + marks.len() as u64)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

/// The right to replay; given back when dropped.
#[derive(Debug)]
pub(crate) struct Replaying(#[expect(dead_code, reason = "held for its lock")] Lock);

/// A locked file.
#[derive(Debug)]
pub(super) struct Lock(File);

/// The locked file, or `None` while somebody else holds it.
pub(super) fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = private::open(path, Access::Make)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it locked while a child process that is just being started still has the file open. If
        // this fails, closing is all that can be done.
        let _ = self.0.unlock();
    }
}

impl fmt::Display for LetterPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.byte)
    }
}

impl FromStr for LetterPosition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no position of a dead letter: `list` shows them, such as 1:0");
        let (segment, byte) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self { segment: segment.parse().map_err(|_| wrong())?, byte: byte.parse().map_err(|_| wrong())? })
    }
}
