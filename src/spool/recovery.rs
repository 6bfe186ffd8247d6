//! Recovers the state of a spool from disk: first what is settled, then what is not.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::ErrorKind,
    sync::Arc,
};

use super::{
    error::SpoolError,
    format::{
        self, HEAD, Head, Kind, VERSION,
        checkpoint::{self, Checkpoint},
        flag,
        record::{decode, decode_bodies, decode_progress, decode_settled, decode_together},
        segment_name, segment_number,
    },
    lanes::{
        dedup::{Identity, Windows},
        key::LaneKey,
        lane::{Known, Lane},
        mixed,
        ranges::{LaneMessages, Ranges},
    },
    log::{
        cursor::{Cursor, Found, Located},
        damage::{Damage, Piece},
        segment::Segment,
    },
};
use crate::files::{Files, SegmentFile};

/// The recovered state of a spool.
#[derive(Debug)]
pub(in crate::spool) struct Recovered {
    pub(in crate::spool) lanes: HashMap<LaneKey, Lane>,
    pub(in crate::spool) windows: Windows,
    pub(in crate::spool) segments: BTreeMap<u64, Segment>,
    /// The last segment with a checkpoint; 0 if there is none.
    pub(in crate::spool) base: u64,
    pub(in crate::spool) damages: Vec<Damage>,
    /// The time of the spool up to which it is known to have been open.
    pub(in crate::spool) time: u64,
    /// Whether a segment was deleted while the spool was read, so that something may be missing.
    pub(in crate::spool) vanished: bool,
}

/// How damage is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) enum Mend {
    /// It is skipped.
    No,
    /// It is set aside, and at most this many bytes of it are kept.
    Within(u64),
}

struct Recovery<'f> {
    files: &'f dyn Files,
    mend: Mend,
    settled: HashMap<LaneKey, Ranges>,
    partly: HashMap<LaneKey, BTreeMap<u64, Ranges>>,
    /// Records that cannot be read, by segment and position.
    unreadable: HashSet<(u64, u64)>,
    found: Recovered,
}

/// A segment.
struct Opened {
    file: Arc<dyn SegmentFile>,
    length: u64,
}

