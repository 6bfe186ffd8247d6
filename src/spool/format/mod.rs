//! The format of a segment: a head, followed by records.
//!
//! ```text
//! segment  magic 8 | version 4 | checksum of both 4 | record …
//! record   marker 4 | kind 1 | flags 1 | lengths of stream 2 and topic 2 | reserved 2 | partition 4
//!          | sequence 8 | messages 4 | length of the body 4 | checksum of the names 4
//!          | checksum of the body 4 | checksum of all before 4 | stream | topic | body
//! ```
//!
//! Numbers are little-endian, checksums CRC-32. The checksum of the header also covers the number of the segment and the
//! position in it: after damage, the next record is found by its marker, and a payload that contains the bytes of a record,
//! of whichever spool, must not be mistaken for one. Flags say whether a record was moved, is settled, or continues the one
//! before it, and whether the body of a batch ends with the time of the spool at which it arrived, 8 bytes.

pub(in crate::spool) mod checkpoint;
pub(in crate::spool) mod record;

use crc32fast::Hasher;

use crate::spool::lanes::key::LaneKey;

/// The version of the format. Version 1 had no records of bodies, and in version 2 a body and a settlement belonged to one
/// batch each; both are still read.
pub(in crate::spool) const VERSION: u32 = 3;
/// The length of the head of a segment.
pub(in crate::spool) const HEAD: u64 = 16;
/// The length of the fixed part of a record's header.
pub(in crate::spool) const PREFIX: usize = 44;
/// The beginning of a record. Two of these bytes do not occur in UTF-8 text.
pub(in crate::spool) const MARKER: [u8; 4] = [0xf5, b's', b'r', 0xfa];

const MAGIC: [u8; 8] = *b"IGGYSPL\n";
/// Flags of a record. A release ignores flags that it does not know.
pub(in crate::spool) mod flag {
    /// The record was moved: its messages are not new.
    pub(in crate::spool) const MOVED: u8 = 1;
    /// The body ends with the time of the spool when the batch arrived, 8 bytes.
    pub(in crate::spool) const TIMED: u8 = 2;
    /// The batch is settled, which was marked in place because there was no space to append it.
    pub(in crate::spool) const SETTLED: u8 = 4;
    /// The batch arrived together with messages that were stored already: all of them may come again.
    pub(in crate::spool) const CONTINUES: u8 = 8;
}

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) enum Kind {
    /// Messages.
    Batch = 1,
    /// Which messages of a batch are settled, until version 2.
    Progress = 2,
    /// Everything that segments before this one recorded.
    Checkpoint = 3,
    /// Damaged bytes, to be skipped.
    Gap = 4,
    /// Which messages of a batch are sent together, in version 2.
    Bodies = 5,
    /// Which messages of some batches are settled, all of them at once.
    Settled = 6,
    /// Which messages of some batches are sent together.
    Together = 7,
}

/// The fixed part of a record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct Header {
    pub(in crate::spool) kind: Kind,
    pub(in crate::spool) flags: u8,
    pub(in crate::spool) stream: u16,
    pub(in crate::spool) topic: u16,
    pub(in crate::spool) partition: u32,
    pub(in crate::spool) sequence: u64,
    pub(in crate::spool) messages: u32,
    pub(in crate::spool) body: u32,
    pub(in crate::spool) names_checksum: u32,
    pub(in crate::spool) body_checksum: u32,
}

impl Header {
    /// Creates the header of a record that belongs to no lane.
    pub(in crate::spool) fn of(kind: Kind, body: &[u8]) -> Option<Self> {
        Some(Self {
            kind,
            flags: 0,
            stream: 0,
            topic: 0,
            partition: 0,
            sequence: 0,
            messages: 0,
            body: u32::try_from(body.len()).ok()?,
            names_checksum: crc32fast::hash(&[]),
            body_checksum: crc32fast::hash(body),
        })
    }

    /// Whether it has a [flag](flag).
    pub(in crate::spool) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns the header with an additional flag.
    pub(in crate::spool) fn with(self, flag: u8) -> Self {
        Self { flags: self.flags | flag, ..self }
    }

    /// The length of the names after the fixed part.
    pub(in crate::spool) fn names(&self) -> usize {
        usize::from(self.stream) + usize::from(self.topic)
    }

    /// The length of the whole header.
    pub(in crate::spool) fn head(&self) -> usize {
        PREFIX + self.names()
    }

    /// The length of the whole record.
    pub(in crate::spool) fn length(&self) -> u64 {
        self.head() as u64 + u64::from(self.body)
    }

