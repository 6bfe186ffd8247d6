//! The mutable state of a spool, and how records are appended to it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    clock::Clock,
    segment::{Active, Segment, Written},
};
use crate::files::{Files, SegmentFile};
use crate::spool::{
    error::{SpoolError, no_space},
    format::{self, HEAD, checkpoint, record::Draft, segment_name},
    lanes::{
        dedup::{Identity, Windows},
        key::LaneKey,
        lane::Lane,
    },
};

/// Records that are smaller than this in total are joined for one write.
const JOINED: usize = 256 * 1024;

/// The mutable state of a spool.
#[derive(Debug)]
pub(in crate::spool) struct State {
    pub(in crate::spool) clock: Arc<Clock>,
    pub(in crate::spool) lanes: HashMap<LaneKey, Lane>,
    /// The lowest sequence for the next record of a forgotten lane: a reader may not know yet that it was forgotten.
    pub(in crate::spool) next_of_forgotten: u64,
    pub(in crate::spool) windows: Windows,
    pub(in crate::spool) segments: BTreeMap<u64, Segment>,
    /// Those in which nothing is unsettled.
    pub(in crate::spool) settled: BTreeSet<u64>,
    /// The segment that is appended to; if there is none, the next append creates one.
    pub(in crate::spool) active: Option<Active>,
    /// The segment whose checkpoint contains everything recorded before it, and survives a crash. Settled segments before it
    /// can be deleted.
    pub(in crate::spool) covering: u64,
    pub(in crate::spool) next_segment: u64,
    /// The lengths of all segments.
    pub(in crate::spool) bytes: u64,
    /// Records that wait to be written, and their bytes.
    pub(in crate::spool) queue: Vec<Pending>,
    pub(in crate::spool) queued_bytes: u64,
    /// The result of writing a record, until its caller has taken it.
    pub(in crate::spool) outcomes: HashMap<u64, Result<(), (SpoolError, Pending)>>,
    pub(in crate::spool) tickets: u64,
    /// Whether some thread writes records or frees space. Until that ends, no other begins a segment: its checkpoint would
    /// lack the records that are being written.
    pub(in crate::spool) committing: bool,
    /// When a segment was last emptied for a topic that has its share.
    pub(in crate::spool) emptied: Option<Instant>,
    /// How many have begun to wait for its end.
    pub(in crate::spool) wanted: usize,
    pub(in crate::spool) phase: Phase,
    /// Whether records are synced from time to time, so that unsynced files are tracked.
    pub(in crate::spool) delayed: bool,
    /// Files before the active one with records that are to be synced.
    pub(in crate::spool) unsynced: Vec<Arc<dyn SegmentFile>>,
    /// Whether the active file has such records.
    pub(in crate::spool) dirty: bool,
}

/// How far a spool is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::spool) enum Phase {
    Open,
    /// Nobody waits for space any more.
    Closing,
    /// It is being dropped.
    Ending,
}

/// A record that waits to be written.
#[derive(Debug)]
pub(in crate::spool) struct Pending {
    pub(in crate::spool) ticket: u64,
    pub(in crate::spool) lane: LaneKey,
    /// The partition that the batch is labelled with.
    pub(in crate::spool) label: u32,
    pub(in crate::spool) draft: Draft,
    pub(in crate::spool) identities: Vec<Identity>,
}

impl State {
    /// Begins a segment, with everything that was recorded before at its head.
    pub(in crate::spool) fn begin_segment(&mut self, files: &dyn Files) -> Result<(), SpoolError> {
        self.forget_idle_lanes();
        let number = self.next_segment;
        self.next_segment += 1;
        let name = segment_name(number);
        let made = files.create(&name).and_then(|file| {
            let checkpoint = checkpoint::record(&self.lanes, &self.windows, self.clock.now(), number, HEAD)
                .ok_or_else(|| io::Error::other("the checkpoint is too large"))?;
            let bytes = [&format::head()[..], &checkpoint].concat();
            file.write_at(0, &bytes).map(|()| (file, bytes.len() as u64))
        });
        let (file, length) = match made {
            Ok(made) => made,
            Err(why) => {
                // A partial segment does no harm, but takes space.
                let _ = files.delete(&name);
                return Err(SpoolError::io(format!("{} cannot be created", files.path(&name).display()))(
                    why,
                ));
            }
        };
        if let Some(before) = self.active.take()
            && std::mem::take(&mut self.dirty)
        {
            self.unsynced.push(before.file);
        }
        self.segments.insert(number, Segment { length, ..Segment::default() });
        self.settled.insert(number);
        self.bytes += length;
        self.active = Some(Active { number, file, begin: length, length, durable: false });
        Ok(())
    }

