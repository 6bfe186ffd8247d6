//! Order holds with a spool, whatever a batch mixes and wherever a dead letter cannot go.

use std::{
    fs,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;

use super::{letters, messages, offset_of, taken, wait_until};
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink},
};

#[test]
fn a_batch_of_two_partitions_keeps_each_in_order() {
    let fails = AtomicBool::new(true);
    let endpoint = Endpoint::start(move |request| {
        let first = request.body.windows(6).any(|word| word == b"\"p1-0\"");
        if first && fails.swap(false, Relaxed) { Answer::status(503) } else { Answer::status(200) }
    });
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "include_metadata": false, "spool": { "path": folder.path().join("spool") },
    }));
    // Partition 1, and behind it partition 2, whose label the batch has.
    let mixed =
        messages(2, &[(0, "\"p1-0\""), (1, "\"p1-1\""), (2, "\"p1-2\""), (3, "\"p2-3\""), (4, "\"p2-4\"")]);
    assert_eq!(sink.consume(&mixed), 0);
    assert_eq!(sink.consume(&messages(1, &[(3, "\"p1-3\""), (4, "\"p1-4\""), (5, "\"p1-5\"")])), 0);
    assert_eq!(sink.consume(&messages(2, &[(5, "\"p2-5\""), (6, "\"p2-6\"")])), 0);
    let arrived = || taken(&endpoint, |request| String::from_utf8(request.body.clone()).unwrap());
    wait_until("all arrive", || arrived().len() == 10);
    for partition in ["\"p1-", "\"p2-"] {
        let of_it: Vec<String> = arrived().into_iter().filter(|body| body.starts_with(partition)).collect();
        assert!(of_it.is_sorted(), "{of_it:?}");
    }
}

#[test]
fn partitions_go_side_by_side_behind_batches_that_may_be_of_any() {
    const PARTITIONS: u32 = 4;
    let (is_up, together) = (Arc::<AtomicBool>::default(), Barrier::new(PARTITIONS as usize));
    let endpoint = Endpoint::start({
        let is_up = is_up.clone();
        move |request| {
            if !is_up.load(Relaxed) {
                return Answer::status(503);
            }
            if request.body.ends_with(b"-2\"") {
                together.wait();
            }
            Answer::status(200)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "include_metadata": false, "concurrency": PARTITIONS, "retry_delay": "10ms",
        "circuit_breaker": { "cool_down": "50ms" }, "spool": { "path": folder.path().join("spool") },
    }));
    for first in [0, 2, 4] {
        for partition in 1..=PARTITIONS {
            let payloads = [first, first + 1].map(|offset| format!("\"p{partition}-{offset}\""));
            let offsets = [(first, payloads[0].as_str()), (first + 1, payloads[1].as_str())];
            assert_eq!(sink.consume(&messages(partition, &offsets)), 0);
        }
    }
    is_up.store(true, Relaxed);
    let arrived = || taken(&endpoint, |request| String::from_utf8(request.body.clone()).unwrap());
    wait_until("all arrive", || arrived().len() == 24);
    for partition in 1..=PARTITIONS {
        let of_it: Vec<String> =
            arrived().into_iter().filter(|body| body.starts_with(&format!("\"p{partition}-"))).collect();
        assert!(of_it.is_sorted(), "{of_it:?}");
    }
}

#[test]
fn a_partition_goes_on_beside_one_that_is_stuck_also_after_a_restart() {
    let endpoint = Endpoint::start(|request| {
        Answer::status(if request.body.starts_with(b"\"stuck") { 503 } else { 200 })
    });
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "url": endpoint.url(), "include_metadata": false, "retry_delay": "10ms", "max_retry_delay": "50ms",
        "circuit_breaker": { "cool_down": "50ms" }, "spool": { "path": folder.path().join("spool") },
    });
    let good = || taken(&endpoint, |_| ()).len();
    let sink = Sink::open(&config);
    for partition in [1, 2] {
        assert_eq!(sink.consume(&messages(partition, &[(0, "\"good\"")])), 0);
    }
    wait_until("both arrive", || good() == 2);
    assert_eq!(sink.consume(&messages(1, &[(1, "\"stuck\""), (2, "\"behind\"")])), 0);
    assert_eq!(sink.consume(&messages(2, &[(1, "\"good\""), (2, "\"good\"")])), 0);
    wait_until("partition 2 goes on", || good() == 4);
    drop(sink);
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&messages(2, &[(3, "\"good\""), (4, "\"good\"")])), 0);
    wait_until("partition 2 goes on after a restart", || good() == 6);
}

#[test]
fn nothing_overtakes_a_message_whose_dead_letter_cannot_be_written() {
    let endpoint = Endpoint::start(|request| Answer::status(if offset_of(request) == 0 { 403 } else { 200 }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters");
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "spool": { "path": folder.path().join("spool") },
        "dead_letter": { "path": path },
    }));
    // A folder in the place of the file.
    let file = path.join("dead-letters-000001.ndjson");
    fs::create_dir_all(&file).unwrap();
    assert_eq!(sink.consume(&Batch::numbered(4)), 0);
    endpoint.wait_for_requests(2, Duration::from_secs(30));
    assert!(
        endpoint.requests().iter().all(|request| offset_of(request) == 0),
        "1 came before the letter of 0"
    );
    fs::remove_dir(&file).unwrap();
    wait_until("the others arrive", || taken(&endpoint, offset_of).len() == 3);
    assert_eq!((taken(&endpoint, offset_of), letters(&path)), (vec![1, 2, 3], vec![0]));
}

#[test]
fn a_letter_is_on_disk_before_the_next_message_of_its_partition_is_sent() {
    for mode in ["nd_json", "individual"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters");
        let seen = path.clone();
        let endpoint = Endpoint::start(move |request| {
            let body = String::from_utf8_lossy(&request.body);
            if body.contains("bad") {
                return Answer::status(422);
            }
            // Whoever comes behind the bad one, the one that cannot be read and the one that is too large finds their letters.
            let known = if seen.exists() { letters(&seen) } else { Vec::new() };
            let behind = |n: u64| body.contains(&format!("\"n\":{n}"));
            let missing =
                [(2, 1), (4, 3), (6, 5)].iter().any(|(n, before)| behind(*n) && !known.contains(before));
            Answer::status(if missing { 418 } else { 200 })
        });
        let sink = Sink::open(&json!({
            "url": endpoint.url(), "batch_mode": mode, "include_metadata": false, "max_batch_messages": 2,
            "max_payload_size_bytes": 64, "dead_letter": { "path": path },
        }));
        let large = format!("{{\"n\":5,\"x\":\"{}\"}}", "x".repeat(100));
        let payloads =
            ["{\"n\":0}", "{\"n\":1,\"bad\":1}", "{\"n\":2}", "no json", "{\"n\":4}", &large, "{\"n\":6}"];
        let batch: Vec<(u64, &str)> = (0..).zip(payloads).collect();
        assert_eq!(sink.consume(&messages(1, &batch)), 0, "{mode}");
        assert_eq!(letters(&path), [1, 3, 5], "{mode}");
    }
}
