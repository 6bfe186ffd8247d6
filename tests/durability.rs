//! With a spool: what consume took is delivered, whatever happens in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    endpoint::{Answer, Endpoint, refused_url},
    plugin::{Sink, logged},
    spooled::{config, held, letters, numbered, numbers, taken, wait_until},
};

#[test]
fn consume_returns_while_the_endpoint_is_away_and_all_arrives_in_order_once_it_is_there() {
    for mode in ["individual", "nd_json"] {
        let folder = TempDir::new().unwrap();
        let there = Arc::new(AtomicBool::new(false));
        let endpoint = Endpoint::start({
            let there = there.clone();
            move |_| Answer::status(if there.load(SeqCst) { 200 } else { 503 })
        });
        let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({ "batch_mode": mode })));
        for batch in 0..5 {
            assert_eq!(sink.consume(&numbered(batch * 10..batch * 10 + 10)), 0, "{mode}");
        }
        wait_until("a request", || !endpoint.requests().is_empty());
        assert_eq!(held(folder.path()), 50, "{mode}");
        there.store(true, SeqCst);
        wait_until("delivery", || held(folder.path()) == 0);
        assert_eq!(taken(&endpoint), (0..50).collect::<Vec<_>>(), "{mode}");
        assert_eq!(sink.close(), 0);
    }
}

#[test]
fn close_keeps_what_is_not_delivered_and_the_next_open_delivers_it_elsewhere_and_otherwise() {
    let folder = TempDir::new().unwrap();
    let sink = Sink::open(&config(&refused_url(), folder.path(), json!({})));
    assert_eq!(sink.consume(&numbered(0..100)), 0);
    let began = Instant::now();
    assert_eq!(sink.close(), 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(held(folder.path()), 100);

    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({ "batch_mode": "nd_json" })));
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(endpoint.requests().len(), 1);
    assert_eq!(taken(&endpoint), (0..100).collect::<Vec<_>>());
    assert_eq!(sink.close(), 0);
    assert_eq!(letters(folder.path()), []);
}

#[test]
fn a_record_that_is_delivered_in_part_goes_on_there_and_bodies_come_out_the_same() {
    let folder = TempDir::new().unwrap();
    let modes = json!({ "batch_mode": "nd_json", "max_batch_messages": 7 });
    // The third body and all later ones wait until the connector is closed.
    let endpoint =
        Endpoint::start(|request| if request.index < 2 { Answer::status(200) } else { Answer::status(503) });
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), modes.clone()));
    assert_eq!(sink.consume(&numbered(0..30)), 0);
    wait_until("two bodies", || held(folder.path()) == 16);
    assert_eq!(sink.close(), 0);
    let key_of_third = endpoint.requests()[2].header("idempotency-key").unwrap().to_owned();

    let later = Endpoint::answering(200);
    let sink = Sink::open(&config(&later.url(), folder.path(), modes));
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    let bodies: Vec<Vec<u64>> = later.requests().iter().map(numbers).collect();
    assert_eq!(bodies, [(14..21).collect::<Vec<_>>(), (21..28).collect(), (28..30).collect()]);
    assert_eq!(later.requests()[0].header("idempotency-key"), Some(key_of_third.as_str()));
}

#[test]
fn messages_that_were_stored_before_are_not_stored_again_and_a_topic_made_anew_is_not_mistaken_for_them() {
    let folder = TempDir::new().unwrap();
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    assert_eq!(sink.consume(&numbered(0..10)), 0);
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);

    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    assert_eq!(sink.consume(&numbered(5..15)), 0);
    // The same offsets, but other messages.
    let mut anew = numbered(0..10);
    for message in &mut anew.messages {
        message.id += 1000;
        message.timestamp += 1_000_000;
    }
    assert_eq!(sink.consume(&anew), 0);
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    assert_eq!(taken(&endpoint), (0..15).chain(0..10).collect::<Vec<_>>());
}

#[test]
fn a_replay_is_stored_and_delivered_again_and_the_last_batch_that_comes_again_is_not() {
    for delivered in [true, false] {
        let folder = TempDir::new().unwrap();
        let there = Arc::new(AtomicBool::new(delivered));
        let endpoint = Endpoint::start({
            let there = there.clone();
            move |_| Answer::status(if there.load(SeqCst) { 200 } else { 503 })
        });
        let config = config(&endpoint.url(), folder.path(), json!({}));
        let sink = Sink::open(&config);
        for first in (0..100).step_by(10) {
            assert_eq!(sink.consume(&numbered(first..first + 10)), 0);
        }
        if delivered {
            wait_until("delivery", || held(folder.path()) == 0);
        }
        assert_eq!(sink.close(), 0);

        // What a host does that had no time to note that the last batch was stored; cut as it comes.
        let sink = Sink::open(&config);
        assert_eq!(sink.consume(&numbered(90..94)), 0);
        assert_eq!(sink.consume(&numbered(94..105)), 0);
        assert_eq!(sink.consume(&numbered(94..105)), 0);
        assert_eq!(sink.close(), 0);

        // What a host does that replays, in batches of another size.
        let sink = Sink::open(&config);
        for first in (0..105).step_by(7) {
            assert_eq!(sink.consume(&numbered(first..first + 7)), 0);
        }
        there.store(true, SeqCst);
        wait_until("delivery", || held(folder.path()) == 0);
        assert_eq!(sink.close(), 0);
        assert_eq!(taken(&endpoint), (0..105).chain(0..105).collect::<Vec<_>>(), "delivered: {delivered}");
    }
}

