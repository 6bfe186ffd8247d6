//! Reads what waits in a spool from outside, for people who want to look at it or to rescue it.

use std::{
    collections::HashMap,
    fs,
    io::{self, ErrorKind},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use iggy_connector_sdk::BorrowedMessage;

use super::{
    error::SpoolError,
    format::{Kind, record::decode, segment_name},
    lanes::{dedup::Windows, key::LaneKey, lane::Lane},
    log::{
        cursor::{Cursor, Found, Located},
        damage::{Damage, Piece},
        lock::{Held, Lock},
    },
    recovery::{Mend, Recovered, recover},
    status::set_aside,
};
use crate::{
    batch::Batch,
    files::{Disk, Files, SegmentFile},
};

/// How often in a row a spool is read again, without a new message, if segments are deleted while it is read.
const ATTEMPTS: usize = 100;

/// What an export found besides the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The unsettled messages at its beginning, wanted or not.
    pub messages: u64,
    /// Damage that was not set aside yet.
    pub damages: Vec<Damage>,
    /// Damaged pieces that were set aside, with their lengths.
    pub set_aside: Vec<(PathBuf, u64)>,
}

/// Passes the unsettled messages of the wanted lanes to `each`, those of a lane in their order, until it breaks. Nothing is
/// changed, and the owner is not blocked: what it settles meanwhile may be passed or not, what it stores meanwhile is not. One
/// record is in memory at a time.
///
/// # Errors
/// There is no spool, it cannot be read, or it has another format.
pub fn export(
    path: &Path,
    wanted: impl Fn(&LaneKey) -> bool,
    each: impl FnMut(&Batch<'_>, &BorrowedMessage<'_>) -> ControlFlow<()>,
) -> Result<Exported, SpoolError> {
    let failed = || SpoolError::io(format!("the spool {} cannot be read", path.display()));
    fs::read_dir(path).map_err(failed())?;
    let in_use = Lock::held(path).map_err(failed())? != Held::ByNobody;
    let (messages, mut damages) = export_from(&Disk::new(path), wanted, each)?;
    // A write in progress reads as if its end were cut off.
    damages.retain(|damage| !in_use || !damage.tail);
    Ok(Exported { messages, damages, set_aside: set_aside(path) })
}

/// Returns how many messages waited at the beginning, and the damage.
pub(super) fn export_from(
    files: &dyn Files,
    wanted: impl Fn(&LaneKey) -> bool,
    each: impl FnMut(&Batch<'_>, &BorrowedMessage<'_>) -> ControlFlow<()>,
) -> Result<(u64, Vec<Damage>), SpoolError> {
    let failed = || SpoolError::io(format!("{} cannot be read", files.path("").display()));
    let mut export = Export {
        files,
        wanted,
        each,
        ends: HashMap::new(),
        done: HashMap::new(),
        passed: 0,
        damages: vec![],
    };
    let (mut messages, mut in_vain) = (None, 0);
    while in_vain < ATTEMPTS {
        let before = export.passed;
        let recovered = recover(files, Windows::new(0), Mend::No)?;
        // Records of what was deleted may have been moved to where nobody looked: those behind them have to wait.
        if !recovered.vanished {
            if messages.is_none() {
                messages = Some(recovered.lanes.values().map(|lane| lane.messages).sum());
                export.ends = recovered.lanes.iter().map(|(key, lane)| (key.clone(), lane.next)).collect();
            }
            match export.read(&recovered) {
                Ok(()) | Err(Stop::Enough) => return Ok((messages.unwrap_or_default(), export.damages)),
                Err(Stop::Vanished) => {}
                Err(Stop::Failed(why)) => return Err(failed()(why)),
            }
        }
        in_vain = if export.passed > before { 0 } else { in_vain + 1 };
    }
    let why = "its owner deletes what it has delivered before that can be read; try again";
    Err(failed()(io::Error::new(ErrorKind::ResourceBusy, why)))
}

/// Why reading stops.
#[derive(Debug)]
enum Stop {
    /// Nobody wants more.
    Enough,
    /// A segment was deleted since the spool was recovered.
    Vanished,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Self {
        Self::Failed(why)
    }
}

struct Export<'f, W, E> {
    files: &'f dyn Files,
    wanted: W,
    each: E,
    /// The sequence behind the last record of each lane that is passed: what comes later is not, or there might be no end.
    ends: HashMap<LaneKey, u64>,
    /// The last record of each lane that was passed.
    done: HashMap<LaneKey, u64>,
    /// How many messages were passed.
    passed: u64,
    damages: Vec<Damage>,
}

