//! How many requests are on their way at once, and what waits for what.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    config::config,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, failures, plugin},
};

/// The number of the one message in a body.
fn number(request: &Request) -> u64 {
    serde_json::from_slice::<Value>(&request.body).unwrap()["n"].as_u64().unwrap()
}

/// The messages that were taken, of which none was taken twice.
#[track_caller]
fn taken_once(endpoint: &Endpoint) -> BTreeSet<u64> {
    let exchanges = endpoint.exchanges();
    let taken: Vec<u64> = exchanges
        .iter()
        .filter(|exchange| exchange.is_success())
        .map(|exchange| number(&exchange.request))
        .collect();
    let once: BTreeSet<u64> = taken.iter().copied().collect();
    assert_eq!(once.len(), taken.len(), "none is taken twice");
    once
}

fn answering_after(delay: Duration) -> impl Fn(&Request) -> Answer {
    move |_| Answer::status(200).after(delay)
}

const LATENCY: Duration = Duration::from_millis(10);

#[test]
fn a_fixed_number_of_requests_is_reached_and_never_exceeded() {
    for mode in ["individual", "raw", "nd_json", "json_array"] {
        for concurrency in [1, 3, 16] {
            let endpoint = Endpoint::start(answering_after(2 * LATENCY));
            let more = json!({
                "batch_mode": mode, "max_batch_messages": 1, "concurrency": concurrency, "ordering": "none",
            });
            let sink = Sink::open(&config(&endpoint.url(), more));
            assert_eq!(sink.consume(&Batch::numbered(10 * concurrency)), 0, "{mode}");
            assert_eq!(endpoint.requests().len() as u64, 10 * concurrency, "{mode}");
            assert_eq!(endpoint.max_in_flight() as u64, concurrency, "{mode}");
            // An answer frees its slot a moment before its connection is back in the pool, so that the next request
            // may open one more: connections are used again, ten requests each and more, but are not counted out.
            assert!(
                endpoint.connections() as u64 <= 2 * concurrency,
                "{mode}: {} connections",
                endpoint.connections()
            );
        }
    }
}

#[test]
fn all_calls_of_a_connector_share_its_number_of_requests() {
    let endpoint = Endpoint::start(answering_after(LATENCY));
    let sink = Sink::open(&config(&endpoint.url(), json!({ "concurrency": 4 })));
    thread::scope(|scope| {
        for partition in 0..12 {
            let sink = &sink;
            scope.spawn(move || {
                let mut batch = Batch::numbered(10);
                batch.partition_id = partition;
                assert_eq!(sink.consume(&batch), 0);
            });
        }
    });
    assert_eq!(endpoint.requests().len(), 120);
    assert_eq!(endpoint.max_in_flight(), 4);
}

#[test]
fn a_partition_in_order_has_one_request_on_its_way_whatever_the_concurrency() {
    for concurrency in [json!(16), json!("adaptive")] {
        for mode in ["individual", "nd_json"] {
            let endpoint = Endpoint::start(answering_after(Duration::from_millis(2)));
            let more = json!({ "batch_mode": mode, "max_batch_messages": 1, "concurrency": concurrency });
            let sink = Sink::open(&config(&endpoint.url(), more));
            // Two calls with the same partition take turns.
            thread::scope(|scope| {
                for call in 0..2 {
                    let sink = &sink;
                    scope.spawn(move || {
                        assert_eq!(sink.consume(&Batch::numbered(40).from_offset(call * 40)), 0);
                    });
                }
            });
            assert_eq!(endpoint.requests().len(), 80);
            assert_eq!(endpoint.max_in_flight(), 1, "{mode}");
        }
    }
}

#[test]
fn partitions_go_side_by_side() {
    let endpoint = Endpoint::start(answering_after(LATENCY));
    let sink = Sink::open(&config(&endpoint.url(), json!({ "concurrency": 8 })));
    thread::scope(|scope| {
        for partition in 0..8 {
            let sink = &sink;
            scope.spawn(move || {
                let mut batch = Batch::numbered(30);
                batch.partition_id = partition;
                assert_eq!(sink.consume(&batch), 0);
            });
        }
    });
    assert_eq!(endpoint.requests().len(), 240);
    assert!(endpoint.max_in_flight() > 1, "{}", endpoint.max_in_flight());
    assert!(endpoint.max_in_flight() <= 8, "{}", endpoint.max_in_flight());
}

