//! Compaction: frees space by deleting settled segments, and by rewriting the few records that keep others alive.

use std::{collections::HashSet, io};

use tracing::error;

use super::{
    error::SpoolError,
    format::{HEAD, Kind, PREFIX, record::Draft, segment_name},
    lanes::{key::LaneKey, lane::Known},
    log::{
        cursor::{Cursor, Found},
        damage::Piece,
        segment::{Active, Segment},
        shared::Shared,
        state::State,
    },
};
use crate::files::SegmentFile;

/// A segment is compacted once its garbage is at least this part of it: one in this many.
const WORTH: u64 = 4;
/// The maximum size in a checkpoint of a lane without its names, and of a remembered message.
const ENCODED: (u64, u64) = (64, 18);

impl State {
    /// The maximum size of a new segment without its records, when nothing is unsettled.
    pub(in crate::spool) fn overhead(&self) -> u64 {
        let (lane, message) = ENCODED;
        // Once for the lane, and once for the messages of its topic.
        let names: usize = self.lanes.keys().map(|lane| lane.stream().len() + lane.topic().len()).sum();
        let lanes = self.lanes.len() as u64 * lane + names as u64 * 2;
        HEAD + PREFIX as u64 + self.windows.held() as u64 * message + lanes
    }

    /// Records that the active segment and its checkpoint survive a crash.
    pub(in crate::spool) fn is_durable(&mut self, number: u64) {
        if let Some(active) = self.active.as_mut().filter(|active| active.number == number) {
            active.durable = true;
            self.covering = number;
        }
    }

    /// Stops appending to a segment.
    pub(in crate::spool) fn leave(&mut self, number: u64) {
        if let Some(active) = self.active.take_if(|active| active.number == number)
            && std::mem::take(&mut self.dirty)
        {
            self.unsynced.push(active.file);
        }
    }

    /// Returns the bytes that the topic of a lane holds, and the equal share of each topic. Topics count if they hold
    /// something or if something of them was stored since the spool was opened.
    pub(in crate::spool) fn share(&self, lane: &LaneKey, max: u64) -> (u64, u64) {
        let counted = self.lanes.iter().filter(|(_, lane)| lane.fed || !lane.is_empty());
        let topics: HashSet<(&str, &str)> =
            counted.map(|(key, _)| key).chain([lane]).map(|key| (key.stream(), key.topic())).collect();
        let of_topic = self.lanes.iter().filter(|(key, _)| key.is_of_topic(lane));
        let held = of_topic.map(|(_, lane)| lane.bytes).sum::<u64>();
        let queued = self.queue.iter().filter(|record| record.lane.is_of_topic(lane));
        let queued = queued.map(|record| record.draft.bytes.len() as u64).sum::<u64>();
        (held + queued, max / topics.len() as u64)
    }

    /// How many bytes do not belong to unsettled records.
    pub(in crate::spool) fn garbage(&self) -> u64 {
        let live: u64 = self.segments.values().map(|segment| segment.live_bytes).sum();
        self.bytes.saturating_sub(live)
    }

    /// Returns the active segment if settled ones before it can be deleted only once it survives a crash.
    fn not_durable(&self) -> Option<Active> {
        let active = self.active.as_ref().filter(|active| !active.durable)?;
        self.settled.range(..active.number).next().map(|_| active.clone())
    }

    /// Removes the settled segments before one from the state: the caller deletes them, and their space no longer counts.
    fn take_settled(&mut self, end: u64) -> Vec<(u64, Segment)> {
        let numbers: Vec<u64> = self.settled.range(..end).copied().collect();
        let mut taken = Vec::with_capacity(numbers.len());
        for number in numbers {
            self.settled.remove(&number);
            if let Some(segment) = self.segments.remove(&number) {
                self.bytes = self.bytes.saturating_sub(segment.length);
                taken.push((number, segment));
            }
        }
        taken
    }

    /// Puts back segments that could not be deleted.
    fn put_back(&mut self, segments: &[(u64, Segment)]) {
        for (number, segment) in segments {
            self.bytes += segment.length;
            self.settled.insert(*number);
            self.segments.insert(*number, *segment);
        }
    }

    /// Whether nothing is unsettled.
    fn is_settled(&self) -> bool {
        self.settled.len() == self.segments.len()
    }
}

