//! What a spool does while nothing goes wrong.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use super::support::{Given, accept, accept_here, accept_of, lane, open, options, records};
use crate::spool::{
    Accepted, LaneKey, Options, Spool, SpoolError, SyncMode, WhenFull, format, holds_messages, status,
};

#[test]
fn batches_come_back_as_they_went_in_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    assert_eq!(accept(&spool, "t", 0..3).unwrap(), Accepted { stored: 3, repeats: 0 });
    accept(&spool, "u", 5..6).unwrap();
    accept(&spool, "t", 3..4).unwrap();
    assert_eq!(accept(&spool, "t", 9..9).unwrap(), Accepted::default());
    let all = |spool: &Spool| (records(spool, "t"), records(spool, "u"));
    let expected = (vec![vec![0, 1, 2], vec![3]], vec![vec![5]]);
    assert_eq!(all(&spool), expected);
    let record = spool.next(&lane("t"), 0).unwrap().unwrap();
    let stored = record.decode().unwrap();
    assert_eq!((stored.topic.stream.as_str(), stored.topic.topic.as_str()), ("s", "t"));
    let age = stored.accepted.elapsed().unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert_eq!((stored.metadata.partition_id, stored.metadata.current_offset), (1, 7));
    assert_eq!((stored.messages[1].id, stored.messages[1].timestamp), (1 << 64 | 1, 1001));
    drop(spool);
    let (spool, recovery) = Spool::open(&options(folder.path())).unwrap();
    assert_eq!((recovery.messages, recovery.lanes, recovery.damages.len()), (5, 2, 0));
    let mut lanes = spool.lanes();
    lanes.sort();
    assert_eq!(lanes, [lane("t"), lane("u")]);
    assert_eq!(all(&spool), expected);
    assert_eq!(records(&spool, "none"), Vec::<Vec<u64>>::new());
}

#[test]
fn what_is_settled_does_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    for first in 0..5 {
        accept(&spool, "t", first * 4..first * 4 + 4).unwrap();
    }
    spool.settle_all(&lane("t"), 2).unwrap();
    spool.settle(&lane("t"), 4, &[3, 0]).unwrap();
    spool.settle(&lane("t"), 1, &[0, 1, 2]).unwrap();
    spool.settle(&lane("t"), 1, &[3, 3, 99]).unwrap();
    spool.settle_all(&lane("t"), 77).unwrap();
    spool.settle_all(&lane("other"), 1).unwrap();
    let expected = [vec![8, 9, 10, 11], vec![13, 14], vec![16, 17, 18, 19]];
    for _ in 0..3 {
        assert_eq!(records(&spool, "t"), expected);
        assert_eq!(spool.usage().messages, 10);
        drop(spool);
        spool = open(folder.path());
    }
    spool.settle(&lane("t"), 4, &[1, 2]).unwrap();
    spool.settle_all(&lane("t"), 3).unwrap();
    spool.settle_all(&lane("t"), 5).unwrap();
    assert_eq!((spool.lanes(), spool.usage().messages), (vec![], 0));
    assert!(!holds_messages(folder.path()).unwrap());
    drop(spool);
    assert!(open(folder.path()).lanes().is_empty());
}

#[test]
fn repeats_are_not_stored_again_and_a_topic_made_anew_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    accept(&spool, "t", 0..10).unwrap();
    for _ in 0..3 {
        assert_eq!(accept(&spool, "t", 0..10).unwrap(), Accepted { stored: 0, repeats: 10 });
        drop(spool);
        spool = open(folder.path());
    }
    assert_eq!(accept(&spool, "t", 5..12).unwrap(), Accepted { stored: 2, repeats: 5 });
    spool.settle_all(&lane("t"), 1).unwrap();
    assert_eq!(records(&spool, "t"), [vec![10, 11]]);
    // Offsets begin again, and the messages are others.
    assert_eq!(accept_of(&spool, "t", 0..10, 0, 2).unwrap().stored, 10);
    assert_eq!(records(&spool, "t"), [(10..12).collect::<Vec<_>>(), (0..10).collect()]);
}

