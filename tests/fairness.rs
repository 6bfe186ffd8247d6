//! One message that the endpoint refuses delays its own lane alone: with the shipped breaker, through the built plugin.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, logged},
};

/// Messages of the healthy topic.
const HEALTHY: u64 = 20;
/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// The shipped defaults but for these keys, with a spool or without.
fn config(endpoint: &Endpoint, folder: &TempDir, spool: bool, more: &Value) -> Value {
    let mut config = with(
        json!({ "url": endpoint.url(), "close_timeout": "1s", "circuit_breaker": { "cool_down": "300ms" } }),
        more.clone(),
    );
    if spool {
        config["spool"] = json!({ "path": folder.path().join("spool") });
    } else {
        // Without a spool the stuck message ends after its retries, so that it is given more of them.
        config["max_retries"] = json!(1_000_000);
    }
    config
}

fn topic_of(request: &Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["metadata"]["iggy_topic"].as_str().unwrap().to_owned()
}

/// How long each healthy message waited, in order of length, beside one that the endpoint `refuses` for ever.
fn waits(refuses: fn() -> Answer, spool: bool, more: &Value) -> Vec<Duration> {
    let endpoint =
        Endpoint::start(
            move |request| {
                if topic_of(request) == "stuck" { refuses() } else { Answer::status(200) }
            },
        );
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::open(&config(&endpoint, &folder, spool, more));
    let arrived = || endpoint.requests().iter().filter(|request| topic_of(request) == "healthy").count();
    let mut waits = thread::scope(|scope| {
        let stuck = scope.spawn(|| sink.consume(&Batch::numbered(1).from_topic("stuck")));
        // By now it is what a probe would be.
        endpoint.wait_for_requests(6, SOON);
        let waits: Vec<Duration> = (0..HEALTHY)
            .map(|n| {
                let began = Instant::now();
                let batch = Batch::numbered(1).from_topic("healthy").from_offset(n);
                assert_eq!(sink.consume(&batch), 0);
                while arrived() <= usize::try_from(n).unwrap() {
                    assert!(began.elapsed() < SOON, "message {n} of the healthy topic does not arrive");
                    thread::sleep(Duration::from_millis(1));
                }
                began.elapsed()
            })
            .collect();
        crate::support::plugin::plugin().close(sink.id);
        stuck.join().unwrap();
        waits
    });
    waits.sort();
    waits
}

fn each_way(refuses: fn() -> Answer, more: &Value, median: Duration, most: Duration) {
    for spool in [false, true] {
        for concurrency in [1, 8] {
            let more = with(more.clone(), json!({ "concurrency": concurrency }));
            let waits = waits(refuses, spool, &more);
            let case = format!("spool {spool}, concurrency {concurrency}: {waits:?}");
            assert!(waits[waits.len() / 2] <= median, "{case}");
            assert!(waits[waits.len() - 1] <= most, "{case}");
        }
    }
}

#[test]
fn a_message_that_always_fails_does_not_delay_another_topic() {
    let more = json!({ "retry_delay": "10ms", "max_retry_delay": "100ms" });
    each_way(|| Answer::status(500), &more, Duration::from_millis(300), Duration::from_secs(2));
}

#[test]
fn a_message_that_always_asks_for_a_pause_delays_another_topic_by_that_pause_at_most() {
    let more = json!({ "retry_delay": "10ms", "max_retry_after": "200ms" });
    let busy = || Answer::status(429).header("Retry-After", "1");
    each_way(busy, &more, Duration::from_millis(400), Duration::from_secs(2));
}

/// How many requests were under way, the median over the arrivals of the second half of the messages that the endpoint takes:
/// it refuses one in `refused` for ever.
fn under_way_beside(refused: u64, spool: bool) -> usize {
    let in_flight = AtomicUsize::new(0);
    let seen = Arc::<Mutex<Vec<usize>>>::default();
    let endpoint = Endpoint::start({
        let seen = seen.clone();
        move |request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let under_way = in_flight.fetch_add(1, SeqCst) + 1;
            // Here, so that the answer goes out at once.
            thread::sleep(Duration::from_millis(20));
            in_flight.fetch_sub(1, SeqCst);
            if body["payload"]["n"].as_u64().unwrap().is_multiple_of(refused) {
                return Answer::status(503);
            }
            seen.lock().unwrap().push(under_way);
            Answer::status(200)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let more = json!({
        "ordering": "none", "concurrency": "adaptive", "max_concurrency": 16, "retry_delay": "100ms", "max_retry_delay": "1s",
    });
    let sink = Sink::open(&config(&endpoint, &folder, spool, &more));
    let (messages, began) = (1_500_u64, Instant::now());
    let taken = usize::try_from(messages - messages.div_ceil(refused)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| sink.consume(&Batch::numbered(messages)));
        while seen.lock().unwrap().len() < taken {
            assert!(began.elapsed() < SOON, "{} of {taken} arrived", seen.lock().unwrap().len());
            thread::sleep(Duration::from_millis(5));
        }
        crate::support::plugin::plugin().close(sink.id);
    });
    let mut seen = seen.lock().unwrap().split_off(taken / 2);
    seen.sort_unstable();
    seen[seen.len() / 2]
}

#[test]
fn messages_that_always_fail_do_not_lower_the_adaptive_limit_of_the_others() {
    for spool in [false, true] {
        let under_way = under_way_beside(50, spool);
        assert!(under_way >= 10, "spool {spool}: {under_way} of 16 under way");
    }
}

#[test]
fn a_breaker_that_one_lane_has_opened_lets_another_through_at_once() {
    let endpoint =
        Endpoint::start(|request| Answer::status(if topic_of(request) == "stuck" { 500 } else { 200 }));
    // The lane that failed is the next probe in a minute.
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "retry_delay": "1m", "max_retry_delay": "1m", "retry_jitter": "none",
        "close_timeout": "1s", "circuit_breaker": { "failure_threshold": 1, "cool_down": "1h" },
    }));
    thread::scope(|scope| {
        let stuck = scope.spawn(|| sink.consume(&Batch::numbered(1).from_topic("stuck")));
        let keeps_failing = format!("{} keeps failing", endpoint.origin());
        let asked = Instant::now();
        while logged(&keeps_failing).is_empty() && asked.elapsed() < SOON {
            thread::sleep(Duration::from_millis(1));
        }
        let began = Instant::now();
        assert_eq!(sink.consume(&Batch::numbered(1).from_topic("healthy")), 0);
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        crate::support::plugin::plugin().close(sink.id);
        stuck.join().unwrap();
    });
}
