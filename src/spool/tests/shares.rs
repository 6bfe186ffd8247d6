//! Topics that share a spool that is nearly full.

use std::{path::Path, time::Duration};

use futures_util::FutureExt;

use super::{
    disk::Disk,
    faults::start,
    support::{accept_here, lane, options},
};
use crate::spool::{Options, WhenFull};

const SIZE: usize = 20_000;
const HEALTHY: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

#[tokio::test(start_paused = true)]
async fn segments_are_emptied_now_and_then_for_a_topic_that_waits_for_more_than_its_share() {
    let disk = Disk::default();
    let limits =
        Options { max_bytes: 4 << 20, when_full: WhenFull::Block, ..options(Path::new("in memory")) };
    let spool = start(&disk, &limits);
    let mut offset = 0;
    let mut pass = async |topic: &'static str| {
        // A task that never yields is made to.
        tokio::task::yield_now().await;
        let stored = accept_here(&spool, topic, offset..=offset, SIZE, 1).now_or_never();
        stored.expect("there is room for it").unwrap();
        offset += 1;
        let record = spool.next(&lane(topic), 0).unwrap().unwrap();
        spool.settle_all(&lane(topic), record.sequence).unwrap();
    };
    // One record in ten stays, so all segments are garbage for the most part.
    let mut stuck = 0;
    let mut waiting = loop {
        for topic in HEALTHY {
            pass(topic).await;
        }
        let mut accepting = Box::pin(accept_here(&spool, "stuck", stuck..=stuck, SIZE, 1));
        match accepting.as_mut().now_or_never() {
            Some(stored) => drop(stored.unwrap()),
            None => break accepting,
        }
        stuck += 1;
    };
    for topic in HEALTHY.iter().cycle().take(100) {
        pass(topic).await;
        // It is woken each time, and that is no reason to empty another one.
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    for _ in 0..100 {
        tokio::time::advance(Duration::from_secs(1)).await;
        if let Some(stored) = waiting.as_mut().now_or_never() {
            stored.unwrap();
            return;
        }
    }
    panic!("what was garbage is none for it");
}
