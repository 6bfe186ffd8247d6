//! Every operation of a run fails once, in every way: what was acknowledged is there, in order.

use std::{collections::BTreeMap, io::ErrorKind, path::Path};

use super::{
    disk::{Disk, Fault, Left},
    support::{accept_of, lane, options, unsettled},
};
use crate::spool::{Options, Spool};

const TOPICS: [&str; 3] = ["a", "b", "dead"];

fn small() -> Options {
    Options { max_bytes: 64 * 1024, ..options(Path::new("in memory")) }
}

pub(super) fn start(disk: &Disk, options: &Options) -> Spool {
    Spool::start(disk.files(), None, options).expect("it opens").0
}

/// What is known outside of the spool.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Offsets in the order they were acknowledged in, with their topic.
    acknowledged: BTreeMap<&'static str, Vec<u64>>,
    /// Those that settle was called for, and whether it succeeded.
    settled: BTreeMap<(&'static str, u64), bool>,
    /// Those of which consume knows that they are not stored.
    refused: Vec<(&'static str, u64)>,
    next: BTreeMap<&'static str, u64>,
    /// The last batch that was acknowledged.
    last: BTreeMap<&'static str, Vec<u64>>,
}

/// Feeds three topics, of which one is never delivered, delivers some messages out of order, and fills the
/// spool until it has to be compacted.
fn run(disk: &Disk, spool: &Spool, known: &mut Known) {
    for round in 0..40_u64 {
        for topic in TOPICS {
            let (count, size) = match topic {
                "a" => (1 + round % 4, 700),
                "b" => (2, 400),
                _ if round.is_multiple_of(5) => (1, 300),
                _ => continue,
            };
            let first = *known.next.entry(topic).or_default();
            let offsets = first..first + count;
            known.next.insert(topic, offsets.end);
            let mut accepted = accept_of(spool, topic, offsets.clone(), size, 1);
            if accepted.is_err() && round.is_multiple_of(2) {
                accepted = accept_of(spool, topic, offsets.clone(), size, 1);
            }
            match accepted {
                Ok(accepted) => {
                    assert_eq!((accepted.stored as u64, accepted.repeats), (count, 0));
                    known.last.insert(topic, offsets.clone().collect());
                    known.acknowledged.entry(topic).or_default().extend(offsets);
                }
                Err(_) => known.refused.extend(offsets.map(|offset| (topic, offset))),
            }
            if disk.crashed() {
                return;
            }
        }
        for topic in ["a", "b"] {
            deliver(spool, topic, round, known);
            if disk.crashed() {
                return;
            }
        }
    }
}

fn deliver(spool: &Spool, topic: &'static str, round: u64, known: &mut Known) {
    let mut settled = |record: &crate::spool::Record, offsets: &[u64], result: bool| {
        for offset in offsets {
            let before = known.settled.insert((topic, *offset), result);
            assert!(before.is_none(), "{topic}/{offset} came twice, in record {}", record.sequence);
        }
    };
    // Some of the first record, all of the second: out of order.
    let Some(first) = spool.next(&lane(topic), 0).unwrap() else { return };
    let second = spool.next(&lane(topic), first.sequence).unwrap();
    if let Some(second) = second.filter(|_| round.is_multiple_of(3)) {
        let offsets = unsettled(&second);
        let result = spool.settle_all(&lane(topic), second.sequence);
        settled(&second, &offsets, result.is_ok());
    }
    let offsets = unsettled(&first);
    let count = first.decode().unwrap().messages.len();
    let open: Vec<u32> =
        (0..u32::try_from(count).unwrap()).filter(|index| !first.is_settled(*index)).collect();
    let some = if round.is_multiple_of(4) { 1 } else { open.len() };
    let result = spool.settle(&lane(topic), first.sequence, &open[..some]);
    settled(&first, &offsets[..some], result.is_ok());
}

/// All unsettled offsets of a topic.
fn held(spool: &Spool, topic: &str) -> Vec<u64> {
    let (mut held, mut after) = (Vec::new(), 0);
    while let Some(record) = spool.next(&lane(topic), after).unwrap() {
        assert!(record.sequence > after);
        after = record.sequence;
        held.extend(unsettled(&record));
    }
    held
}

/// Holds what a spool has against what is known.
fn check(spool: &Spool, known: &Known, left: Option<Left>, context: &str) {
    for topic in TOPICS {
        let held = held(spool, topic);
        assert!(held.is_sorted_by(|a, b| a < b), "{context}: {topic} out of order: {held:?}");
        let acknowledged = known.acknowledged.get(topic).cloned().unwrap_or_default();
        for offset in &acknowledged {
            let settled = known.settled.get(&(topic, *offset));
            let there = held.contains(offset);
            match settled {
                None => assert!(there, "{context}: {topic}/{offset} is lost; {held:?}"),
                // The machine stopped, or the progress could not be written.
                Some(true) if matches!(left, Some(Left::Nothing | Left::Some(_))) => {}
                Some(true) => assert!(!there, "{context}: {topic}/{offset} came again"),
                Some(false) => {}
            }
        }
        let unknown = held.iter().filter(|offset| !acknowledged.contains(offset));
        for offset in unknown {
            // What was being stored when everything stopped is all that may be there besides.
            assert!(left.is_some(), "{context}: {topic}/{offset} is there and was refused");
        }
        // What was stored last is recognised when it comes again: what was acknowledged, or was being stored.
        let being_stored: Vec<u64> =
            held.iter().copied().filter(|offset| !acknowledged.contains(offset)).collect();
        let last = known.last.get(topic).cloned().unwrap_or_default();
        let last = if being_stored.is_empty() { last } else { being_stored };
        let size = match topic {
            "a" => 700,
            "b" => 400,
            _ => 300,
        };
        let again = accept_of(spool, topic, last.clone(), size, 1).unwrap();
        assert_eq!((again.stored, again.repeats), (0, last.len()), "{context}: {topic}/{last:?}");
    }
}

fn try_all(fault: Fault, lefts: &[Left]) -> u64 {
    let whole = {
        let disk = Disk::default();
        let spool = start(&disk, &small());
        let mut known = Known::default();
        run(&disk, &spool, &mut known);
        assert!(known.refused.is_empty(), "{:?}", known.refused);
        check(&spool, &known, None, "no fault");
        disk.operations()
    };
    for operation in 1..=whole {
        let disk = Disk::default();
        let mut known = Known::default();
        {
            let spool = start(&disk, &small());
            disk.fail_at(operation, fault);
            run(&disk, &spool, &mut known);
            if !disk.crashed() {
                check(&spool, &known, None, &format!("{fault:?} at {operation}, running"));
                // Once the disk works again, what it refused to take back is marked as settled.
                while accept_of(&spool, "end", 0..1, 0, 1).is_err() && !disk.crashed() {}
            }
        }
        for left in lefts {
            let context = format!("{fault:?} at {operation}, left {left:?}");
            let disk = disk.after(*left);
            for round in 0..2 {
                let spool = start(&disk, &small());
                let left = (fault == Fault::Crash || *left != Left::All).then_some(*left);
                check(&spool, &known, left, &format!("{context}, reopened {round}"));
            }
        }
    }
    whole
}

#[test]
fn an_error_at_any_operation_loses_nothing() {
    let operations = try_all(Fault::Once(ErrorKind::Other), &[Left::All, Left::Nothing, Left::Some(1)]);
    assert!(operations > 200, "{operations}");
}

#[test]
fn a_full_disk_at_any_operation_loses_nothing() {
    try_all(Fault::Several(ErrorKind::StorageFull, 7), &[Left::All, Left::Nothing]);
}

#[test]
fn a_torn_write_at_any_operation_loses_nothing() {
    try_all(Fault::Torn, &[Left::All, Left::Nothing]);
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    let lefts = [Left::All, Left::Nothing, Left::Some(1), Left::Some(2), Left::Some(3), Left::Some(4)];
    try_all(Fault::Crash, &lefts);
}

#[cfg(unix)]
#[test]
fn without_a_descriptor_for_the_next_segment_the_last_one_grows() {
    let disk = Disk::default();
    let spool = start(&disk, &small());
    let why = {
        disk.fail_opens(true);
        accept_of(&spool, "a", 0..1, 700, 1).expect_err("there is no segment at all")
    };
    assert!(why.is_shortage(), "{why}");
    disk.fail_opens(false);
    for n in 0..10 {
        accept_of(&spool, "a", n..=n, 700, 1).expect("it is stored");
    }
    let segments = disk.names().len();
    disk.fail_opens(true);
    for n in 10..50 {
        accept_of(&spool, "a", n..=n, 700, 1).expect("it is stored all the same");
    }
    assert_eq!(disk.names().len(), segments);
    disk.fail_opens(false);
    for n in 50..60 {
        accept_of(&spool, "a", n..=n, 700, 1).expect("it is stored");
    }
    assert!(disk.names().len() > segments, "{:?}", disk.names());
    drop(spool);
    let offsets: Vec<u64> = super::support::records(&start(&disk, &small()), "a").concat();
    assert_eq!(offsets, (0..60).collect::<Vec<_>>());
}

/// Hands messages over from where the host knows that they are stored, in batches of changing sizes.
fn hand_over(spool: &Spool, disk: &Disk, known: &mut u64, cut: &mut u64) {
    const END: u64 = 80;
    while *known < END && !disk.crashed() {
        *cut = cut.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let end = END.min(*known + 1 + (*cut >> 33) % 9);
        if accept_of(spool, "a", *known..end, 300, 1).is_ok() {
            *known = end;
        }
    }
}

#[test]
fn a_crash_at_any_operation_stores_nothing_twice_however_batches_are_cut() {
    for left in [Left::All, Left::Nothing, Left::Some(5)] {
        for operation in 1..60 {
            let mut disk = Disk::default();
            let (mut known, mut cut) = (0, operation);
            for crash in [operation, operation / 2 + 2, operation % 7 + 1, u64::MAX / 2] {
                let spool = start(&disk, &small());
                disk.fail_at(crash, Fault::Crash);
                hand_over(&spool, &disk, &mut known, &mut cut);
                drop(spool);
                disk = disk.after(left);
            }
            let spool = start(&disk, &small());
            assert_eq!(held(&spool, "a"), (0..80).collect::<Vec<_>>(), "{left:?}, {operation}");
        }
    }
}