#[test]
fn a_partition_that_is_stuck_holds_back_no_other() {
    let folder = TempDir::new().unwrap();
    let endpoint = Endpoint::start(|request| {
        let stuck = numbers(request).iter().any(|n| *n < 1000);
        Answer::status(if stuck { 503 } else { 200 })
    });
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({ "retry_delay": "5ms" })));
    assert_eq!(sink.consume(&numbered(0..10).from_topic("stuck")), 0);
    assert_eq!(sink.consume(&numbered(1000..1100).from_topic("sound")), 0);
    wait_until("delivery", || held(folder.path()) == 10);
    assert_eq!(taken(&endpoint), (1000..1100).collect::<Vec<_>>());
    assert_eq!(sink.close(), 0);
}

#[test]
fn what_is_refused_for_good_is_a_dead_letter_and_leaves_the_spool() {
    let folder = TempDir::new().unwrap();
    let endpoint =
        Endpoint::start(|request| Answer::status(if numbers(request).contains(&3) { 400 } else { 200 }));
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({ "batch_mode": "nd_json" })));
    let mut batch = numbered(0..8);
    batch.messages[5].payload = b"{".to_vec();
    assert_eq!(sink.consume(&batch), 0);
    wait_until("settlement", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    let mut letters = letters(folder.path());
    letters.sort();
    assert_eq!(letters, [(3, "rejected".to_owned()), (5, "undecodable".to_owned())]);
    let mut taken = taken(&endpoint);
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 4, 6, 7]);
}

#[test]
fn letters_that_cannot_be_kept_stay_in_the_spool() {
    let folder = TempDir::new().unwrap();
    let endpoint = Endpoint::answering(400);
    // Room for no letter at all.
    let full = json!({ "dead_letter": { "path": folder.path().join("dead-letters"), "max_bytes": 10 } });
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), full));
    let stream = "letters-that-cannot-be-kept";
    assert_eq!(sink.consume(&numbered(0..3).from_stream(stream)), 0);
    wait_until("a word about it", || logged(stream).iter().any(|line| line.contains("stay in the spool")));
    assert_eq!(held(folder.path()), 3);
    assert_eq!(sink.close(), 0);

    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    wait_until("settlement", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    assert_eq!(letters(folder.path()).len(), 3);
}

#[test]
fn a_spool_has_one_owner() {
    let folder = TempDir::new().unwrap();
    let config = config(&refused_url(), folder.path(), json!({ "dead_letter": null }));
    let first = Sink::open(&config);
    assert_eq!(Sink::try_open(&config).unwrap_err(), 1);
    let path = folder.path().join("spool");
    let told = logged(&format!("the spool {} is in use", path.display()));
    assert!(told[0].contains("one connector"), "{told:?}");
    drop(first);
    drop(Sink::open(&config));
}

#[test]
fn a_configuration_without_the_spool_that_still_holds_messages_does_not_open() {
    let folder = TempDir::new().unwrap();
    let spooled = config(&refused_url(), folder.path(), json!({}));
    let sink = Sink::open(&spooled);
    assert_eq!(sink.consume(&numbered(0..10)), 0);
    drop(sink);

    let endpoint = Endpoint::answering(200);
    let without = config(&endpoint.url(), folder.path(), json!({ "spool": null }));
    assert_eq!(Sink::try_open(&without).unwrap_err(), 1);
    let told = logged(&folder.path().join("spool").display().to_string());
    assert!(told.iter().any(|line| line.contains("still holds messages")), "{told:?}");

    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    wait_until("delivery", || held(folder.path()) == 0);
    drop(sink);
    drop(Sink::open(&without));
}

#[test]
fn without_an_order_many_records_are_under_way_at_once() {
    let folder = TempDir::new().unwrap();
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(20)));
    let side_by_side = json!({ "batch_mode": "nd_json", "ordering": "none", "concurrency": 8 });
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), side_by_side));
    for batch in 0..40 {
        assert_eq!(sink.consume(&numbered(batch * 5..batch * 5 + 5)), 0);
    }
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    assert!((4..=8).contains(&endpoint.max_in_flight()), "{}", endpoint.max_in_flight());
    let mut taken = taken(&endpoint);
    taken.sort_unstable();
    assert_eq!(taken, (0..200).collect::<Vec<_>>());
}

#[test]
fn what_was_written_shortly_before_is_there_after_a_reopen_with_sync_by_interval() {
    let folder = TempDir::new().unwrap();
    let spool = json!({ "path": folder.path().join("spool"), "sync": "100ms" });
    let sink = Sink::open(&config(&refused_url(), folder.path(), json!({ "spool": spool })));
    assert_eq!(sink.consume(&numbered(0..10)), 0);
    drop(sink);
    assert_eq!(held(folder.path()), 10);
}

#[test]
fn the_deadline_does_not_run_while_nobody_delivers() {
    let folder = TempDir::new().unwrap();
    let patient = json!({ "max_retry_duration": "1s", "max_retry_delay": "5ms" });
    let sink = Sink::open(&config(&refused_url(), folder.path(), patient.clone()));
    assert_eq!(sink.consume(&numbered(0..3)), 0);
    assert_eq!(sink.close(), 0);
    thread::sleep(Duration::from_millis(1200));

    let endpoint = Endpoint::start(|request| Answer::status(if request.index < 4 { 503 } else { 200 }));
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), patient));
    wait_until("delivery", || held(folder.path()) == 0);
    assert_eq!(sink.close(), 0);
    assert_eq!((taken(&endpoint), letters(folder.path())), (vec![0, 1, 2], vec![]));
}