#[test]
fn what_came_together_with_repeats_is_known_with_them_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let reopened = || open(folder.path());
    accept(&reopened(), "t", 0..10).unwrap();
    // The host knew of none of it, and cuts it in another way.
    assert_eq!(accept(&reopened(), "t", 0..4).unwrap(), Accepted { stored: 0, repeats: 4 });
    assert_eq!(accept(&reopened(), "t", 4..15).unwrap(), Accepted { stored: 5, repeats: 6 });
    // It did not come to know of that, either.
    assert_eq!(accept(&reopened(), "t", 4..7).unwrap(), Accepted { stored: 0, repeats: 3 });
    assert_eq!(accept(&reopened(), "t", 7..16).unwrap(), Accepted { stored: 1, repeats: 8 });
    assert_eq!(accept(&reopened(), "t", 16..17).unwrap(), Accepted { stored: 1, repeats: 0 });
    // A replay.
    assert_eq!(accept(&reopened(), "t", 7..17).unwrap(), Accepted { stored: 10, repeats: 0 });
}

#[test]
fn repeats_are_recognised_when_their_segments_are_long_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    accept(&spool, "early", 0..20).unwrap();
    spool.settle_all(&lane("early"), 1).unwrap();
    let before = fs::read_dir(folder.path()).unwrap().count();
    for offset in 0..200 {
        accept_of(&spool, "t", offset..=offset, 20_000, 1).unwrap();
        spool.settle_all(&lane("t"), offset + 1).unwrap();
    }
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert!(files <= before + 2, "4 MB went through, and {files} files are left");
    assert!(spool.usage().bytes < 1 << 19, "{:?}", spool.usage());
    assert_eq!(accept(&spool, "early", 0..20).unwrap().repeats, 20);
    drop(spool);
    spool = open(folder.path());
    assert_eq!(accept(&spool, "early", 0..20).unwrap().repeats, 20);
    assert_eq!(accept_of(&spool, "t", 199..201, 20_000, 1).unwrap().stored, 1);
}

#[test]
fn a_full_spool_takes_nothing_and_then_what_fits_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut stored = 0;
    let full = loop {
        match accept_of(&spool, "t", stored..=stored, 50_000, 1) {
            Ok(_) => stored += 1,
            Err(full) => break full,
        }
    };
    assert!(matches!(full, SpoolError::Full { max: 1_048_576, .. }), "{full}");
    assert!((15..=20).contains(&stored), "{stored}");
    assert!(spool.usage().bytes <= 1 << 20);
    let never = accept_of(&spool, "t", stored..=stored, 1 << 20, 1).unwrap_err();
    assert!(matches!(never, SpoolError::TooLarge { .. }), "{never}");
    for sequence in 1..=6 {
        spool.settle_all(&lane("t"), sequence).unwrap();
    }
    accept_of(&spool, "t", stored..=stored, 50_000, 1).unwrap();
    let left: Vec<_> = (6..=stored).map(|offset| vec![offset]).collect();
    assert_eq!(records(&spool, "t"), left);
    drop(spool);
    assert_eq!(records(&open(folder.path()), "t"), left);
}

#[test]
fn whoever_waits_for_space_goes_on_when_there_is_some_or_when_the_connector_closes() {
    let folder = tempfile::tempdir().unwrap();
    let blocking = Options { when_full: WhenFull::Block, ..options(folder.path()) };
    let (spool, _) = Spool::open(&blocking).unwrap();
    let total = 60;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (0..total).try_for_each(|offset| accept_of(&spool, "t", offset..=offset, 50_000, 1).map(drop))
        });
        let mut after = 0;
        while after < total {
            match spool.next(&lane("t"), after).unwrap() {
                Some(record) => {
                    after = record.sequence;
                    spool.settle_all(&lane("t"), after).unwrap();
                }
                None => std::thread::yield_now(),
            }
        }
        writer.join().unwrap().unwrap();
        let writer = scope
            .spawn(|| (total..).find_map(|offset| accept_of(&spool, "t", offset..=offset, 50_000, 1).err()));
        while spool.usage().bytes < 1_000_000 {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(50));
        spool.close_begins();
        let why = writer.join().unwrap().unwrap();
        assert!(matches!(why, SpoolError::Closing), "{why}");
        // What fits is stored all the same: the runtime will not hand it over again.
        for sequence in total + 1..=total + 6 {
            spool.settle_all(&lane("t"), sequence).unwrap();
        }
        accept(&spool, "late", 0..1).unwrap();
    });
}

