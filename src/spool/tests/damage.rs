//! Bytes that are not what they were.

use std::{collections::BTreeSet, path::Path};

use super::{
    disk::{Disk, Left},
    faults::start,
    support::{accept, accept_of, block_on, lane, options, records, unsettled},
};
use crate::spool::{
    Options, Spool,
    recovery::{self, Mend},
    store,
};

fn roomy() -> Options {
    Options { max_bytes: 1 << 20, ..options(Path::new("in memory")) }
}

/// Two topics, a settled record, a partly settled one, and a restart in between.
fn small_spool() -> Disk {
    let disk = Disk::default();
    let spool = start(&disk, &roomy());
    accept(&spool, "t", 0..2).unwrap();
    accept(&spool, "u", 10..12).unwrap();
    accept(&spool, "t", 2..5).unwrap();
    spool.settle_all(&lane("t"), 1).unwrap();
    spool.settle(&lane("t"), 2, &[1]).unwrap();
    drop(spool);
    let spool = start(&disk, &roomy());
    accept(&spool, "t", 5..7).unwrap();
    accept(&spool, "u", 12..13).unwrap();
    spool.settle(&lane("u"), 1, &[0]).unwrap();
    accept(&spool, "t", 7..8).unwrap();
    disk
}

/// The unsettled records of both topics. Those that are settled as a whole are left out.
fn all(spool: &Spool) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
    (records(spool, "t"), records(spool, "u"))
}

/// Opens a spool with damage and sees what is left. Returns how many records were lost.
fn lost(disk: &Disk, context: &str) -> usize {
    let (spool, recovery) = Spool::start(disk.files(), None, &roomy()).expect(context);
    let (t, u) = all(&spool);
    // A record as it was, or one of which progress was lost.
    let expected = [
        (
            &t,
            vec![vec![vec![0, 1], vec![]], vec![vec![2, 4], vec![2, 3, 4]], vec![vec![5, 6]], vec![vec![7]]],
        ),
        (&u, vec![vec![vec![11], vec![10, 11]], vec![vec![12]]]),
    ];
    let mut lost = 0;
    for (found, expected) in expected {
        let mut found = found.iter().peekable();
        for versions in expected {
            if found.peek().is_some_and(|record| versions.contains(record)) {
                found.next();
            } else if !versions.contains(&vec![]) {
                lost += 1;
            }
        }
        assert_eq!(found.next(), None, "{context}: {t:?} {u:?}");
    }
    if lost > 0 {
        assert!(!recovery.damages.is_empty(), "{context}: lost without a word");
    }
    // It goes on, and the next time nothing more is reported.
    accept(&spool, "t", 100..101).expect(context);
    let before = all(&spool);
    drop(spool);
    let (spool, recovery) = Spool::start(disk.files(), None, &roomy()).expect(context);
    assert_eq!(recovery.damages, [], "{context}: reported again");
    assert_eq!(all(&spool), before, "{context}");
    lost
}

#[test]
fn a_flipped_bit_anywhere_loses_at_most_the_record_it_is_in() {
    let made = small_spool();
    let mut lost_in_all = 0;
    for name in made.names() {
        let bytes = made.bytes(&name);
        for bit in 0..bytes.len() * 8 {
            let disk = made.after(Left::All);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.put(&name, &flipped);
            let context = format!("{name}, byte {}, bit {}", bit / 8, bit % 8);
            let lost = lost(&disk, &context);
            assert!(lost <= 1, "{context}: {lost} records are lost");
            lost_in_all += lost;
        }
    }
    assert!(lost_in_all > 1000, "the bits of records were flipped: {lost_in_all}");
}

#[test]
fn a_spool_cut_off_anywhere_keeps_all_whole_records_before() {
    let made = small_spool();
    let names = made.names();
    let last = names.last().unwrap();
    let bytes = made.bytes(last);
    // Filled up with zeros, a record that ends with some is whole for longer.
    let mut before = [7; 2];
    for length in (0..=bytes.len()).rev() {
        for (fill, before) in [0, 300].into_iter().zip(&mut before) {
            let disk = made.after(Left::All);
            let mut cut = bytes[..length].to_vec();
            // Some file systems leave zeros where nothing was written.
            cut.resize(length + fill, 0);
            disk.put(last, &cut);
            let (spool, recovery) = Spool::start(disk.files(), None, &roomy()).unwrap();
            let (t, u) = all(&spool);
            assert_eq!(&t[..1], [vec![2, 4]]);
            assert_eq!(u[0].last(), Some(&11));
            let count = t.len() + u.len();
            assert!(count <= *before, "{length}: {t:?} {u:?}");
            *before = count;
            for damage in &recovery.damages {
                assert!(damage.tail, "{damage}");
            }
            if let Some(last) = t[1..].last() {
                assert_eq!(accept(&spool, "t", last.clone()).unwrap().repeats, last.len());
            }
            drop(spool);
            let (_, recovery) = Spool::start(disk.files(), None, &roomy()).unwrap();
            assert_eq!(recovery.damages, []);
        }
    }
    assert_eq!(before, [2, 2]);
}

