//! Moments that a run seldom meets.

use std::{
    io::ErrorKind,
    path::Path,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use super::{
    disk::{Disk, Fault, Left},
    faults::start,
    support::{accept, accept_here, accept_of, lane, options, records},
};
use crate::spool::{Options, Spool, SpoolError, WhenFull};

/// Segments of 16 KiB.
fn tight() -> Options {
    Options { max_bytes: 64 * 1024, ..options(Path::new("in memory")) }
}

fn settle_one_by_one(spool: &Spool, topic: &str, messages: std::ops::Range<u32>) {
    for message in messages {
        spool.settle(&lane(topic), 1, &[message]).unwrap();
    }
}

#[test]
fn what_was_refused_is_not_there_even_if_the_process_stops_at_once() {
    for fault in [Fault::Once(ErrorKind::Other), Fault::Torn] {
        for operation in 1..=2 {
            let disk = Disk::default();
            let spool = start(&disk, &tight());
            accept(&spool, "t", 0..3).unwrap();
            // The write, or the sync behind it.
            disk.fail_at(operation, fault);
            let why = accept(&spool, "t", 3..6).unwrap_err();
            assert!(why.to_string().contains("cannot be"), "{why}");
            assert_eq!(records(&spool, "t"), [[0, 1, 2]]);
            let stopped = start(&disk.after(Left::All), &tight());
            assert_eq!(records(&stopped, "t"), [[0, 1, 2]]);
            // Once more, and it is no repeat.
            assert_eq!(accept(&spool, "t", 3..6).unwrap().stored, 3);
            let stopped = start(&disk.after(Left::Nothing), &tight());
            assert_eq!(records(&stopped, "t"), [[0, 1, 2], [3, 4, 5]]);
        }
    }
}

#[test]
fn what_cannot_be_taken_back_is_not_delivered_once_something_else_was_stored() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    accept(&spool, "t", 0..3).unwrap();
    disk.fail_at(2, Fault::Several(ErrorKind::Other, 2));
    accept(&spool, "t", 3..6).unwrap_err();
    accept(&spool, "u", 0..1).unwrap();
    let stopped = start(&disk.after(Left::All), &tight());
    assert_eq!((records(&stopped, "t"), records(&stopped, "u")), (vec![vec![0, 1, 2]], vec![vec![0]]));
}

#[test]
fn no_segment_begins_while_a_batch_is_on_its_way() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    accept(&spool, "t", 0..1000).unwrap();
    disk.syncs_take(Duration::from_millis(300));
    let before = disk.names().len();
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| accept(&spool, "u", 0..1).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        settle_one_by_one(&spool, "t", 0..900);
        assert!(!accepting.is_finished(), "the progress was to be written meanwhile");
        accepting.join().unwrap();
    });
    disk.syncs_take(Duration::ZERO);
    settle_one_by_one(&spool, "t", 900..990);
    assert!(disk.names().len() > before, "the progress did not fill a segment");
    for left in [Left::All, Left::Nothing] {
        let stopped = start(&disk.after(left), &tight());
        assert_eq!(records(&stopped, "u"), [[0]], "{left:?}");
        if left == Left::All {
            assert_eq!(records(&stopped, "t"), [(990..1000).collect::<Vec<_>>()]);
        }
    }
}

#[test]
fn nothing_is_deleted_before_the_checkpoint_that_covers_it_is_durable() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    accept(&spool, "dead", 0..3).unwrap();
    accept(&spool, "t", 0..250).unwrap();
    spool.settle_all(&lane("dead"), 1).unwrap();
    settle_one_by_one(&spool, "t", 0..250);
    let first = disk.names();
    assert_eq!(first, ["000000000002.log"], "progress filled the first segment, and all of it is settled");
    let stopped = start(&disk.after(Left::Nothing), &tight());
    assert_eq!(accept(&stopped, "t", 50..251).unwrap().repeats, 200);
    assert_eq!(records(&stopped, "t"), [[250]]);
}

