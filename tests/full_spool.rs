//! A spool that is full, or would be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::spool;
use iggy_connector_sdk::Schema;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    endpoint::{Answer, Endpoint, refused_url},
    plugin::{Batch, Sink},
    spooled::{SOON, config, held, letters, taken, wait_until},
};

#[test]
fn a_full_spool_lets_consume_wait_until_there_is_room() {
    let folder = TempDir::new().unwrap();
    let there = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::start({
        let there = there.clone();
        move |_| Answer::status(if there.load(SeqCst) { 200 } else { 503 })
    });
    let small = json!({ "spool": { "path": folder.path().join("spool"), "max_bytes": "4 MiB" } });
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), small));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..12 {
                assert_eq!(sink.consume(&large(number)), 0);
            }
            done.store(true, SeqCst);
        });
        // Three fit, or seven: the fourth MiB of the spool is full before the twelfth batch.
        wait_until("a full spool", || spool::status(&folder.path().join("spool")).unwrap().bytes > 3 << 20);
        assert!(!done.load(SeqCst));
        there.store(true, SeqCst);
    });
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    assert_eq!(taken(&endpoint), (0..12).collect::<Vec<_>>());
}

/// One message of half a megabyte.
fn large(n: u64) -> Batch {
    let payload = format!("{{\"n\":{n},\"more\":\"{}\"}}", "x".repeat(500_000));
    Batch::of(Schema::Json, [payload]).from_offset(n)
}

#[test]
fn a_stuck_topic_that_fills_the_spool_holds_back_no_other() {
    let folder = TempDir::new().unwrap();
    let there = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::start({
        let there = there.clone();
        move |request| {
            let stuck = request.body.starts_with(b"{\"n\":1000");
            Answer::status(if stuck && !there.load(SeqCst) { 503 } else { 200 })
        }
    });
    let small = json!({ "spool": { "path": folder.path().join("spool"), "max_bytes": "16 MiB" } });
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), small));
    let stuck = AtomicBool::new(true);
    thread::scope(|scope| {
        for topic in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
            assert_eq!(sink.consume(&large(0).from_topic(topic)), 0);
        }
        scope.spawn(|| {
            for number in 0..60 {
                assert_eq!(sink.consume(&large(1000 + number).from_topic("stuck")), 0);
            }
            stuck.store(false, SeqCst);
        });
        let full = || spool::status(&folder.path().join("spool")).unwrap().bytes > 11 << 20;
        wait_until("a spool three quarters full", full);
        let others: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
            .into_iter()
            .map(|topic| {
                let sink = &sink;
                scope.spawn(move || {
                    (1..8).for_each(|number| assert_eq!(sink.consume(&large(number).from_topic(topic)), 0));
                })
            })
            .collect();
        let began = Instant::now();
        let done = || others.iter().all(thread::ScopedJoinHandle::is_finished);
        while !done() && began.elapsed() < SOON {
            thread::sleep(Duration::from_millis(2));
        }
        let (done, stuck) = (done(), stuck.load(SeqCst));
        // Nobody is to wait when this fails.
        there.store(true, SeqCst);
        assert!(done && stuck, "others are done: {done}");
    });
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    assert_eq!(taken(&endpoint).len(), 60 + 9 * 8);
}

#[test]
fn a_full_spool_puts_batches_to_the_dead_letters_where_that_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let spool =
        json!({ "path": folder.path().join("spool"), "max_bytes": "4 MiB", "when_full": "dead_letter" });
    let config = config(&refused_url(), folder.path(), json!({ "spool": spool }));
    let sink = Sink::open(&config);
    for number in 0..12 {
        assert_eq!(sink.consume(&large(number)), 0);
    }
    assert_eq!(sink.close(), 0);
    let letters = letters(folder.path());
    assert!(!letters.is_empty());
    assert_eq!(letters.len() as u64 + held(folder.path()), 12);
    assert!(letters.iter().all(|(_, reason)| reason == "not_stored"), "{letters:?}");
}

#[test]
fn a_close_ends_the_wait_for_room_and_nothing_is_acknowledged_that_is_not_stored() {
    let folder = TempDir::new().unwrap();
    let small = json!({ "spool": { "path": folder.path().join("spool"), "max_bytes": "4 MiB" } });
    let sink = Sink::open(&config(&refused_url(), folder.path(), small));
    let id = sink.id;
    thread::scope(|scope| {
        let consuming =
            scope.spawn(|| (0..12).take_while(|number| sink.consume(&large(*number)) == 0).count());
        wait_until("a full spool", || spool::status(&folder.path().join("spool")).unwrap().bytes > 3 << 20);
        assert_eq!(crate::support::plugin::plugin().close(id), 0);
        let taken = consuming.join().unwrap();
        assert!(taken < 12);
        assert_eq!(held(folder.path()), taken as u64);
    });
}
