//! What is read from outside.

use std::{cell::RefCell, fs, ops::ControlFlow, path::Path};

use super::{
    disk::Disk,
    faults::start,
    support::{accept, accept_of, lane, open, options, payload, records},
};
use crate::spool::{Options, export, export::export_from, format};

/// Topic and offset of what is exported from a folder.
fn exported(path: &Path, topic: Option<&str>, limit: usize) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let wanted = |key: &crate::spool::LaneKey| topic.is_none_or(|topic| topic == key.topic());
    export(path, wanted, |batch, message| {
        assert_eq!((batch.stream, batch.partition_id), ("s", 1));
        assert_eq!(message.payload, payload(batch.topic, message.offset, message.payload.len()));
        found.push((batch.topic.to_owned(), message.offset));
        if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    found
}

fn of(topic: &str, offsets: impl IntoIterator<Item = u64>) -> Vec<(String, u64)> {
    offsets.into_iter().map(|offset| (topic.to_owned(), offset)).collect()
}

#[test]
fn what_is_not_settled_is_exported_in_order_while_it_is_in_use_and_when_not() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    accept(&spool, "t", 0..3).unwrap();
    accept(&spool, "u", 40..42).unwrap();
    accept(&spool, "t", 3..7).unwrap();
    accept(&spool, "t", 7..8).unwrap();
    spool.settle_all(&lane("t"), 1).unwrap();
    spool.settle(&lane("t"), 2, &[0, 2]).unwrap();
    let expected = [of("u", [40, 41]), of("t", [4, 6, 7])].concat();
    let before = fs::read(folder.path().join(format::segment_name(1))).unwrap();
    for _ in 0..2 {
        assert_eq!(exported(folder.path(), None, usize::MAX), expected);
    }
    assert_eq!(exported(folder.path(), Some("t"), usize::MAX), of("t", [4, 6, 7]));
    assert_eq!(exported(folder.path(), Some("t"), 2), of("t", [4, 6]));
    assert_eq!(exported(folder.path(), None, 3), expected[..3]);
    drop(spool);
    assert_eq!(exported(folder.path(), None, usize::MAX), expected);
    assert_eq!(fs::read(folder.path().join(format::segment_name(1))).unwrap(), before);
    let spool = open(folder.path());
    spool.settle_all(&lane("u"), 1).unwrap();
    spool.settle_all(&lane("t"), 2).unwrap();
    spool.settle_all(&lane("t"), 3).unwrap();
    assert_eq!(exported(folder.path(), None, usize::MAX), []);
    assert!(export(&folder.path().join("none"), |_| true, |_, _| ControlFlow::Continue(())).is_err());
}

#[test]
fn damage_costs_the_record_it_is_in_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    for offset in 0..4 {
        accept(&spool, "t", offset..=offset).unwrap();
    }
    drop(spool);
    let path = folder.path().join(format::segment_name(1));
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|window| window == b"t/1").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(exported(folder.path(), None, usize::MAX), of("t", [0, 2, 3]));
    let found = export(folder.path(), |_| true, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!((found.messages, found.damages.len()), (3, 1));
    assert_eq!(found.damages[0].record.as_deref(), Some("record 2 of stream s, topic t, partition 1"));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// Segments of 16 KiB.
fn tight() -> Options {
    Options { max_bytes: 64 * 1024, ..options(Path::new("in memory")) }
}

/// A record that keeps each segment alive, and others that are settled, until the first segments are compacted.
fn fill(spool: &crate::spool::Spool, offsets: std::ops::Range<u64>, sequence: &mut u64) {
    for offset in offsets {
        accept_of(spool, "t", offset..=offset, 4000, 1).unwrap();
        *sequence += 1;
        spool.settle_all(&lane("t"), *sequence).unwrap();
        if offset % 3 == 0 {
            accept_of(spool, "pin", offset..=offset, 300, 1).unwrap();
        }
    }
}

#[test]
fn records_that_were_moved_come_before_those_behind_them() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    let mut sequence = 0;
    fill(&spool, 0..100, &mut sequence);
    assert!(!disk.names().contains(&format::segment_name(1)), "it was moved: {:?}", disk.names());
    let expected: Vec<u64> = records(&spool, "pin").concat();
    let mut found = Vec::new();
    let (messages, damages) = export_from(
        &*disk.files(),
        |_| true,
        |_, message| {
            found.push(message.offset);
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    assert_eq!((&found, messages, damages), (&expected, expected.len() as u64, vec![]));
}

#[test]
fn what_is_moved_meanwhile_is_exported_once_and_what_comes_meanwhile_is_not() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    let mut sequence = 0;
    fill(&spool, 0..20, &mut sequence);
    let expected: Vec<u64> = records(&spool, "pin").concat();
    let (found, sequence) = (RefCell::new(Vec::new()), RefCell::new(sequence));
    export_from(
        &*disk.files(),
        |_| true,
        |_, message| {
            found.borrow_mut().push(message.offset);
            if found.borrow().len() == 2 {
                let before = disk.names();
                fill(&spool, 20..120, &mut sequence.borrow_mut());
                assert!(disk.names().iter().all(|name| !before.contains(name)), "all of it was moved");
            }
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    assert_eq!(*found.borrow(), expected);
}