#[test]
fn what_is_partly_settled_stays_so_when_its_record_is_moved() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    accept_of(&spool, "dead", 0..4, 500, 1).unwrap();
    spool.settle(&lane("dead"), 1, &[1]).unwrap();
    for offset in 0..100 {
        accept_of(&spool, "t", offset..=offset, 4000, 1).unwrap();
        spool.settle_all(&lane("t"), offset + 1).unwrap();
        if offset % 3 == 0 {
            // Keeps every segment alive, so that there is no space left but by emptying them.
            accept_of(&spool, "pin", offset..=offset, 300, 1).unwrap();
        }
        if offset == 50 {
            spool.settle(&lane("dead"), 1, &[3]).unwrap();
        }
    }
    assert!(!disk.names().contains(&"000000000001.log".to_owned()), "it was moved: {:?}", disk.names());
    assert_eq!(records(&spool, "dead"), [[0, 2]]);
    for left in [Left::All, Left::Nothing] {
        let stopped = start(&disk.after(left), &tight());
        assert_eq!(records(&stopped, "dead"), [[0, 2]]);
        assert_eq!(accept_of(&stopped, "dead", 0..4, 500, 1).unwrap().repeats, 4);
        stopped.settle(&lane("dead"), 1, &[0, 2]).unwrap();
        assert_eq!(stopped.lanes(), [lane("pin")]);
    }
}

#[test]
fn a_segment_that_is_emptied_while_it_is_damaged_is_passed_over() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    for offset in 0..3 {
        accept_of(&spool, "dead", offset..=offset, 500, 1).unwrap();
    }
    let name = "000000000001.log";
    let mut bytes = disk.bytes(name);
    let last = bytes.len() - 1;
    bytes[last - 700] ^= 1;
    disk.put(name, &bytes);
    for offset in 0..100 {
        accept_of(&spool, "t", offset..=offset, 4000, 1).unwrap();
        spool.settle_all(&lane("t"), offset + 1).unwrap();
        if offset % 3 == 0 {
            accept_of(&spool, "pin", offset..=offset, 300, 1).unwrap();
        }
    }
    assert!(!disk.names().contains(&name.to_owned()));
    assert_eq!(records(&spool, "dead"), [[0], [2]]);
}

#[test]
fn a_full_disk_gets_its_space_back_from_what_is_settled() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    for offset in 0..9 {
        accept_of(&spool, "t", offset..=offset, 5000, 1).unwrap();
    }
    let before = disk.names().len();
    disk.is_full(true);
    for sequence in 1..=8 {
        spool.settle_all(&lane("t"), sequence).unwrap();
    }
    assert!(before == 3 && disk.names() == ["000000000003.log"], "{before}, {:?}", disk.names());
    assert_eq!(records(&spool, "t"), [[8]]);
    let why = accept(&spool, "t", 9..10).unwrap_err();
    assert!(matches!(why, SpoolError::NoSpace(_)), "{why}");
    // What stood in the last segment is marked where it stands.
    assert_eq!(records(&start(&disk.after(Left::All), &tight()), "t"), [[8]]);
    disk.is_full(false);
    accept(&spool, "t", 9..10).unwrap();
    let stopped = start(&disk.after(Left::Nothing), &tight());
    assert_eq!(records(&stopped, "t").last().unwrap(), &[9]);
}

#[test]
fn a_disk_that_is_full_at_open_gets_its_space_back_and_what_is_settled_stays_so() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    for offset in 0..9 {
        accept_of(&spool, if offset == 7 { "u" } else { "t" }, offset..=offset, 4000, 1).unwrap();
    }
    let all: Vec<String> = disk.names();
    drop(spool);
    disk.is_full(true);
    let spool = start(&disk, &tight());
    let why = accept_of(&spool, "t", 9..=9, 4000, 1).unwrap_err();
    assert!(matches!(why, SpoolError::NoSpace(_)), "{why}");
    for sequence in 1..=7 {
        spool.settle_all(&lane("t"), sequence).unwrap();
        // At any moment, nothing comes again when the process stops.
        let left: Vec<Vec<u64>> = [0, 1, 2, 3, 4, 5, 6, 8]
            .into_iter()
            .skip(usize::try_from(sequence).unwrap())
            .map(|offset| vec![offset])
            .collect();
        let stopped = start(&disk.after(Left::All), &tight());
        assert_eq!((records(&stopped, "t"), records(&stopped, "u")), (left, vec![vec![7]]), "{sequence}");
    }
    assert_eq!((all.len(), disk.names()), (3, all[2..].to_vec()));
    spool.settle_all(&lane("u"), 1).unwrap();
    assert!(accept(&spool, "t", 9..10).is_err());
    assert_eq!(records(&start(&disk.after(Left::All), &tight()), "t"), [[8]]);
    spool.settle_all(&lane("t"), 8).unwrap();
    drop(spool);
    let spool = start(&disk, &tight());
    assert_eq!(spool.usage().messages, 0);
    assert!(accept(&spool, "t", 9..10).is_err(), "something else has all the space");
    assert_eq!(disk.names(), [""; 0], "and the last segment was of no more use");
    disk.is_full(false);
    accept(&spool, "t", 9..10).unwrap();
    assert_eq!(records(&start(&disk.after(Left::Nothing), &tight()), "t"), [[9]]);
}