    /// Forgets the lanes in which nothing is unsettled and that no segment names any more, so that checkpoints do not grow with
    /// every partition that there ever was.
    fn forget_idle_lanes(&mut self) {
        let Some(oldest) = self.segments.keys().next().copied() else { return };
        let next = &mut self.next_of_forgotten;
        self.lanes.retain(|_, lane| {
            let idle = lane.is_empty() && lane.told_in < oldest;
            if idle {
                *next = lane.next.max(*next);
            }
            !idle
        });
    }

    /// Appends records; [`make_active`](Self::make_active) must have made sure of a segment. After an error, none of them is
    /// stored.
    pub(in crate::spool) fn append(
        &mut self,
        files: &dyn Files,
        records: &mut [&mut Draft],
    ) -> Result<Written, SpoolError> {
        let Some(active) = self.active.clone() else {
            return Err(SpoolError::io("no segment is open")(io::ErrorKind::NotFound.into()));
        };
        let from = active.length;
        let total: usize = records.iter().map(|record| record.bytes.len()).sum();
        let join = records.len() > 1 && total <= JOINED;
        let mut joined = Vec::with_capacity(if join { total } else { 0 });
        let mut positions = Vec::with_capacity(records.len());
        let mut position = from;
        let mut wrote = Ok(());
        for record in records {
            let sealed = record.seal(active.number, position);
            if join {
                joined.extend_from_slice(sealed);
            } else {
                wrote = wrote.and_then(|()| active.file.write_at(position, sealed));
            }
            positions.push(position);
            position += sealed.len() as u64;
        }
        if join {
            wrote = active.file.write_at(from, &joined);
        }
        if let Err(why) = wrote {
            // A full disk is no reason to leave the segment: as long as it is active, settled segments before it can be
            // deleted.
            self.cut(&active, from, no_space(why.kind()));
            let path = files.path(&segment_name(active.number));
            return Err(SpoolError::io(format!("{} cannot be written", path.display()))(why));
        }
        self.grow(&active, position);
        self.dirty = self.delayed;
        Ok(Written { active: Active { length: position, ..active }, from, positions })
    }

    fn grow(&mut self, active: &Active, length: u64) {
        if let Some(segment) = self.segments.get_mut(&active.number) {
            self.bytes = self.bytes + length - segment.length;
            segment.length = length;
        }
        if let Some(active) = &mut self.active {
            active.length = length;
        }
    }

    /// Undoes writes to a segment from a position on. Unless `keep` is set and this succeeds, nothing more is appended to the
    /// segment.
    pub(in crate::spool) fn cut(&mut self, written: &Active, from: u64, keep: bool) {
        // If this fails, the bytes stay. Their sequences are never reused, so the next checkpoint lists them as settled, and
        // nobody delivers them.
        let cut = written.file.truncate(from).and_then(|()| written.file.sync());
        let length = if cut.is_ok() { from } else { written.file.length().unwrap_or(written.length) };
        if let Some(segment) = self.segments.get_mut(&written.number) {
            self.bytes = (self.bytes + length).saturating_sub(segment.length);
            segment.length = length;
        }
        if keep && cut.is_ok() {
            return;
        }
        if self.active.as_ref().is_some_and(|active| active.number == written.number) {
            self.active = None;
            if std::mem::take(&mut self.dirty) {
                self.unsynced.push(written.file.clone());
            }
        }
    }

    /// Removes a record that is settled as a whole, or lost. `length` is that of the record.
    pub(in crate::spool) fn remove(&mut self, key: &LaneKey, sequence: u64, length: u64) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Some(number) = lane.remove(sequence) else { return };
        lane.bytes = lane.bytes.saturating_sub(length);
        if lane.is_empty() {
            (lane.messages, lane.bytes) = (0, 0);
        }
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.live = segment.live.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(length);
            if segment.live == 0 {
                segment.live_bytes = 0;
                self.settled.insert(number);
            }
        }
    }
}