#[test]
fn few_records_of_a_dead_lane_do_not_hold_the_space_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let (mut sequence, mut offset) = (0, 0);
    for round in 0..60_u64 {
        if round.is_multiple_of(6) {
            accept_of(&spool, "dead", round..=round, 5000, 1).unwrap();
        }
        for _ in 0..4 {
            accept_of(&spool, "t", offset..=offset, 20_000, 1).unwrap();
            (sequence, offset) = (sequence + 1, offset + 1);
            spool.settle_all(&lane("t"), sequence).unwrap();
        }
    }
    let dead: Vec<Vec<u64>> = (0..60).step_by(6).map(|offset| vec![offset]).collect();
    for _ in 0..2 {
        assert_eq!(records(&spool, "dead"), dead);
        assert_eq!(records(&spool, "t"), Vec::<Vec<u64>>::new());
        drop(spool);
        spool = open(folder.path());
    }
    assert_eq!(accept_of(&spool, "dead", 54..55, 5000, 1).unwrap().repeats, 1);
    spool.settle_all(&lane("dead"), 1).unwrap();
    assert_eq!(records(&spool, "dead"), dead[1..]);
}

#[test]
fn memory_does_not_grow_with_the_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let large = Options {
        max_bytes: 64 << 20,
        sync: SyncMode::Within(Duration::from_secs(60)),
        ..options(folder.path())
    };
    let (spool, _) = Spool::open(&large).unwrap();
    for offset in 0..20_000 {
        accept(&spool, if offset % 2 == 0 { "t" } else { "u" }, offset..=offset).unwrap();
    }
    let usage = spool.usage();
    assert_eq!(usage.messages, 20_000);
    assert!(usage.runs <= 2 * 64 && usage.remembered <= 16_384, "{usage:?}");
    drop(spool);
    let (spool, _) = Spool::open(&large).unwrap();
    assert_eq!(spool.usage().messages, 20_000);
    assert!(spool.usage().runs <= 2 * 64, "{:?}", spool.usage());
    for sequence in 1..=10_000 {
        spool.settle_all(&lane("u"), sequence).unwrap();
        assert!(spool.usage().runs <= 2 * 64);
    }
    assert_eq!((spool.usage().messages, spool.lanes()), (10_000, vec![lane("t")]));
}

#[test]
fn one_owner_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let why = Spool::open(&options(folder.path())).unwrap_err();
    let shown = why.to_string();
    assert!(
        matches!(&why, SpoolError::InUse { process, .. } if *process == Some(std::process::id())),
        "{why}"
    );
    assert!(shown.contains(&*folder.path().to_string_lossy()) && shown.contains("spool.path"), "{shown}");
    drop(first);
    open(folder.path());
}

#[test]
fn another_version_of_the_format_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format::segment_name(1));
    fs::write(&path, format::head_of_version(7)).unwrap();
    let why = Spool::open(&options(folder.path())).unwrap_err();
    assert!(matches!(why, SpoolError::Version { version: 7, .. }), "{why}");
    assert!(status(folder.path()).is_err());
    assert_eq!(fs::read(path).unwrap(), format::head_of_version(7));
}

#[test]
fn the_status_tells_what_waits_while_it_is_in_use_and_when_not() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!holds_messages(&folder.path().join("none")).unwrap());
    let spool = open(folder.path());
    accept(&spool, "t", 0..3).unwrap();
    accept(&spool, "t", 3..7).unwrap();
    accept(&spool, "u", 40..41).unwrap();
    spool.settle_all(&lane("t"), 1).unwrap();
    spool.settle(&lane("t"), 2, &[0]).unwrap();
    let used = status(folder.path()).unwrap();
    assert_eq!((used.in_use, used.process), (true, Some(std::process::id())));
    assert_eq!((used.messages, used.oldest_timestamp), (4, Some(1004)));
    let t = &used.lanes[0];
    assert_eq!(
        (t.topic.as_str(), t.messages, t.oldest_timestamp, t.next_offset),
        ("t", 3, Some(1004), Some(4))
    );
    assert_eq!((used.lanes[1].topic.as_str(), used.lanes[1].next_offset), ("u", Some(40)));
    assert!(serde_json::to_string(&used).unwrap().contains("\"next_offset\":4"));
    drop(spool);
    let unused = status(folder.path()).unwrap();
    assert_eq!((unused.in_use, unused.process, &unused.lanes), (false, None, &used.lanes));
    assert!(holds_messages(folder.path()).unwrap());
}

#[test]
fn lanes_are_told_apart_by_partition_and_by_where_a_name_ends() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    accept(&spool, "t", 0..1).unwrap();
    for other in [LaneKey::new("s", "t", 2), LaneKey::new("st", "", 1), LaneKey::new("", "st", 1)] {
        assert!(spool.next(&other, 0).unwrap().is_none());
    }
}