#[tokio::test(start_paused = true)]
async fn consume_waits_while_the_disk_is_full_until_it_is_not() {
    let disk = Disk::default();
    let blocking = Options { when_full: WhenFull::Block, ..tight() };
    let spool = start(&disk, &blocking);
    accept_here(&spool, "t", 0..1, 0, 1).await.unwrap();
    disk.is_full(true);
    let began = tokio::time::Instant::now();
    let (stored, ()) = tokio::join!(accept_here(&spool, "t", 1..2, 0, 1), async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        // Somebody else frees space, without a notification.
        disk.is_full(false);
    });
    assert_eq!(stored.unwrap().stored, 1);
    assert!((100..102).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    disk.is_full(true);
    let (refused, ()) = tokio::join!(accept_here(&spool, "t", 2..3, 0, 1), async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        spool.close_begins();
    });
    assert!(matches!(refused, Err(SpoolError::Closing)), "{refused:?}");
    assert_eq!(records(&spool, "t"), [[0], [1]]);
}

#[test]
fn an_empty_spool_takes_whatever_it_does_not_refuse_for_good() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    let (mut sequence, mut refused) = (0, 0);
    for (offset, size) in (0..).zip((0..66_000).step_by(1000).chain((55_000..66_000).step_by(100))) {
        match accept_of(&spool, "t", offset..=offset, size, 1) {
            Ok(_) => {
                sequence += 1;
                spool.settle_all(&lane("t"), sequence).unwrap();
            }
            Err(SpoolError::TooLarge { .. }) => refused += 1,
            Err(why) => panic!("{size}: {why}"),
        }
    }
    assert!(refused > 0 && sequence > 60, "{sequence} {refused}");
}

#[test]
fn a_read_that_fails_can_be_tried_again() {
    let disk = Disk::default();
    let spool = start(&disk, &tight());
    accept(&spool, "t", 0..3).unwrap();
    disk.fail_reads(true);
    let why = spool.next(&lane("t"), 0).unwrap_err();
    assert!(why.to_string().contains("cannot be read"), "{why}");
    let unopened = Spool::start(disk.files(), None, &tight()).unwrap_err();
    assert!(unopened.to_string().contains("cannot be read"), "{unopened}");
    disk.fail_reads(false);
    assert_eq!(records(&spool, "t"), [[0, 1, 2]]);
}

#[test]
fn what_a_killed_process_had_no_time_to_sync_is_synced_before_it_counts_as_stored() {
    for operation in 1..=5 {
        let disk = Disk::default();
        let spool = start(&disk, &tight());
        disk.fail_at(operation, Fault::Crash);
        let accepted = accept(&spool, "t", 0..3);
        let disk = disk.after(Left::All);
        let spool = start(&disk, &tight());
        let again = accept(&spool, "t", 0..3).unwrap();
        assert!(accepted.is_err() || again.repeats == 3);
        let stopped = start(&disk.after(Left::Nothing), &tight());
        assert_eq!(records(&stopped, "t"), [[0, 1, 2]], "stopped at {operation}, then {again:?}");
    }
}

#[test]
fn a_stuck_topic_leaves_room_for_those_that_go_on() {
    const HEALTHY: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for max_bytes in [64 * 1024, 256 * 1024, 4 * 1024 * 1024] {
        let disk = Disk::default();
        let options = Options { max_bytes, ..tight() };
        let spool = start(&disk, &options);
        let size = usize::try_from(max_bytes / 200).unwrap();
        let (mut stuck, mut refused) = (0, 0);
        for round in 0..300 {
            match accept_of(&spool, "stuck", stuck..=stuck, size, 1) {
                Ok(_) => stuck += 1,
                Err(SpoolError::OverShare { .. }) => refused += 1,
                Err(why) => panic!("{max_bytes}: {why}"),
            }
            for topic in HEALTHY {
                accept_of(&spool, topic, round..=round, size, 1)
                    .unwrap_or_else(|why| panic!("{max_bytes}, round {round}, {topic}: {why}"));
            }
            for topic in HEALTHY {
                spool.settle_all(&lane(topic), round + 1).unwrap();
            }
        }
        // It has the most that it can have while others have something, but for what is garbage until it is worth the while.
        assert!((70..150).contains(&stuck) && refused > 100, "{max_bytes}: {stuck}");
        assert!(spool.usage().bytes <= max_bytes);
        // When one of its own is settled it goes on.
        for sequence in 1..=stuck {
            spool.settle_all(&lane("stuck"), sequence).unwrap();
        }
        accept_of(&spool, "stuck", stuck..=stuck, size, 1).unwrap();
    }
}