#[test]
fn keys_go_side_by_side_and_each_alone() {
    let in_flight: Arc<[AtomicUsize; 10]> = Arc::default();
    let endpoint = Endpoint::start({
        let in_flight = in_flight.clone();
        move |request| {
            let key = usize::try_from(number(request) % 10).unwrap();
            assert_eq!(in_flight[key].fetch_add(1, SeqCst), 0, "key {key}");
            thread::sleep(Duration::from_millis(2));
            in_flight[key].fetch_sub(1, SeqCst);
            Answer::status(200)
        }
    });
    let more = json!({ "concurrency": 6, "ordering": "key", "ordering_key": "{payload:/k}" });
    let sink = Sink::open(&config(&endpoint.url(), more));
    let payloads = (0..200).map(|n| json!({ "n": n, "k": n % 10 }).to_string());
    assert_eq!(sink.consume(&Batch::of(iggy_connector_sdk::Schema::Json, payloads)), 0);
    assert_eq!(taken_once(&endpoint).len(), 200);
    assert!((2..=6).contains(&endpoint.max_in_flight()), "{}", endpoint.max_in_flight());
}

#[test]
fn single_messages_side_by_side_hide_the_latency_of_the_endpoint() {
    // So slow that a machine with other tests to run can have all in flight within one answer.
    let endpoint = Endpoint::start(answering_after(20 * LATENCY));
    let more = json!({ "concurrency": 64, "ordering": "none" });
    let sink = Sink::open(&config(&endpoint.url(), more));
    assert_eq!(sink.consume(&Batch::numbered(640)), 0);
    assert_eq!(endpoint.requests().len(), 640);
    // A request whose connection is still being made takes one that became free meanwhile, and its own goes to the pool.
    assert!(endpoint.connections() < 2 * 64, "{} connections", endpoint.connections());
    assert!((48..=64).contains(&endpoint.max_in_flight()), "{}", endpoint.max_in_flight());
}

#[test]
fn adaptive_concurrency_grows_where_the_endpoint_takes_it() {
    let endpoint = Endpoint::start(answering_after(LATENCY));
    let more = json!({
        "concurrency": "adaptive", "max_concurrency": 64, "ordering": "none", "max_connections": 64,
    });
    let sink = Sink::open(&config(&endpoint.url(), more));
    let began = Instant::now();
    let mut sent = 0;
    while endpoint.max_in_flight() < 32 {
        assert!(began.elapsed() < Duration::from_secs(30), "{} at most", endpoint.max_in_flight());
        assert_eq!(sink.consume(&Batch::numbered(1000).from_offset(sent)), 0);
        sent += 1000;
    }
    assert!(endpoint.max_in_flight() <= 64, "{}", endpoint.max_in_flight());
    assert_eq!(endpoint.requests().len() as u64, sent);
}

#[test]
fn adaptive_concurrency_gives_way_where_the_endpoint_refuses() {
    for status in [429, 503] {
        let under_way = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let endpoint = Endpoint::start({
            let refused = refused.clone();
            move |_| {
                let beside = under_way.fetch_add(1, SeqCst);
                let answer = if beside < 4 {
                    thread::sleep(Duration::from_millis(5));
                    Answer::status(200)
                } else {
                    refused.fetch_add(1, SeqCst);
                    Answer::status(status)
                };
                under_way.fetch_sub(1, SeqCst);
                answer
            }
        });
        let more = json!({
            "concurrency": "adaptive", "max_concurrency": 64, "ordering": "none",
            "retry_delay": "10ms", "max_retry_delay": "100ms", "max_retries": 50,
        });
        let sink = Sink::open(&config(&endpoint.url(), more));
        let stream = format!("gives-way-{status}");
        assert_eq!(sink.consume(&Batch::numbered(1500).from_stream(&stream)), 0, "{:?}", failures(&stream));
        assert_eq!(taken_once(&endpoint).len(), 1500);
        // Without giving way, nearly each of the 64 would be refused again and again.
        let refused = refused.load(SeqCst);
        println!("{refused} refused with {status}");
        assert!(refused > 0, "the limit was found");
        assert!(refused < 750, "{refused} refused of 1500");
    }
}

