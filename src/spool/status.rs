//! The status of a spool, for people, whether or not it is in use.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    error::SpoolError,
    format::{Kind, record::decode, segment_name},
    lanes::{dedup::Windows, key::LaneKey, lane::Lane},
    log::{
        cursor::{Cursor, Found},
        damage::Damage,
        lock::{Held, Lock},
    },
    recovery::{Mend, recover},
};
use crate::files::{DAMAGED, Disk, Files};

/// How often a spool is read again if segments are deleted while it is read.
const ATTEMPTS: usize = 5;

/// What a spool holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its folder.
    pub path: PathBuf,
    /// Whether a connector has it open.
    pub in_use: bool,
    /// Its process, if that is known.
    pub process: Option<u32>,
    /// Unsettled messages.
    pub messages: u64,
    /// The bytes of the segments.
    pub bytes: u64,
    /// How many segments there are.
    pub segments: usize,
    /// When the server stored the oldest unsettled message, in microseconds since the Unix epoch.
    pub oldest_timestamp: Option<u64>,
    /// The lanes with unsettled messages.
    pub lanes: Vec<LaneStatus>,
    /// Damage that was not set aside yet.
    pub damages: Vec<Damage>,
    /// Damaged pieces that were set aside, with their lengths.
    pub set_aside: Vec<(PathBuf, u64)>,
}

/// What a lane holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// The stream.
    pub stream: String,
    /// The topic.
    pub topic: String,
    /// The partition; `None` for batches that may hold several.
    pub partition: Option<u32>,
    /// Unsettled messages.
    pub messages: u64,
    /// The bytes of their records.
    pub bytes: u64,
    /// When the server stored the oldest of them, in microseconds since the Unix epoch.
    pub oldest_timestamp: Option<u64>,
    /// The offset of the message that is delivered next.
    pub next_offset: Option<u64>,
}

/// Reads the state of a spool. Nothing is changed, and its owner is not blocked.
///
/// # Errors
/// There is none, it cannot be read, or it has another format.
pub fn status(path: &Path) -> Result<Status, SpoolError> {
    let failed = || SpoolError::io(format!("the spool {} cannot be read", path.display()));
    fs::read_dir(path).map_err(failed())?;
    let holder = Lock::held(path).map_err(failed())?;
    let files = Disk::new(path);
    let mut recovered = recover(&files, Windows::new(0), Mend::No)?;
    for _ in 1..ATTEMPTS {
        if !recovered.vanished {
            break;
        }
        recovered = recover(&files, Windows::new(0), Mend::No)?;
    }
    let mut lanes = Vec::new();
    for (key, lane) in recovered.lanes.iter().filter(|(_, lane)| !lane.is_empty()) {
        lanes.push(lane_status(&files, key, lane).map_err(failed())?);
    }
    lanes.sort_by(|a, b| (&a.stream, &a.topic, a.partition).cmp(&(&b.stream, &b.topic, b.partition)));
    let in_use = holder != Held::ByNobody;
    // A write in progress reads as if its end were cut off.
    let damages = recovered.damages.into_iter().filter(|damage| !in_use || !damage.tail).collect();
    Ok(Status {
        path: path.to_owned(),
        in_use,
        process: if let Held::By(process) = holder { process } else { None },
        messages: lanes.iter().map(|lane| lane.messages).sum(),
        bytes: recovered.segments.values().map(|segment| segment.length).sum(),
        segments: recovered.segments.len(),
        oldest_timestamp: lanes.iter().filter_map(|lane| lane.oldest_timestamp).min(),
        lanes,
        damages,
        set_aside: set_aside(path),
    })
}

/// The damaged pieces that were set aside, with their lengths.
pub(super) fn set_aside(path: &Path) -> Vec<(PathBuf, u64)> {
    let aside = path.join(DAMAGED);
    match Disk::new(&aside).list() {
        Ok(pieces) => pieces.into_iter().map(|(name, length)| (aside.join(name), length)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Whether a folder holds messages that were not delivered. A folder that is not there holds none.
///
/// # Errors
/// It cannot be read, or it has another format.
pub fn holds_messages(path: &Path) -> Result<bool, SpoolError> {
    match fs::read_dir(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
        _ => Ok(status(path)?.messages > 0),
    }
}

fn lane_status(files: &dyn Files, key: &LaneKey, lane: &Lane) -> std::io::Result<LaneStatus> {
    let mut status = LaneStatus {
        stream: key.stream().to_owned(),
        topic: key.topic().to_owned(),
        partition: (!key.is_of_several()).then_some(key.partition()),
        messages: lane.messages,
        bytes: lane.bytes,
        oldest_timestamp: None,
        next_offset: None,
    };
    let Some((sequence, run)) = lane.first_after(0) else { return Ok(status) };
    let file = match files.open(&segment_name(run.segment)) {
        Ok(file) => file,
        // It was delivered and deleted in the meantime.
        Err(why) if why.kind() == ErrorKind::NotFound => return Ok(status),
        Err(why) => return Err(why),
    };
    let mut cursor = Cursor::default();
    cursor.go(run.segment, run.position, file.length()?);
    let mut body = Vec::new();
    while let Some(found) = cursor.next(&*file, None)? {
        let Found::Record(located) = found else { continue };
        let header = located.header;
        if header.kind == Kind::Batch
            && header.sequence == sequence
            && header.lane(cursor.names()).as_ref() == Some(key)
        {
            cursor.body(&*file, located, &mut body)?;
            if let Ok((_, _, messages)) = decode(&body) {
                let settled = lane.partly.get(&sequence);
                let open = |index: u64| settled.is_none_or(|settled| !settled.contains(index));
                let next = (0..).zip(&messages).find(|(index, _)| open(*index)).map(|(_, message)| message);
                status.next_offset = next.map(|message| message.offset);
                status.oldest_timestamp = next.map(|message| message.timestamp);
            }
            break;
        }
    }
    Ok(status)
}