#[test]
fn runs_of_garbage_neither_loop_nor_panic() {
    let made = small_spool();
    let mut random = 1_u64;
    let mut number = |of: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % of
    };
    for round in 0..3000 {
        let disk = made.after(Left::All);
        for name in made.names() {
            let mut bytes = made.bytes(&name);
            let from = number(bytes.len());
            let to = (from + number(200)).min(bytes.len());
            let garbage: Vec<u8> = match round % 3 {
                0 => vec![0; to - from],
                1 => (from..to).map(|_| u8::try_from(number(256)).unwrap()).collect(),
                // What stood elsewhere.
                _ => {
                    let source = number(bytes.len() - (to - from));
                    bytes[source..source + to - from].to_vec()
                }
            };
            bytes[from..to].copy_from_slice(&garbage);
            disk.put(&name, &bytes);
        }
        lost(&disk, &format!("round {round}"));
    }
}

#[test]
fn a_payload_that_holds_a_segment_does_not_pass_for_records() {
    let disk = Disk::default();
    let spool = start(&disk, &roomy());
    accept(&spool, "t", 0..1).unwrap();
    let name = &disk.names()[0];
    let copy = disk.bytes(name);
    let topic = iggy_connector_sdk::TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
    let metadata = iggy_connector_sdk::MessagesMetadata {
        partition_id: 1,
        current_offset: 0,
        schema: iggy_connector_sdk::Schema::Raw,
    };
    let message = iggy_connector_sdk::BorrowedMessage {
        id: 5,
        offset: 1,
        checksum: 0,
        timestamp: 0,
        origin_timestamp: 0,
        headers: b"",
        payload: &copy,
    };
    block_on(spool.accept(&topic, &metadata, &[message], std::time::SystemTime::now())).unwrap();
    accept(&spool, "t", 2..3).unwrap();
    drop(spool);
    let mut bytes = disk.bytes(name);
    // The header of the record around it.
    bytes[copy.len() + 20] ^= 1;
    disk.put(name, &bytes);
    let (spool, recovery) = Spool::start(disk.files(), None, &roomy()).unwrap();
    assert_eq!(recovery.damages.len(), 1);
    assert_eq!(records(&spool, "t"), [vec![0], vec![2]]);
}

#[test]
fn a_record_that_is_damaged_while_the_spool_is_open_is_passed_over() {
    let disk = Disk::default();
    let spool = start(&disk, &roomy());
    let name = "000000000001.log";
    let mut ends = Vec::new();
    for offset in 0..6 {
        accept(&spool, "t", offset..=offset).unwrap();
        ends.push(disk.bytes(name).len());
    }
    let mut bytes = disk.bytes(name);
    bytes[ends[1] - 1] ^= 1;
    bytes[ends[2] + 20] ^= 1;
    disk.put(name, &bytes);
    assert_eq!(records(&spool, "t"), [vec![0], vec![2], vec![4], vec![5]]);
    // How many messages were in the record without a header is unknown until the lane is empty.
    assert_eq!(spool.usage().messages, 5);
    for sequence in 1..=6 {
        spool.settle_all(&lane("t"), sequence).unwrap();
    }
    assert_eq!((spool.usage().messages, spool.lanes()), (0, vec![]));
    drop(spool);
    let (_, recovery) = Spool::start(disk.files(), None, &roomy()).unwrap();
    assert_eq!((recovery.messages, recovery.damages), (0, vec![]));
}

#[test]
fn damaged_pieces_are_kept_within_bounds() {
    let disk = Disk::default();
    let limit = Mend::Within(3000);
    for round in 0..20 {
        let spool = start(&disk, &roomy());
        accept_of(&spool, "t", round..=round, 1000, 1).unwrap();
        drop(spool);
        let name = disk.names().last().unwrap().clone();
        let mut bytes = disk.bytes(&name);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        disk.put(&name, &bytes);
        let recovered = recovery::recover(&*disk.files(), store::windows(1 << 20), limit).unwrap();
        assert_eq!(recovered.damages.len(), 1);
        assert!(recovered.damages[0].to_string().contains("at the end of"), "{}", recovered.damages[0]);
    }
    let pieces = disk.files().damaged().unwrap().list().unwrap();
    let bytes: u64 = pieces.iter().map(|(_, length)| length).sum();
    assert!((1000..=3000).contains(&bytes), "{pieces:?}");
}

#[test]
fn a_look_at_a_damaged_spool_changes_nothing() {
    let disk = small_spool();
    let name = disk.names()[0].clone();
    let mut bytes = disk.bytes(&name);
    bytes[60] ^= 1;
    disk.put(&name, &bytes);
    let operations = disk.operations();
    let recovered = recovery::recover(&*disk.files(), store::windows(0), Mend::No).unwrap();
    assert_eq!(recovered.damages.len(), 1);
    assert_eq!((disk.operations(), disk.bytes(&name)), (operations, bytes));
    let held: BTreeSet<u64> = recovered.lanes.values().map(|lane| lane.messages).collect();
    assert!(!held.is_empty());
}

#[test]
fn what_is_partly_settled_is_so_after_a_restart() {
    let disk = small_spool();
    let spool = start(&disk, &roomy());
    let record = spool.next(&lane("t"), 0).unwrap().unwrap();
    assert_eq!((unsettled(&record), record.settled()), (vec![2, 4], 1));
}