#[test]
fn one_topic_alone_has_the_whole_spool() {
    let spool = start(&Disk::default(), &tight());
    let stored =
        (0..1000).take_while(|offset| accept_of(&spool, "t", *offset..=*offset, 2000, 1).is_ok()).count();
    assert!(stored >= 25, "{stored}");
}

#[test]
fn batches_are_accepted_while_a_segment_is_being_deleted() {
    let disk = Disk::default();
    let spool = Arc::new(start(&disk, &Options { max_bytes: 64 << 20, ..options(Path::new("in memory")) }));
    // Two segments of 1 MiB, and the second covers the first.
    for offset in 0..30 {
        accept_of(&spool, "t", offset..=offset, 64 * 1024, 1).unwrap();
    }
    let accepted = Arc::<OnceLock<bool>>::default();
    disk.on_delete({
        let (spool, accepted) = (Arc::downgrade(&spool), accepted.clone());
        move || {
            let (done, stored) = mpsc::channel();
            let Some(spool) = spool.upgrade() else { return };
            thread::spawn(move || done.send(accept(&spool, "u", 0..1).is_ok()));
            let _ = accepted.set(stored.recv_timeout(Duration::from_secs(10)).unwrap_or(false));
        }
    });
    for record in 1..=30 {
        spool.settle_all(&lane("t"), record).unwrap();
    }
    assert_eq!(accepted.get(), Some(&true));
    assert_eq!(records(&spool, "u"), [[0]]);
}

#[test]
fn lanes_that_are_empty_and_idle_leave_the_checkpoint() {
    const TOPICS: u64 = 500;
    let disk = Disk::default();
    let options = Options { max_bytes: 64 << 20, ..options(Path::new("in memory")) };
    let spool = start(&disk, &options);
    let once = |spool: &Spool, topic: &str, offset: u64, size: usize| {
        accept_of(spool, topic, offset..=offset, size, 1).unwrap();
        let record = spool.next(&lane(topic), 0).unwrap().unwrap();
        spool.settle_all(&lane(topic), record.sequence).unwrap();
    };
    let all = |spool: &Spool| {
        for topic in 0..TOPICS {
            once(spool, &format!("a topic with a long name, number {topic}"), 0, 0);
        }
    };
    let turn_over = |spool: &Spool, from: u64| {
        for offset in from..from + 100 {
            once(spool, "busy", offset, 64 * 1024);
        }
    };
    all(&spool);
    assert_eq!(spool.shared.lock().lanes.len() as u64, TOPICS);
    accept(&spool, "stuck", 0..1).unwrap();
    turn_over(&spool, 0);
    // What stands before the record that is stuck is told by its segment.
    assert!(spool.shared.lock().lanes.len() as u64 > TOPICS);
    spool.settle_all(&lane("stuck"), 1).unwrap();
    turn_over(&spool, 100);
    assert_eq!(spool.shared.lock().lanes.len(), 1, "the busy one is left");
    // They come again, and so after a restart, with sequences that are new for whoever has read them.
    accept(&spool, "a topic with a long name, number 7", 1..2).unwrap();
    let again = spool.next(&lane("a topic with a long name, number 7"), 1).unwrap().unwrap();
    assert_eq!(records(&spool, "a topic with a long name, number 7"), [[1]]);
    drop(spool);
    let spool = start(&disk, &options);
    assert_eq!(records(&spool, "a topic with a long name, number 7"), [[1]]);
    spool.settle_all(&again.lane, again.sequence).unwrap();
    turn_over(&spool, 200);
    turn_over(&spool, 300);
    assert_eq!(spool.shared.lock().lanes.len(), 1, "after a restart too");
}
