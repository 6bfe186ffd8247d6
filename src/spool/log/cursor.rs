//! Iterates over the records of a segment, past damaged bytes.

use std::io;

use crate::files::SegmentFile;
use crate::spool::{
    format::{HEAD, Header, Kind, MARKER, PREFIX},
    lanes::key::LaneKey,
};

/// How many bytes are read ahead.
const AHEAD: usize = 64 * 1024;

/// The next item in a segment.
#[derive(Debug)]
pub(in crate::spool) enum Found {
    /// A whole record. Its body was verified if it was requested.
    Record(Located),
    /// Bytes that are not a record, up to the next record or the end.
    Damaged {
        /// Where they begin.
        from: u64,
        /// Where they end.
        to: u64,
        /// The lane and the sequence, if the header is readable.
        record: Option<(LaneKey, u64)>,
    },
}

/// A record and where it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::spool) struct Located {
    pub(in crate::spool) header: Header,
    pub(in crate::spool) position: u64,
}

impl Located {
    pub(in crate::spool) fn end(&self) -> u64 {
        self.position + self.header.length()
    }
}

/// A position in a segment, and the bytes around it.
#[derive(Debug, Default)]
pub(in crate::spool) struct Cursor {
    segment: u64,
    /// The position of the next record.
    position: u64,
    /// The end of the intact part of the segment.
    end: u64,
    ahead: Vec<u8>,
    /// Where `ahead` begins.
    begin: u64,
    names: Vec<u8>,
}

impl Cursor {
    /// Creates a cursor at the first record of a segment of this length.
    pub(in crate::spool) fn new(segment: u64, end: u64) -> Self {
        Self { segment, position: HEAD, end, ..Self::default() }
    }

    pub(in crate::spool) fn segment(&self) -> u64 {
        self.segment
    }

    pub(in crate::spool) fn position(&self) -> u64 {
        self.position
    }

    /// Moves to another position, where a record begins, in a segment that is intact up to `end`.
    pub(in crate::spool) fn go(&mut self, segment: u64, position: u64, end: u64) {
        if self.segment != segment {
            self.segment = segment;
            self.ahead.clear();
        }
        self.position = position;
        self.end = end;
    }

    /// Returns the next record, with its body in `body` if given.
    pub(in crate::spool) fn next(
        &mut self,
        file: &dyn SegmentFile,
        body: Option<&mut Vec<u8>>,
    ) -> io::Result<Option<Found>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let Some(header) = self.header(file, position)? else {
            let to = self.find(file, position + 1)?.unwrap_or(self.end);
            self.position = to;
            return Ok(Some(Found::Damaged { from: position, to, record: None }));
        };
        let located = Located { header, position };
        if located.end() > self.end {
            // The length is intact, but the rest of the record is missing.
            self.position = self.end;
            return Ok(Some(Found::Damaged { from: position, to: self.end, record: None }));
        }
        self.position = located.end();
        let mut names = std::mem::take(&mut self.names);
        names.clear();
        names.extend_from_slice(self.bytes(file, position + PREFIX as u64, header.names())?);
        self.names = names;
        if crc32fast::hash(&self.names) != header.names_checksum {
            return Ok(Some(Found::Damaged { from: position, to: located.end(), record: None }));
        }
        if let Some(body) = body {
            self.body(file, located, body)?;
            if crc32fast::hash(body) != header.body_checksum && header.kind != Kind::Gap {
                let record = header.lane(&self.names).map(|lane| (lane, header.sequence));
                return Ok(Some(Found::Damaged { from: position, to: located.end(), record }));
            }
        }
        Ok(Some(Found::Record(located)))
    }

    /// The names of the lane of the record that was found last.
    pub(in crate::spool) fn names(&self) -> &[u8] {
        &self.names
    }

    /// Reads the body of a record.
    pub(in crate::spool) fn body(
        &mut self,
        file: &dyn SegmentFile,
        located: Located,
        body: &mut Vec<u8>,
    ) -> io::Result<()> {
        let length = located.header.body as usize;
        let position = located.position + located.header.head() as u64;
        let ahead = usize::try_from(position.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        if position >= self.begin
            && let Some(there) = self.ahead.get(ahead..ahead.saturating_add(length))
        {
            body.clear();
            body.extend_from_slice(there);
            return Ok(());
        }
        // Its old content is overwritten, so there is no need to clear it.
        body.resize(length, 0);
        let read = file.read_at(position, body)?;
        body.truncate(read);
        Ok(())
    }

    fn header(&mut self, file: &dyn SegmentFile, position: u64) -> io::Result<Option<Header>> {
        let segment = self.segment;
        Ok(Header::parse(self.bytes(file, position, PREFIX)?, segment, position))
    }

    /// The position of the next whole header from `position` on.
    fn find(&mut self, file: &dyn SegmentFile, mut position: u64) -> io::Result<Option<u64>> {
        let finder = memchr::memmem::Finder::new(&MARKER);
        while position + PREFIX as u64 <= self.end {
            let bytes = self.bytes(file, position, AHEAD)?;
            match finder.find(bytes) {
                Some(at) => {
                    position += at as u64;
                    if self.header(file, position)?.is_some() {
                        return Ok(Some(position));
                    }
                    position += 1;
                }
                // A marker may extend beyond the bytes that were read.
                None => position += (bytes.len().max(MARKER.len()) - MARKER.len() + 1) as u64,
            }
        }
        Ok(None)
    }

    /// The bytes at a position, at least one of them, up to the end of the segment.
    fn bytes(&mut self, file: &dyn SegmentFile, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let held = self.begin + self.ahead.len() as u64;
        if position < self.begin || position + wanted as u64 > held {
            self.ahead.resize(AHEAD.max(wanted).min(left), 0);
            let read = file.read_at(position, &mut self.ahead).inspect_err(|_| self.ahead.clear())?;
            self.ahead.truncate(read);
            self.begin = position;
        }
        let from = usize::try_from(position - self.begin).unwrap_or(usize::MAX);
        let to = from.saturating_add(wanted).min(self.ahead.len());
        Ok(self.ahead.get(from..to).unwrap_or_default())
    }
}