impl<W, E> Export<'_, W, E>
where
    W: Fn(&LaneKey) -> bool,
    E: FnMut(&Batch<'_>, &BorrowedMessage<'_>) -> ControlFlow<()>,
{
    /// Passes what was not passed yet. Segments are read one after the other, and not lane after lane: many lanes share them.
    fn read(&mut self, recovered: &Recovered) -> Result<(), Stop> {
        for damage in &recovered.damages {
            self.report(damage.clone());
        }
        let mut body = Vec::new();
        for (&number, segment) in &recovered.segments {
            let file = self.open(number)?;
            let mut cursor = Cursor::new(number, segment.length);
            while let Some(found) = cursor.next(&*file, None)? {
                let Some((key, located)) = batch(&found, &cursor) else { continue };
                let sequence = located.header.sequence;
                let Some(lane) = recovered.lanes.get(&key) else { continue };
                if lane.run(sequence).is_none_or(|run| run.segment != number)
                    || sequence <= self.done(&key)
                    || self.ends.get(&key).is_none_or(|end| sequence >= *end)
                    || !(self.wanted)(&key)
                {
                    continue;
                }
                self.read_moved(recovered, &key, lane, sequence)?;
                cursor.body(&*file, located, &mut body)?;
                self.pass(number, located, &key, lane, &body)?;
            }
        }
        Ok(())
    }

    /// Passes the records of a lane before this one: they were moved behind it.
    fn read_moved(
        &mut self,
        recovered: &Recovered,
        key: &LaneKey,
        lane: &Lane,
        before: u64,
    ) -> Result<(), Stop> {
        let mut body = Vec::new();
        while let Some((first, run)) = lane.first_after(self.done(key))
            && first < before
        {
            let last = run.last.min(before - 1);
            let file = self.open(run.segment)?;
            let mut cursor = Cursor::default();
            let end = recovered.segments.get(&run.segment).map_or(0, |segment| segment.length);
            cursor.go(run.segment, run.position, end);
            while self.done(key) < last
                && let Some(found) = cursor.next(&*file, None)?
            {
                let Some((_, located)) = batch(&found, &cursor).filter(|(of, _)| of == key) else { continue };
                if (self.done(key) + 1..=last).contains(&located.header.sequence) {
                    cursor.body(&*file, located, &mut body)?;
                    self.pass(run.segment, located, key, lane, &body)?;
                }
            }
            self.done.insert(key.clone(), last);
        }
        Ok(())
    }

    /// Passes the unsettled messages of a record.
    fn pass(
        &mut self,
        segment: u64,
        located: Located,
        key: &LaneKey,
        lane: &Lane,
        body: &[u8],
    ) -> Result<(), Stop> {
        let sequence = located.header.sequence;
        self.done.insert(key.clone(), sequence);
        let intact = crc32fast::hash(body) == located.header.body_checksum;
        let Some((_, metadata, messages)) = decode(body).ok().filter(|_| intact) else {
            let (from, to) = (located.position, located.end());
            let piece = Piece { segment, from, to, tail: false, record: Some((key.clone(), sequence)) };
            self.report(piece.report(self.files, None));
            return Ok(());
        };
        let batch = Batch {
            stream: key.stream(),
            topic: key.topic(),
            partition_id: metadata.partition_id,
            schema: metadata.schema,
            messages: &messages,
        };
        let settled = lane.partly.get(&sequence);
        for (index, message) in (0..).zip(&messages) {
            if settled.is_some_and(|settled| settled.contains(index)) {
                continue;
            }
            self.passed += 1;
            if (self.each)(&batch, message).is_break() {
                return Err(Stop::Enough);
            }
        }
        Ok(())
    }

    fn done(&self, key: &LaneKey) -> u64 {
        self.done.get(key).copied().unwrap_or_default()
    }

    fn open(&self, segment: u64) -> Result<Arc<dyn SegmentFile>, Stop> {
        self.files.open(&segment_name(segment)).map_err(|why| match why.kind() {
            ErrorKind::NotFound => Stop::Vanished,
            _ => Stop::Failed(why),
        })
    }

    fn report(&mut self, damage: Damage) {
        if !self.damages.contains(&damage) {
            self.damages.push(damage);
        }
    }
}

/// The lane of what was found, if that is a batch.
fn batch(found: &Found, cursor: &Cursor) -> Option<(LaneKey, Located)> {
    let Found::Record(located) = found else { return None };
    (located.header.kind == Kind::Batch).then(|| Some((located.header.lane(cursor.names())?, *located)))?
}
