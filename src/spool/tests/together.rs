//! Several threads at once.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    disk::{Disk, Left},
    faults::start,
    support::{accept, accept_here, accept_of, lane, options, records, unsettled},
};
use crate::spool::{Options, Spool, SpoolError, SyncMode, WhenFull};

#[test]
fn batches_of_several_topics_share_their_syncs() {
    const THREADS: u64 = 8;
    const BATCHES: u64 = 50;
    let disk = Disk::default();
    disk.syncs_take(Duration::from_millis(2));
    let spool = start(&disk, &Options { max_bytes: 64 << 20, ..options(Path::new("in memory")) });
    accept(&spool, "first", 0..1).unwrap();
    let before = disk.syncs();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let spool = &spool;
            scope.spawn(move || {
                let topic = format!("t{thread}");
                (0..BATCHES).for_each(|offset| {
                    accept(spool, &topic, offset..=offset).unwrap();
                });
            });
        }
    });
    let syncs = disk.syncs() - before;
    // While one is going on, the others gather for the next.
    assert!((BATCHES..=THREADS * BATCHES / 2).contains(&syncs), "{syncs}");
    let disk = disk.after(Left::Nothing);
    let spool = start(&disk, &options(Path::new("in memory")));
    for thread in 0..THREADS {
        let expected: Vec<_> = (0..BATCHES).map(|offset| vec![offset]).collect();
        assert_eq!(records(&spool, &format!("t{thread}")), expected);
    }
}

#[test]
fn every_accept_is_durable_when_it_returns() {
    let disk = Disk::default();
    let spool = start(&disk, &options(Path::new("in memory")));
    for offset in 0..50 {
        accept_of(&spool, "t", offset..=offset, 3000, 1).unwrap();
        let left = disk.after(Left::Nothing);
        assert_eq!(records(&start(&left, &options(Path::new("in memory"))), "t").len() as u64, offset + 1);
    }
}

#[test]
fn with_an_interval_batches_are_durable_after_it_and_at_the_end() {
    let disk = Disk::default();
    let delayed =
        Options { sync: SyncMode::Within(Duration::from_millis(30)), ..options(Path::new("in memory")) };
    let spool = start(&disk, &delayed);
    let durable = || records(&start(&disk.after(Left::Nothing), &options(Path::new("in memory"))), "t").len();
    let began = Instant::now();
    for offset in 0..20 {
        accept_of(&spool, "t", offset..=offset, 30_000, 1).unwrap();
    }
    assert_eq!(records(&start(&disk.after(Left::All), &delayed), "t").len(), 20);
    while durable() < 20 {
        assert!(began.elapsed() < Duration::from_secs(10), "{}", durable());
        std::thread::sleep(Duration::from_millis(5));
    }
    accept(&spool, "t", 20..21).unwrap();
    drop(spool);
    assert_eq!(durable(), 21);
}

#[test]
fn lanes_are_filled_and_emptied_side_by_side_in_order_with_little_space() {
    let disk = Disk::default();
    let tight =
        Options { max_bytes: 256 * 1024, when_full: WhenFull::Block, ..options(Path::new("in memory")) };
    let spool = Arc::new(start(&disk, &tight));
    let total = 600;
    let stop = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .map(|topic| {
                let (spool, most) = (&spool, &most);
                scope.spawn(move || {
                    for offset in 0..total {
                        accept_of(spool, topic, offset..=offset, 1000, 1).unwrap();
                        most.fetch_max(spool.usage().bytes, Ordering::Relaxed);
                    }
                });
                scope.spawn(move || deliver(spool, topic, total))
            })
            .collect();
        let watched = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // As another process sees it, at any moment.
                let files = disk.files();
                let recovered = crate::spool::recovery::recover(
                    &*files,
                    crate::spool::store::windows(0),
                    crate::spool::recovery::Mend::No,
                );
                recovered.expect("it can be read");
            }
        });
        for reader in readers {
            reader.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        watched.join().unwrap();
    });
    assert_eq!(spool.usage().messages, 0);
    // Progress may go over, but no more than that.
    assert!(most.load(Ordering::Relaxed) < 300 * 1024, "{most:?}");
}

/// Delivers a topic, two records at a time, the second first.
fn deliver(spool: &Spool, topic: &str, total: u64) {
    let (mut after, mut expected) = (0, 0);
    let mut held = None;
    while expected < total {
        let Some(record) = spool.next(&lane(topic), after).unwrap() else {
            if let Some(held) = held.take() {
                spool.settle_all(&lane(topic), held).unwrap();
            }
            std::thread::yield_now();
            continue;
        };
        assert_eq!(unsettled(&record), [expected]);
        expected += 1;
        after = record.sequence;
        match held.take() {
            None => held = Some(after),
            Some(held) => {
                spool.settle_all(&lane(topic), after).unwrap();
                spool.settle_all(&lane(topic), held).unwrap();
            }
        }
    }
    if let Some(held) = held {
        spool.settle_all(&lane(topic), held).unwrap();
    }
}

#[test]
fn the_same_batch_at_the_same_time_is_stored_once() {
    let disk = Disk::default();
    disk.syncs_take(Duration::from_millis(5));
    let spool = start(&disk, &options(Path::new("in memory")));
    let stored = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let accepted = accept(&spool, "t", 0..5).unwrap();
                stored.fetch_add(accepted.stored as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!((stored.into_inner(), records(&spool, "t")), (5, vec![vec![0, 1, 2, 3, 4]]));
}

#[tokio::test(start_paused = true)]
async fn one_thread_accepts_waits_for_space_delivers_and_closes() {
    let disk = Disk::default();
    let tight =
        Options { max_bytes: 64 * 1024, when_full: WhenFull::Block, ..options(Path::new("in memory")) };
    let spool = start(&disk, &tight);
    let total = 100;
    let accepting = async {
        for offset in 0..total {
            accept_here(&spool, "t", offset..=offset, 5000, 1).await.unwrap();
        }
    };
    let delivering = async {
        for offset in 0..total {
            let record = loop {
                match spool.next(&lane("t"), 0).unwrap() {
                    Some(record) => break record,
                    None => tokio::task::yield_now().await,
                }
            };
            assert_eq!(unsettled(&record), [offset]);
            tokio::time::sleep(Duration::from_secs(60)).await;
            spool.settle_all(&lane("t"), record.sequence).unwrap();
        }
    };
    tokio::join!(accepting, delivering);
    // Two of one topic: the second waits for the lock of the first, which waits for space.
    let waiting = async {
        let fill = async |first| {
            for offset in first.. {
                if let Err(why) = accept_here(&spool, "t", offset..=offset, 5000, 1).await {
                    return why;
                }
            }
            unreachable!()
        };
        tokio::join!(fill(1000), fill(2000))
    };
    let closing = async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        spool.close_begins();
    };
    let (refused, ()) = tokio::join!(waiting, closing);
    assert!(matches!(refused, (SpoolError::Closing, SpoolError::Closing)), "{refused:?}");
}
