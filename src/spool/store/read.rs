//! Reads the records of a lane, one after the other.

use std::sync::Arc;

use tracing::error;

use super::record::Record;
use crate::files::SegmentFile;
use crate::spool::{
    error::SpoolError,
    format::{Kind, segment_name},
    lanes::{
        key::LaneKey,
        lane::{Known, Run},
        ranges::{LaneMessages, Ranges},
    },
    log::{
        cursor::{Cursor, Found, Located},
        damage::Piece,
        shared::Shared,
    },
};

/// The read position of a lane.
#[derive(Debug, Default)]
pub(in crate::spool) struct Reader {
    cursor: Cursor,
    file: Option<(u64, Arc<dyn SegmentFile>)>,
    /// The record that was read last.
    sequence: u64,
}

/// The wanted record, and where to search for it.
#[derive(Debug)]
struct Wanted {
    sequence: u64,
    run: Run,
    /// Its exact position, if it was read before.
    at: Option<u64>,
    /// The end of the segment.
    end: u64,
}

/// A record that cannot be read, and the damaged pieces where it should be.
#[derive(Debug, Default)]
struct Lost {
    pieces: Vec<Piece>,
    /// Where it is, if that much is known.
    located: Option<Located>,
}

impl Reader {
    pub(in crate::spool) fn next(
        &mut self,
        shared: &Shared,
        lane: &LaneKey,
        after: u64,
    ) -> Result<Option<Record>, SpoolError> {
        loop {
            let Some(wanted) = self.find(shared, lane, after)? else {
                *self = Self::default();
                return Ok(None);
            };
            let mut body = shared.buffers.take();
            match self.read(shared, lane, &wanted, &mut body)? {
                Ok(located) => {
                    if let Some((settled, bodies)) =
                        shared.known(lane, &wanted, located, located.header.came(&body))
                    {
                        let (lane, sequence) = (lane.clone(), wanted.sequence);
                        let (buffers, clock) = (shared.buffers.clone(), shared.clock.clone());
                        let (messages, came) = (located.header.messages, located.header.came(&body));
                        return Ok(Some(Record {
                            lane,
                            sequence,
                            settled,
                            bodies,
                            messages,
                            came,
                            body,
                            buffers,
                            clock,
                        }));
                    }
                    // Settled, or moved, while it was read.
                }
                Err(lost) => {
                    if let Some((_, file)) = &self.file {
                        shared.lose(lane, &wanted, &**file, &lost);
                    }
                }
            }
        }
    }

    /// Returns what to read, and the file it is in.
    fn find(&mut self, shared: &Shared, lane: &LaneKey, after: u64) -> Result<Option<Wanted>, SpoolError> {
        let state = shared.lock();
        let Some(lane) = state.lanes.get(lane) else { return Ok(None) };
        let Some((sequence, run)) = lane.first_after(after) else { return Ok(None) };
        let known = lane.known.get(&sequence).filter(|known| known.segment == run.segment);
        let at = known.map(|known| known.end - known.length);
        let end = state.segments.get(&run.segment).map_or(0, |segment| segment.length);
        if self.file.as_ref().is_none_or(|(number, _)| *number != run.segment) {
            // Opened before anybody can delete it.
            let name = segment_name(run.segment);
            let file = shared.files.open(&name).map_err(failed(shared, run.segment))?;
            self.file = Some((run.segment, file));
        }
        Ok(Some(Wanted { sequence, run, at, end }))
    }

