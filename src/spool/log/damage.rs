//! Sets damaged bytes aside, once.

use std::{fmt, io, path::PathBuf};

use serde::Serialize;

use crate::files::{Files, SegmentFile};
use crate::spool::{
    format::{Header, Kind, PREFIX, segment_name},
    lanes::key::LaneKey,
};

/// A damaged piece of a spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file it was in.
    pub file: PathBuf,
    /// Where it began there.
    pub position: u64,
    /// Its length.
    pub bytes: u64,
    /// Whether it was the end of the file. A crash in the middle of a write causes that.
    pub tail: bool,
    /// The record that it was, if its header could be read.
    pub record: Option<String>,
    /// Where its bytes were put; `None` if that failed, or nothing was changed.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let location = if self.tail { "at the end of" } else { "in" };
        write!(
            f,
            "{} bytes from {} on {location} {} are damaged",
            self.bytes,
            self.position,
            self.file.display()
        )?;
        if let Some(record) = &self.record {
            write!(f, " ({record})")?;
        }
        match &self.kept {
            Some(kept) => write!(f, " and were put into {}", kept.display()),
            None => Ok(()),
        }
    }
}

/// A damaged piece, before it is set aside.
#[derive(Debug)]
pub(in crate::spool) struct Piece {
    pub(in crate::spool) segment: u64,
    pub(in crate::spool) from: u64,
    pub(in crate::spool) to: u64,
    pub(in crate::spool) tail: bool,
    pub(in crate::spool) record: Option<(LaneKey, u64)>,
}

impl Piece {
    /// Returns its description for the log.
    pub(in crate::spool) fn report(&self, files: &dyn Files, kept: Option<PathBuf>) -> Damage {
        Damage {
            file: files.path(&segment_name(self.segment)),
            position: self.from,
            bytes: self.to - self.from,
            tail: self.tail,
            record: self.record.as_ref().map(|(lane, sequence)| format!("record {sequence} of {lane}")),
            kept,
        }
    }

    /// Copies it to the folder of damaged pieces, and removes it from its segment, so that it is not found again. If the copy
    /// cannot be written, the connector opens nevertheless.
    pub(in crate::spool) fn set_aside(
        &self,
        files: &dyn Files,
        file: &dyn SegmentFile,
        limit: u64,
    ) -> io::Result<Damage> {
        let kept = self.copy(files, file, limit).ok();
        if self.tail {
            file.truncate(self.from)?;
        } else if self.to - self.from >= PREFIX as u64
            && let Ok(body) = u32::try_from(self.to - self.from - PREFIX as u64)
            && let Some(header) = Header::of(Kind::Gap, &[])
        {
            let header = Header { body, ..header };
            file.write_at(self.from, &header.bytes(self.segment, self.from))?;
        }
        Ok(self.report(files, kept))
    }

    fn copy(&self, files: &dyn Files, file: &dyn SegmentFile, limit: u64) -> io::Result<PathBuf> {
        let folder = files.damaged()?;
        let mut bytes = vec![0; usize::try_from((self.to - self.from).min(limit)).unwrap_or(0)];
        let read = file.read_at(self.from, &mut bytes)?;
        bytes.truncate(read);
        // The oldest are deleted: the folder must not grow without limit.
        let mut pieces = folder.list()?;
        let mut held: u64 = pieces.iter().map(|(_, length)| length).sum::<u64>() + bytes.len() as u64;
        pieces.reverse();
        while held > limit
            && let Some((name, length)) = pieces.pop()
        {
            folder.delete(&name)?;
            held -= length;
        }
        let name = format!("{:012}-{:010}.damaged", self.segment, self.from);
        // It may exist from an earlier attempt.
        let _ = folder.delete(&name);
        let copy = folder.create(&name)?;
        copy.write_at(0, &bytes)?;
        copy.sync()?;
        Ok(folder.path(&name))
    }
}