#[test]
fn news_of_new_records() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    let mut version = spool.subscribe();
    assert!(!version.has_changed().unwrap());
    accept(&spool, "t", 0..1).unwrap();
    assert!(version.has_changed().unwrap());
    version.mark_unchanged();
    assert_eq!(accept(&spool, "t", 0..1).unwrap().repeats, 1);
    assert!(!version.has_changed().unwrap());
}

#[test]
fn damage_is_told_until_it_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let spool = open(folder.path());
    accept(&spool, "t", 0..1).unwrap();
    accept(&spool, "t", 1..2).unwrap();
    drop(spool);
    let path = folder.path().join(format::segment_name(1));
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|window| window == b"t/0").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let status_of = status(folder.path()).unwrap();
    assert_eq!((status_of.messages, status_of.damages.len(), status_of.set_aside.len()), (1, 1, 0));
    assert_eq!(fs::read(&path).unwrap(), bytes, "reading the status changes nothing");
    let (spool, recovery) = Spool::open(&options(folder.path())).unwrap();
    let damage = &recovery.damages[0];
    assert_eq!((recovery.messages, damage.file.as_path(), damage.tail), (1, path.as_path(), false));
    assert_eq!(damage.record.as_deref(), Some("record 1 of stream s, topic t, partition 1"));
    let kept = damage.kept.as_ref().unwrap();
    assert!(fs::read(kept).unwrap().windows(3).any(|window| window == b"u/0"));
    assert!(recovery.to_string().contains(&*kept.to_string_lossy()), "{recovery}");
    assert_eq!(records(&spool, "t"), [[1]]);
    let status_of = status(folder.path()).unwrap();
    assert_eq!((status_of.damages.len(), status_of.set_aside.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_record_counts_while_the_spool_is_open_and_by_no_clock_of_the_system() {
    const HOUR: Duration = Duration::from_secs(3600);
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(folder.path());
    let ages = |spool: &Spool| {
        let age = |topic| spool.next(&lane(topic), 0).unwrap().map(|record| record.age().as_secs() / 60);
        (age("t"), age("u"))
    };
    // One whose clock of the system stood elsewhere.
    Given { accepted: SystemTime::UNIX_EPOCH, ..Given::default() }.store(&spool).await.unwrap();
    tokio::time::advance(HOUR).await;
    Given { topic: "u", ..Given::default() }.store(&spool).await.unwrap();
    tokio::time::advance(HOUR).await;
    assert_eq!(ages(&spool), (Some(120), Some(60)));
    drop(spool);
    tokio::time::advance(10 * HOUR).await;
    spool = open(folder.path());
    // How long it was open since the last batch was stored nobody knows any more.
    assert_eq!(ages(&spool), (Some(60), Some(0)));
    tokio::time::advance(HOUR).await;
    assert_eq!(ages(&spool), (Some(120), Some(60)));
    // A checkpoint knows the time when the batches are gone.
    accept_here(&spool, "v", 0..1, 300_000, 1).await.unwrap();
    spool.settle_all(&lane("v"), 1).unwrap();
    accept_here(&spool, "v", 1..2, 300_000, 1).await.unwrap();
    drop(spool);
    assert_eq!(ages(&open(folder.path())), (Some(120), Some(60)));
}

#[tokio::test(start_paused = true)]
async fn a_record_of_an_earlier_release_is_as_old_as_the_spool_is_open() {
    let folder = tempfile::tempdir().unwrap();
    Given::default().store(&open(folder.path())).await.unwrap();
    let path = folder.path().join(format::segment_name(1));
    let mut bytes = fs::read(&path).unwrap();
    let at = memchr::memmem::rfind(&bytes, &format::MARKER).unwrap();
    let header = format::Header::parse(&bytes[at..], 1, at as u64).unwrap();
    let untimed = format::Header { flags: 0, ..header };
    bytes[at..at + format::PREFIX].copy_from_slice(&untimed.bytes(1, at as u64));
    fs::write(&path, bytes).unwrap();
    tokio::time::advance(Duration::from_secs(1000)).await;
    let spool = open(folder.path());
    tokio::time::advance(Duration::from_secs(7)).await;
    assert_eq!(spool.next(&lane("t"), 0).unwrap().unwrap().age(), Duration::from_secs(7));
}