    /// Reads a record, or returns the damaged pieces that were found instead.
    fn read(
        &mut self,
        shared: &Shared,
        lane: &LaneKey,
        wanted: &Wanted,
        body: &mut Vec<u8>,
    ) -> Result<Result<Located, Lost>, SpoolError> {
        let Some((_, file)) = &self.file else { return Ok(Err(Lost::default())) };
        let Run { segment, position, .. } = wanted.run;
        let here = self.cursor.position();
        // It most likely follows the one that was read last. If not, because one of them was moved, the search starts over.
        let behind = self.cursor.segment() == segment && self.sequence < wanted.sequence && here >= position;
        let start = if behind { Some(here) } else { None };
        let starts = [wanted.at.or(start), Some(position)];
        let mut pieces = Vec::new();
        for start in starts.into_iter().flatten() {
            pieces.clear();
            self.cursor.go(segment, start, wanted.end);
            while let Some(found) = self.cursor.next(&**file, None).map_err(failed(shared, segment))? {
                match found {
                    Found::Record(located) if is_wanted(located, &self.cursor, lane, wanted.sequence) => {
                        self.cursor.body(&**file, located, body).map_err(failed(shared, segment))?;
                        if crc32fast::hash(body) == located.header.body_checksum {
                            self.sequence = wanted.sequence;
                            return Ok(Ok(located));
                        }
                        let record = Some((lane.clone(), wanted.sequence));
                        let (from, to) = (located.position, located.end());
                        let pieces = vec![Piece { segment, from, to, tail: false, record }];
                        return Ok(Err(Lost { pieces, located: Some(located) }));
                    }
                    Found::Record(_) => {}
                    Found::Damaged { from, to, record } => {
                        pieces.push(Piece { segment, from, to, tail: false, record });
                    }
                }
            }
        }
        Ok(Err(Lost { pieces, located: None }))
    }
}

fn is_wanted(located: Located, cursor: &Cursor, lane: &LaneKey, sequence: u64) -> bool {
    let header = located.header;
    let (stream, topic) = (lane.stream().as_bytes(), lane.topic().as_bytes());
    header.kind == Kind::Batch
        && header.sequence == sequence
        && header.partition == lane.partition()
        && usize::from(header.stream) == stream.len()
        && cursor.names().strip_prefix(stream) == Some(topic)
}

fn failed(shared: &Shared, segment: u64) -> impl FnOnce(std::io::Error) -> SpoolError {
    let path = shared.files.path(&segment_name(segment));
    SpoolError::io(format!("{} cannot be read", path.display()))
}

impl Shared {
    /// Stores what is known about a record now that it was read, and returns which of its messages are settled, and which
    /// were sent together; `None` if it is gone.
    fn known(
        &self,
        lane: &LaneKey,
        wanted: &Wanted,
        located: Located,
        came: Option<u64>,
    ) -> Option<(Ranges, Vec<Arc<LaneMessages>>)> {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(lane)?;
        let run = lane.run(wanted.sequence)?;
        let known = Known {
            segment: wanted.run.segment,
            end: located.end(),
            length: located.header.length(),
            messages: located.header.messages,
            came,
        };
        if run.segment == known.segment || !lane.known.contains_key(&wanted.sequence) {
            lane.known.insert(wanted.sequence, known);
        }
        let settled = lane.partly.get(&wanted.sequence).cloned().unwrap_or_default();
        Some((settled, lane.bodies.get(&wanted.sequence).cloned().unwrap_or_default()))
    }

    /// Gives up a record that cannot be found or read.
    fn lose(&self, key: &LaneKey, wanted: &Wanted, file: &dyn SegmentFile, lost: &Lost) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(key) else { return };
        if lane.run(wanted.sequence).is_none_or(|run| run.segment != wanted.run.segment) {
            return;
        }
        error!("record {} of {key} is damaged and passed over: its messages are lost", wanted.sequence);
        let settled = lane.partly.get(&wanted.sequence).map_or(0, Ranges::count);
        let (messages, length) = lost
            .located
            .map_or((0, 0), |located| (u64::from(located.header.messages), located.header.length()));
        lane.messages = lane.messages.saturating_sub(messages.saturating_sub(settled));
        state.remove(key, wanted.sequence, length);
        drop(state);
        self.heads.send_modify(|times| *times += 1);
        self.set_aside(file, &lost.pieces);
    }
}