impl Shared {
    /// Makes sure that there is an active segment with room for this many more bytes.
    pub(in crate::spool) fn make_active(&self, state: &mut State, needed: u64) -> Result<(), SpoolError> {
        match &state.active {
            Some(active) if active.length == active.begin || active.length + needed <= self.segment_bytes => {
                Ok(())
            }
            active => {
                let is_active = active.is_some();
                match self.begin_segment(state) {
                    // A segment that is too large is better than messages without one.
                    Err(why) if is_active && why.is_shortage() => Ok(()),
                    ended => ended,
                }
            }
        }
    }

    /// Begins a segment; if there is no space for it, frees some.
    fn begin_segment(&self, state: &mut State) -> Result<(), SpoolError> {
        match state.begin_segment(&*self.files) {
            Err(why) if why.is_no_space() && self.free_for_segment(state) => {
                state.begin_segment(&*self.files)
            }
            begun => begun,
        }
    }

    /// Deletes what can be deleted before a segment begins. Returns whether anything was deleted.
    fn free_for_segment(&self, state: &mut State) -> bool {
        let before = state.segments.len();
        self.delete_before(state, state.covering);
        if state.is_settled() {
            // Only the next segment needs what the last one recorded: after a crash right now, only the dedup window would be
            // lost.
            state.active = None;
            self.delete_before(state, u64::MAX);
        }
        state.segments.len() < before
    }

    /// Deletes the segments in which nothing is unsettled, if what they recorded survives a crash without them. Returns
    /// whether there were any. This only frees space, so an error is only logged.
    ///
    /// Nothing is locked during disk operations, so that batches are accepted meanwhile.
    pub(in crate::spool) fn delete_settled(&self) -> bool {
        let mut state = self.lock();
        if state.committing {
            return false;
        }
        if let Some(active) = state.not_durable() {
            drop(state);
            let synced = self.sync_segment(&active);
            state = self.lock();
            // The next call that stores something gets the error of the sync. Segments that an earlier one covers can be
            // deleted nevertheless.
            if synced {
                state.is_durable(active.number);
            }
            if state.committing {
                return false;
            }
        }
        let end = state.covering;
        let settled = state.take_settled(end);
        drop(state);
        let deleted = self.delete(&settled);
        if deleted < settled.len() {
            self.lock().put_back(&settled[deleted..]);
        }
        deleted > 0
    }

    /// The same for a call that needs the space, and has set `committing`.
    fn delete_settled_now(&self, state: &mut State) {
        if let Some(active) = state.not_durable()
            && self.sync_segment(&active)
        {
            state.is_durable(active.number);
        }
        self.delete_before(state, state.covering);
    }

    fn delete_before(&self, state: &mut State, end: u64) {
        let settled = state.take_settled(end);
        let deleted = self.delete(&settled);
        state.put_back(&settled[deleted..]);
    }