#[test]
fn no_slot_is_held_while_a_retry_waits() {
    for mode in ["individual", "raw"] {
        let endpoint = Endpoint::start(|request| Answer::status(if request.index == 0 { 503 } else { 200 }));
        let more = json!({
            "batch_mode": mode, "concurrency": 1, "ordering": "none", "retry_jitter": "none",
            "retry_delay": "2s", "max_retry_delay": "2s",
        });
        let sink = Sink::open(&config(&endpoint.url(), more));
        assert_eq!(sink.consume(&Batch::numbered(10)), 0);
        assert_eq!(endpoint.max_in_flight(), 1);
        let order: Vec<u64> = endpoint.requests().iter().map(number).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0], "{mode}: the others go while the first waits");
    }
}

#[test]
fn no_slot_is_held_while_a_partition_waits_for_its_retry() {
    let endpoint = Endpoint::start(|request| Answer::status(if request.index == 0 { 503 } else { 200 }));
    let more = json!({
        "concurrency": 1, "retry_jitter": "none", "retry_delay": "2s", "max_retry_delay": "2s",
    });
    let sink = Sink::open(&config(&endpoint.url(), more));
    thread::scope(|scope| {
        let first = scope.spawn(|| sink.consume(&Batch::numbered(3)));
        endpoint.wait_for_requests(1, Duration::from_secs(10));
        let mut other = Batch::numbered(3).from_stream("other-partition");
        other.partition_id = 2;
        assert_eq!(sink.consume(&other), 0);
        // All of the other partition is there, and of the first nothing more.
        assert_eq!(endpoint.requests().len(), 4);
        assert_eq!(first.join().unwrap(), 0);
    });
    assert_eq!(endpoint.requests().len(), 7);
    assert_eq!(endpoint.max_in_flight(), 1);
}

#[test]
fn a_dead_endpoint_delays_only_its_own_connector() {
    let (slow, quick) = (Endpoint::start(|_| Answer::stall()), Endpoint::answering(200));
    let dead = Sink::open(&config(&slow.url(), json!({ "max_retries": 0, "close_timeout": "50ms" })));
    let live = Sink::open(&config(&quick.url(), json!({})));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| dead.consume(&Batch::numbered(1).from_stream("dead-neighbour")));
        slow.wait_for_requests(1, Duration::from_secs(10));
        assert_eq!(live.consume(&Batch::numbered(100)), 0);
        assert!(!waiting.is_finished());
        assert_eq!(plugin().close(dead.id), 0);
        assert_eq!(waiting.join().unwrap(), 1);
    });
    assert_eq!(quick.requests().len(), 100);
}

#[test]
fn messages_of_many_calls_are_each_settled_once() {
    let endpoint = Endpoint::start(|request| {
        Answer::status(if number(request).is_multiple_of(7) && request.header("x-retry-count").is_none() {
            503
        } else if number(request).is_multiple_of(11) {
            404
        } else {
            200
        })
    });
    let more = json!({ "concurrency": "adaptive", "ordering": "none" });
    let sink = Sink::open(&config(&endpoint.url(), more));
    thread::scope(|scope| {
        for call in 0..16_u64 {
            let sink = &sink;
            scope.spawn(move || {
                let payloads = (call * 50..call * 50 + 50).map(|n| format!("{{\"n\":{n}}}"));
                let batch = Batch::of(iggy_connector_sdk::Schema::Json, payloads).from_offset(call * 50);
                assert_eq!(sink.consume(&batch.from_stream(&format!("many-calls-{call}"))), 1);
            });
        }
    });
    // Those that were not told at once are told by close.
    assert_eq!(sink.close(), 0);
    let taken = taken_once(&endpoint);
    let failed: BTreeMap<u64, String> =
        (0..16).flat_map(|call| failures(&format!("many-calls-{call}")).reasons).collect();
    let expected: BTreeSet<u64> = (0..800).filter(|n| n % 11 == 0).collect();
    assert_eq!(failed.keys().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(taken, (0..800).filter(|n| n % 11 != 0).collect());
}
