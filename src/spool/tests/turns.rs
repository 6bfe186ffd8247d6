//! Who goes behind whom where batches may be of several partitions.

use super::support::{Given, block_on, options};
use crate::spool::{LaneKey, LanesBy, Options, Record, Spool, Turn};

fn open(folder: &tempfile::TempDir) -> Spool {
    Spool::open(&Options { lanes: LanesBy::Partition, ..options(folder.path()) }).unwrap().0
}

fn several() -> LaneKey {
    LaneKey::new("s", "t", u32::MAX)
}

fn of(partition: u32) -> LaneKey {
    LaneKey::new("s", "t", partition)
}

fn store(spool: &Spool, partition: u32, offsets: impl IntoIterator<Item = u64>) {
    let given = Given { partition, offsets: offsets.into_iter().collect(), ..Given::default() };
    let id = u128::from(partition);
    assert_ne!(block_on(Given { id, ..given }.store(spool)).unwrap().stored, 0);
}

fn first(spool: &Spool, lane: &LaneKey) -> Record {
    spool.next(lane, 0).unwrap().unwrap()
}

fn turn(spool: &Spool, lane: &LaneKey) -> Turn {
    let first = first(spool, lane);
    let stored = first.decode().unwrap();
    spool.turn(&first, stored.metadata.partition_id, &stored.messages).unwrap()
}

fn settle(spool: &Spool, lane: &LaneKey) {
    let sequence = first(spool, lane).sequence;
    spool.settle_all(lane, sequence).unwrap();
}

#[test]
fn what_comes_behind_a_batch_of_several_partitions_has_a_lane_of_its_own_and_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(&folder);
    for partition in [1, 2] {
        store(&spool, partition, 0..10);
    }
    for partition in [1, 2] {
        store(&spool, partition, 10..20);
    }
    for again in [false, true] {
        if again {
            // When they came is in the records.
            drop(spool);
            spool = open(&folder);
        }
        let Turn::Now(Some(time)) = turn(&spool, &several()) else { panic!("nothing is before it") };
        assert!(first(&spool, &of(1)).came_from(time), "and what is behind it does not go with it");
        for partition in [1, 2] {
            assert_eq!(turn(&spool, &of(partition)), Turn::Behind(several(), 1));
        }
    }
    settle(&spool, &several());
    assert_eq!(turn(&spool, &of(1)), Turn::Behind(several(), 2));
    settle(&spool, &several());
    for partition in [1, 2] {
        assert_eq!(turn(&spool, &of(partition)), Turn::Now(None));
    }
}

#[test]
fn a_batch_of_several_partitions_waits_for_those_before_it_that_may_be_of_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(&folder);
    for partition in [1, 2, 3] {
        store(&spool, partition, [0]);
    }
    // Of partition 1 that is sure, and so it is of partition 3 up to 30.
    store(&spool, 1, 1..5);
    store(&spool, 3, 1..31);
    // Some of partition 1, and then some of partition 2.
    store(&spool, 2, (5..8).chain(1..3));
    assert_ne!(turn(&spool, &several()), Turn::Behind(of(3), 1), "what it may be of partition 3 is known");
    // It may be that 5 to 7 are among those of before, so what comes of partition 1 goes behind them, and 8 to 10 with it.
    store(&spool, 1, 8..10);
    store(&spool, 1, 10..12);
    store(&spool, 3, 31..33);
    settle(&spool, &of(2));
    assert_eq!(turn(&spool, &several()), Turn::Behind(of(1), 1));
    settle(&spool, &of(1));
    settle(&spool, &of(1));
    assert_eq!(spool.next(&of(1), 0).unwrap().map(|record| record.sequence), None);
    assert!(matches!(turn(&spool, &several()), Turn::Now(None)), "all of partition 3 is behind 30");
    // Nothing of partition 1 is before them any more.
    store(&spool, 1, 12..14);
    assert_eq!(turn(&spool, &of(1)), Turn::Behind(several(), 1));
    assert!(matches!(turn(&spool, &several()), Turn::Now(Some(_))));
}

#[test]
fn messages_that_come_again_do_not_hide_what_a_batch_of_several_partitions_may_hold() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(&folder);
    store(&spool, 1, 0..3);
    store(&spool, 1, [3]);
    // The rest of partition 1 up to 19, and some of partition 2.
    store(&spool, 2, (4..20).chain([0]));
    // Somebody wants partition 1 again from its begin, and it goes on.
    store(&spool, 1, 0..3);
    store(&spool, 1, [3]);
    store(&spool, 1, [20]);
    settle(&spool, &several());
    assert_eq!(turn(&spool, &several()), Turn::Behind(of(1), 1), "3 goes before 4");
    settle(&spool, &of(1));
    for _ in 0..4 {
        assert_eq!(turn(&spool, &several()), Turn::Now(None));
        settle(&spool, &several());
    }
    assert!(spool.lanes().is_empty());
}