    /// Deletes segments up to the first that cannot be. Returns how many.
    fn delete(&self, segments: &[(u64, Segment)]) -> usize {
        for (deleted, (number, _)) in segments.iter().enumerate() {
            let name = segment_name(*number);
            match self.files.delete(&name) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    error!("{} cannot be deleted: {why}", self.files.path(&name).display());
                    return deleted;
                }
                _ => {}
            }
        }
        segments.len()
    }

    fn sync_segment(&self, active: &Active) -> bool {
        active.file.sync().and_then(|()| self.files.sync_names()).is_ok()
    }

    /// Frees space for a caller that has set `committing`. Returns whether any was freed. The active segment is replaced by a
    /// new one only if it is `urgent`.
    pub(in crate::spool) fn make_room(&self, state: &mut State, urgent: bool) -> Result<bool, SpoolError> {
        let before = state.bytes;
        let active = state.active.as_ref().map(|active| (active.number, active.begin));
        let garbage = |number: u64, length: u64, live: u64| {
            // The checkpoint, which the next segment has as well, is no gain.
            let begin = active.filter(|(active, _)| *active == number).map_or(0, |(_, begin)| begin);
            length.saturating_sub(live + begin)
        };
        let worst = state
            .segments
            .iter()
            .map(|(number, segment)| {
                (garbage(*number, segment.length, segment.live_bytes), *number, *segment)
            })
            .filter(|(garbage, _, segment)| segment.live == 0 || *garbage >= segment.length / WORTH)
            .filter(|(garbage, ..)| *garbage > 0)
            .filter(|(_, number, _)| urgent || active.is_none_or(|(active, _)| active != *number))
            .max_by_key(|(garbage, ..)| *garbage);
        let Some((_, number, segment)) = worst else { return Ok(false) };
        if active.is_none_or(|(active, _)| active == number) {
            self.begin_segment(state)?;
        }
        if segment.live > 0 {
            self.empty(state, number)?;
        }
        self.delete_settled_now(state);
        Ok(state.bytes < before)
    }

    /// Rewrites the unsettled records of a segment after all others.
    fn empty(&self, state: &mut State, number: u64) -> Result<(), SpoolError> {
        let name = segment_name(number);
        let failed = || SpoolError::io(format!("{} cannot be read", self.files.path(&name).display()));
        let length = state.segments.get(&number).map_or(0, |segment| segment.length);
        let file = self.files.open(&name).map_err(failed())?;
        let mut cursor = Cursor::new(number, length);
        let mut moved: Vec<Moved> = Vec::new();
        let mut targets: Vec<Active> = Vec::new();
        let mut body = Vec::new();
        let mut pieces = Vec::new();
        while let Some(found) = cursor.next(&*file, Some(&mut body)).map_err(failed())? {
            let located = match found {
                Found::Record(located) if located.header.kind == Kind::Batch => located,
                Found::Record(_) => continue,
                Found::Damaged { from, to, record } => {
                    pieces.push(Piece { segment: number, from, to, tail: to == length, record });
                    continue;
                }
            };
            let Some(lane) = located.header.lane(cursor.names()) else { continue };
            let sequence = located.header.sequence;
            let run = state.lanes.get(&lane).and_then(|lane| lane.run(sequence));
            if run.is_none_or(|run| run.segment != number) {
                continue;
            }
            let mut draft = Draft::moved(located.header, cursor.names(), &body);
            self.make_active(state, draft.bytes.len() as u64)?;
            let written = state.append(&*self.files, &mut [&mut draft])?;
            let (segment, end) = (written.active.number, written.active.length);
            let (length, messages) = (end - written.from, located.header.messages);
            let known = Known { segment, end, length, messages, came: None };
            moved.push(Moved { lane, sequence, known });
            if targets.last().is_none_or(|target| target.number != segment) {
                targets.push(written.active);
            }
        }
        // All of them, before the segment they come from is deleted.
        let synced = targets.iter().try_for_each(|target| target.file.sync());
        let synced = synced.and_then(|()| self.files.sync_names());
        synced.map_err(SpoolError::io(format!(
            "the spool {} cannot be synced",
            self.files.path("").display()
        )))?;
        for target in targets {
            state.is_durable(target.number);
        }
        self.set_aside(&*file, &pieces);
        state.relocate(number, moved);
        Ok(())
    }

    /// Sets damaged pieces aside that were found while the spool is open, and logs them.
    pub(in crate::spool) fn set_aside(&self, file: &dyn SegmentFile, pieces: &[Piece]) {
        for piece in pieces {
            match piece.set_aside(&*self.files, file, self.damaged_limit()) {
                Ok(damage) => error!("{damage}"),
                Err(why) => error!("{}: {why}", piece.report(&*self.files, None)),
            }
        }
    }
}

impl State {
    /// Updates the state after records were moved out of a segment. Unsettled ones that were not moved are lost.
    fn relocate(&mut self, from: u64, moved: Vec<Moved>) {
        for moved in moved {
            let Some(lane) = self.lanes.get_mut(&moved.lane) else { continue };
            lane.relocate(moved.sequence, &moved.known);
            lane.told_in = lane.told_in.max(moved.known.segment);
            self.settled.remove(&moved.known.segment);
            if let Some(segment) = self.segments.get_mut(&moved.known.segment) {
                segment.live += 1;
                segment.live_bytes += moved.known.length;
            }
        }
        for lane in self.lanes.values_mut() {
            lane.lose(from);
        }
        if let Some(segment) = self.segments.get_mut(&from) {
            (segment.live, segment.live_bytes) = (0, 0);
            self.settled.insert(from);
        }
    }
}

/// A record that was rewritten.
#[derive(Debug)]
struct Moved {
    lane: LaneKey,
    sequence: u64,
    known: Known,
}