    /// The bytes of the fixed part of a record at this position.
    pub(in crate::spool) fn bytes(&self, segment: u64, position: u64) -> [u8; PREFIX] {
        let mut bytes = [0; PREFIX];
        bytes[..4].copy_from_slice(&MARKER);
        bytes[4] = self.kind as u8;
        bytes[5] = self.flags;
        bytes[6..8].copy_from_slice(&self.stream.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.topic.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.partition.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.messages.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.names_checksum.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.body_checksum.to_le_bytes());
        let checksum = header_checksum(&bytes, segment, position);
        bytes[40..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Parses the fixed part of a record at this position; `None` if it is not one.
    pub(in crate::spool) fn parse(bytes: &[u8], segment: u64, position: u64) -> Option<Self> {
        let bytes: &[u8; PREFIX] = bytes.get(..PREFIX)?.try_into().ok()?;
        if bytes[..4] != MARKER || number(bytes, 40) != header_checksum(bytes, segment, position) {
            return None;
        }
        let kind = match bytes[4] {
            1 => Kind::Batch,
            2 => Kind::Progress,
            3 => Kind::Checkpoint,
            4 => Kind::Gap,
            5 => Kind::Bodies,
            6 => Kind::Settled,
            7 => Kind::Together,
            _ => return None,
        };
        Some(Self {
            kind,
            flags: bytes[5],
            stream: u16::from_le_bytes([bytes[6], bytes[7]]),
            topic: u16::from_le_bytes([bytes[8], bytes[9]]),
            partition: number(bytes, 12),
            sequence: u64::from(number(bytes, 16)) | u64::from(number(bytes, 20)) << 32,
            messages: number(bytes, 24),
            body: number(bytes, 28),
            names_checksum: number(bytes, 32),
            body_checksum: number(bytes, 36),
        })
    }

    /// When a batch arrived, by the time of the spool, which is in its body.
    pub(in crate::spool) fn came(&self, body: &[u8]) -> Option<u64> {
        body.last_chunk().filter(|_| self.is(flag::TIMED)).map(|came| u64::from_le_bytes(*came))
    }

    /// The lane that a record belongs to, from the names after its fixed part.
    pub(in crate::spool) fn lane(&self, names: &[u8]) -> Option<LaneKey> {
        let (stream, topic) = names.split_at_checked(usize::from(self.stream))?;
        Some(LaneKey::new(str::from_utf8(stream).ok()?, str::from_utf8(topic).ok()?, self.partition))
    }
}

fn number(bytes: &[u8; PREFIX], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn header_checksum(bytes: &[u8; PREFIX], segment: u64, position: u64) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&position.to_le_bytes());
    hasher.update(&bytes[..PREFIX - 4]);
    hasher.finalize()
}

/// The head of a segment.
pub(in crate::spool) fn head() -> [u8; 16] {
    head_of(VERSION)
}

fn head_of(version: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&version.to_le_bytes());
    let checksum = crc32fast::hash(&head[..12]);
    head[12..].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// The parsed head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) enum Head {
    Known,
    OtherVersion(u32),
    Damaged,
}

impl Head {
    pub(in crate::spool) fn parse(bytes: &[u8]) -> Self {
        let Some(bytes) = bytes.first_chunk::<16>() else { return Self::Damaged };
        let version = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if *bytes != head_of(version) {
            Self::Damaged
        } else if (1..=VERSION).contains(&version) {
            Self::Known
        } else {
            Self::OtherVersion(version)
        }
    }
}

/// The name of a segment.
pub(in crate::spool) fn segment_name(number: u64) -> String {
    format!("{number:012}.log")
}

/// The number of a segment by its name.
pub(in crate::spool) fn segment_number(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

#[cfg(test)]
pub(in crate::spool) fn head_of_version(version: u32) -> [u8; 16] {
    head_of(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_holds_at_its_place_alone_and_with_every_bit() {
        let header = Header {
            kind: Kind::Batch,
            flags: flag::MOVED | flag::CONTINUES,
            stream: 300,
            topic: 2,
            partition: 70_000,
            sequence: 1 << 40 | 5,
            messages: 9,
            body: 1 << 20,
            names_checksum: 1,
            body_checksum: 2,
        };
        let bytes = header.bytes(3, 1000);
        assert_eq!(Header::parse(&bytes, 3, 1000), Some(header));
        assert_eq!(Header::parse(&bytes, 3, 1001), None);
        assert_eq!(Header::parse(&bytes, 4, 1000), None);
        assert_eq!(Header::parse(&bytes[..43], 3, 1000), None);
        for bit in 0..PREFIX * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&flipped, 3, 1000), None, "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_head_is_not_taken_for_another_version() {
        assert_eq!(Head::parse(&head()), Head::Known);
        for earlier in 1..VERSION {
            assert_eq!(Head::parse(&head_of(earlier)), Head::Known);
        }
        assert_eq!(Head::parse(&head_of(VERSION + 1)), Head::OtherVersion(VERSION + 1));
        for bit in 0..128 {
            let mut flipped = head();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::parse(&flipped), Head::Damaged, "bit {bit}");
        }
    }
}