/// Reads a spool.
pub(in crate::spool) fn recover(
    files: &dyn Files,
    windows: Windows,
    mend: Mend,
) -> Result<Recovered, SpoolError> {
    let listed =
        files.list().map_err(SpoolError::io(format!("{} cannot be read", files.path("").display())))?;
    let mut numbers: Vec<u64> = listed.iter().filter_map(|(name, _)| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut recovery = Recovery {
        files,
        mend,
        settled: HashMap::new(),
        partly: HashMap::new(),
        unreadable: HashSet::new(),
        found: Recovered {
            lanes: HashMap::new(),
            windows,
            segments: BTreeMap::new(),
            base: 0,
            damages: Vec::new(),
            time: 0,
            vanished: false,
        },
    };
    // Identities only come from the newest checkpoint and the records after it: it contains the earlier ones.
    for &number in numbers.iter().rev() {
        if recovery.has_checkpoint(number)? {
            recovery.found.base = number;
            break;
        }
    }
    for &number in &numbers {
        recovery.read_settled(number)?;
    }
    let segments: Vec<(u64, u64)> =
        recovery.found.segments.iter().map(|(number, segment)| (*number, segment.length)).collect();
    for (number, length) in segments {
        recovery.read_unsettled(number, length)?;
    }
    for lane in recovery.found.lanes.values_mut() {
        lane.forget_settled_bodies();
    }
    Ok(recovery.found)
}

impl Recovery<'_> {
    fn open(&mut self, number: u64) -> Result<Option<Opened>, SpoolError> {
        let opened = self.files.open(&segment_name(number)).and_then(|file| {
            let length = file.length()?;
            Ok(Opened { file, length })
        });
        match opened {
            Ok(opened) => Ok(Some(opened)),
            // The owner has deleted it since it was listed.
            Err(why) if why.kind() == ErrorKind::NotFound && self.mend == Mend::No => {
                self.found.vanished = true;
                Ok(None)
            }
            Err(why) => Err(self.failed(number)(why)),
        }
    }

    fn failed(&self, number: u64) -> impl FnOnce(std::io::Error) -> SpoolError {
        SpoolError::io(format!("{} cannot be read", self.files.path(&segment_name(number)).display()))
    }

    fn has_checkpoint(&mut self, number: u64) -> Result<bool, SpoolError> {
        let Some(Opened { file, length }) = self.open(number)? else { return Ok(false) };
        let mut body = Vec::new();
        let first = Cursor::new(number, length).next(&*file, Some(&mut body)).map_err(self.failed(number))?;
        Ok(matches!(first, Some(Found::Record(located)) if located.header.kind == Kind::Checkpoint)
            && checkpoint::parse(&body).is_some())
    }

    /// Reads what a segment records about settled records and ids, and repairs it.
    fn read_settled(&mut self, number: u64) -> Result<(), SpoolError> {
        let Some(Opened { file, length }) = self.open(number)? else { return Ok(()) };
        let mut head = [0; 16];
        let read = file.read_at(0, &mut head).map_err(self.failed(number))?;
        let damaged_head = match Head::parse(&head[..read]) {
            Head::Known => false,
            Head::OtherVersion(version) => {
                let path = self.files.path(&segment_name(number));
                return Err(SpoolError::Version { path, version, known: VERSION });
            }
            Head::Damaged => true,
        };
        let mut pieces: Vec<Piece> = Vec::new();
        let mut cursor = Cursor::new(number, length);
        let mut body = Vec::new();
        while let Some(found) = cursor.next(&*file, Some(&mut body)).map_err(self.failed(number))? {
            match found {
                Found::Record(located) => self.read_record(located, &cursor, &body),
                Found::Damaged { from, to, record } => {
                    self.unreadable.insert((number, from));
                    let tail = to == length;
                    match pieces.last_mut() {
                        // A write that a crash cut off, and zeros after it: one piece.
                        Some(Piece { to: last, tail: is_tail, .. }) if tail && *last == from => {
                            (*last, *is_tail) = (to, true);
                        }
                        _ => pieces.push(Piece { segment: number, from, to, tail, record }),
                    }
                }
            }
        }
        let end = pieces.last().filter(|piece| piece.tail).map_or(length, |piece| piece.from);
        if damaged_head {
            // One that contains nothing more was being created when the process or the machine stopped.
            let tail = end <= HEAD;
            let to = if tail { length } else { HEAD };
            if tail {
                pieces.clear();
            }
            pieces.insert(0, Piece { segment: number, from: 0, to, tail, record: None });
        }
        let gone = damaged_head && end <= HEAD;
        self.report(number, &*file, pieces, damaged_head && !gone)?;
        if !gone {
            self.found.segments.insert(number, Segment { length: end, ..Segment::default() });
        } else if self.mend != Mend::No {
            let name = segment_name(number);
            self.files.delete(&name).map_err(SpoolError::io(format!("{name} cannot be removed")))?;
        }
        Ok(())
    }

    fn report(
        &mut self,
        number: u64,
        file: &dyn SegmentFile,
        pieces: Vec<Piece>,
        new_head: bool,
    ) -> Result<(), SpoolError> {
        let Mend::Within(limit) = self.mend else {
            self.found.damages.extend(pieces.iter().map(|piece| piece.report(self.files, None)));
            return Ok(());
        };
        let mended = (|| {
            for piece in pieces.iter().filter(|piece| piece.to > piece.from) {
                self.found.damages.push(piece.set_aside(self.files, file, limit)?);
            }
            if new_head {
                file.write_at(0, &format::head())?;
            }
            // What counts as stored from now on must be durable: the last process may have had no time to sync.
            file.sync()
        })();
        let path = self.files.path(&segment_name(number));
        mended.map_err(SpoolError::io(format!("{} cannot be repaired", path.display())))
    }

    fn read_record(&mut self, located: Located, cursor: &Cursor, body: &[u8]) {
        let base = self.found.base;
        let header = located.header;
        match header.kind {
            Kind::Batch => {
                let Some(key) = header.lane(cursor.names()) else { return };
                self.found.time = self.found.time.max(header.came(body).unwrap_or_default());
                if cursor.segment() >= base
                    && !header.is(flag::MOVED)
                    && let Ok((_, metadata, messages)) = decode(body)
                {
                    let identities = Identity::of_all(metadata.partition_id, &messages);
                    let windows = &mut self.found.windows;
                    windows.remember(
                        &key.topic_key(),
                        metadata.partition_id,
                        identities,
                        header.is(flag::CONTINUES),
                    );
                    mixed::stored(&mut self.found.lanes, &key, metadata.partition_id, &messages);
                }
                let lane = self.found.lanes.entry(key.clone()).or_default();
                lane.next = lane.next.max(header.sequence + 1);
                if header.is(flag::SETTLED) {
                    self.settled.entry(key).or_default().insert(header.sequence, header.sequence);
                }
            }
            Kind::Progress => {
                self.read_progress(header.lane(cursor.names()), decode_progress(header.sequence, body));
            }
            Kind::Settled => self.read_progress(header.lane(cursor.names()), decode_settled(body)),
            Kind::Checkpoint => {
                if let Some((checkpoint, added, bodies)) = checkpoint::parse(body) {
                    self.found.time = self.found.time.max(added.time);
                    self.read_checkpoint(&checkpoint, cursor.segment() == base);
                    self.read_added(added, bodies);
                }
            }
            Kind::Bodies => {
                self.read_bodies(header.lane(cursor.names()), decode_bodies(header.sequence, body));
            }
            Kind::Together => self.read_bodies(header.lane(cursor.names()), decode_together(body)),
            Kind::Gap => {}
        }
    }

    fn read_progress(&mut self, key: Option<LaneKey>, progress: Option<LaneMessages>) {
        let (Some(key), Some(progress)) = (key, progress) else { return };
        let lane = self.found.lanes.entry(key.clone()).or_default();
        for (sequence, ranges) in progress {
            lane.next = lane.next.max(sequence + 1);
            if ranges.is_empty() {
                self.settled.entry(key.clone()).or_default().insert(sequence, sequence);
            } else {
                let partly = self.partly.entry(key.clone()).or_default().entry(sequence).or_default();
                partly.extend(ranges.iter().map(|(first, last)| (u64::from(*first), u64::from(*last))));
            }
        }
    }

    fn read_bodies(&mut self, key: Option<LaneKey>, bodies: Option<Vec<LaneMessages>>) {
        let (Some(key), Some(bodies)) = (key, bodies) else { return };
        let bodies: Vec<Arc<LaneMessages>> = bodies.into_iter().map(Arc::new).collect();
        self.found.lanes.entry(key).or_default().sent_together(&bodies);
    }

    fn read_checkpoint(&mut self, checkpoint: &Checkpoint<'_>, is_base: bool) {
        for state in &checkpoint.lanes {
            let key = state.key();
            let settled = self.settled.entry(key.clone()).or_default();
            settled.extend(state.settled().into_iter().map(|range| (range.start, range.end - 1)));
            for (sequence, messages) in &state.partly {
                let partly = self.partly.entry(key.clone()).or_default().entry(*sequence).or_default();
                partly.extend(messages.iter().copied());
            }
            let lane = self.found.lanes.entry(key).or_default();
            lane.next = lane.next.max(state.next);
        }
        if is_base {
            for window in &checkpoint.windows {
                window.restore(&mut self.found.windows);
            }
        }
    }

    /// The newest checkpoint is read last, and takes precedence.
    fn read_added(&mut self, added: checkpoint::Added<'_>, bodies: checkpoint::Bodies<'_>) {
        for mut state in added.lanes {
            let key = state.key();
            let lane = self.found.lanes.entry(key.clone()).or_default();
            (lane.last, lane.sure, lane.unsure) = (state.last, state.sure, state.unsure);
            lane.bodies.clear();
            self.read_bodies(Some(key), Some(state.take_bodies()));
        }
        for (key, bodies) in bodies.into_lanes() {
            self.read_bodies(Some(key), Some(bodies));
        }
    }

    /// Reads the records of a segment that are not settled.
    fn read_unsettled(&mut self, number: u64, length: u64) -> Result<(), SpoolError> {
        let Some(Opened { file, .. }) = self.open(number)? else { return Ok(()) };
        let mut cursor = Cursor::new(number, length);
        while let Some(found) = cursor.next(&*file, None).map_err(self.failed(number))? {
            let Found::Record(located) = found else { continue };
            let header = located.header;
            if header.kind != Kind::Batch || self.unreadable.contains(&(number, located.position)) {
                continue;
            }
            let Some(key) = header.lane(cursor.names()) else { continue };
            let sequence = header.sequence;
            if self.settled.get(&key).is_some_and(|settled| settled.contains(sequence)) {
                continue;
            }
            let partly = self.partly.get_mut(&key).and_then(|partly| partly.remove(&sequence));
            let done = partly.as_ref().map_or(0, Ranges::count);
            let lane = self.found.lanes.entry(key).or_default();
            // A record that was moved can occur twice; a settled one can occur whole, if only its last progress was lost.
            if lane.run(sequence).is_some() || done >= u64::from(header.messages) {
                continue;
            }
            lane.insert(sequence, number, located.position);
            if let Some(partly) = partly {
                lane.partly.insert(sequence, partly);
                let known = Known {
                    segment: number,
                    end: located.end(),
                    length: header.length(),
                    messages: header.messages,
                    came: None,
                };
                lane.known.insert(sequence, known);
            }
            lane.messages += u64::from(header.messages) - done;
            lane.bytes += header.length();
            let segment = self.found.segments.entry(number).or_default();
            segment.live += 1;
            segment.live_bytes += header.length();
        }
        Ok(())
    }
}
