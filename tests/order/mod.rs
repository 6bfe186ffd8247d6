//! Order per partition and per key, under delays and faults.

mod script;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, failures},
    random::dice,
};

/// A configuration with so many quick retries that all messages arrive in the end.
fn config(url: &str, more: Value) -> Value {
    let stubborn = json!({
        "max_retry_delay": "3ms",
        "max_retries": 100,
        "timeout": "10s",
        "circuit_breaker": { "failure_threshold": 10, "cool_down": "2ms" },
    });
    crate::support::config::config(url, with(stubborn, more))
}

/// The messages in a body of any mode: their lane, and their place in it.
fn messages(body: &[u8]) -> Vec<(u64, u64)> {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>().map(Result::unwrap);
    let values = values.flat_map(|value| match value {
        Value::Array(values) => values,
        value => vec![value],
    });
    values.map(|value| (value["key"].as_u64().unwrap(), value["n"].as_u64().unwrap())).collect()
}

fn message(key: u64, n: u64) -> String {
    format!("{{\"key\":{key},\"n\":{n}}}")
}

/// Counts how often each body came, so that what becomes of a request depends on nothing but itself.
#[derive(Default)]
struct Attempts(Mutex<HashMap<Vec<u8>, u64>>);

impl Attempts {
    fn of(&self, request: &Request) -> u64 {
        let mut attempts = self.0.lock().unwrap();
        let attempt = attempts.entry(request.body.clone()).or_default();
        *attempt += 1;
        *attempt
    }
}

/// Random delays, and every fault that does not lose an answer.
fn unsteady(seed: u64) -> impl Fn(&Request) -> Answer {
    let attempts = Attempts::default();
    move |request| {
        let attempt = attempts.of(request);
        let messages = messages(&request.body);
        let throw = dice(seed, messages[0].0 * 1_000_003 + messages[0].1 * 1009 + attempt);
        let answer = Answer::status(200).after(Duration::from_millis(throw / 100 % 5));
        match throw % 16 {
            0 => Answer::status(503).after(Duration::from_millis(3)),
            1 => Answer::status(500),
            2 => Answer::reset(),
            3 => Answer::hang_up(),
            4 => answer.closing(),
            5 if messages.len() > 3 => Answer::status(413),
            6 => Answer::status(429).header("Retry-After", "0"),
            _ => answer,
        }
    }
}

/// What was taken of each lane, in the order in which the endpoint took it.
fn taken(endpoint: &Endpoint) -> BTreeMap<u64, Vec<u64>> {
    let mut exchanges = endpoint.exchanges();
    exchanges.retain(crate::support::endpoint::Exchange::is_success);
    exchanges.sort_by_key(|exchange| exchange.answered);
    let mut lanes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (key, n) in exchanges.iter().flat_map(|exchange| messages(&exchange.request.body)) {
        lanes.entry(key).or_default().push(n);
    }
    lanes
}

#[track_caller]
fn assert_whole_and_in_order(endpoint: &Endpoint, lanes: u64, length: u64) {
    let taken = taken(endpoint);
    assert_eq!(taken.len() as u64, lanes);
    for (key, lane) in taken {
        assert_eq!(lane, (0..length).collect::<Vec<_>>(), "lane {key}");
    }
}

#[test]
fn twenty_partitions_side_by_side_are_each_in_order() {
    for (seed, mode) in (0..).zip(["individual", "nd_json", "json_array", "raw"]) {
        let endpoint = Endpoint::start(unsteady(seed));
        let more = json!({ "batch_mode": mode, "concurrency": 8, "max_batch_messages": 7 });
        let sink = Sink::open(&config(&endpoint.url(), more));
        thread::scope(|scope| {
            for partition in 0..20 {
                let sink = &sink;
                scope.spawn(move || {
                    for call in 0..5 {
                        let first = call * 12;
                        let payloads = (first..first + 12).map(|n| message(partition, n));
                        let mut batch = Batch::of(Schema::Json, payloads).from_offset(first);
                        batch.partition_id = u32::try_from(partition).unwrap();
                        assert_eq!(sink.consume(&batch.from_stream(&format!("partitions-{mode}"))), 0);
                    }
                });
            }
        });
        assert_whole_and_in_order(&endpoint, 20, 60);
        assert!(endpoint.max_in_flight() <= 8, "{mode}: {}", endpoint.max_in_flight());
        assert_eq!(failures(&format!("partitions-{mode}")).count, 0, "{mode}");
    }
}

#[test]
fn a_hundred_keys_side_by_side_are_each_in_order() {
    for (seed, mode) in (10..).zip(["individual", "nd_json", "json_array", "raw"]) {
        let endpoint = Endpoint::start(unsteady(seed));
        let more = json!({
            "batch_mode": mode, "concurrency": 16, "ordering": "key", "ordering_key": "{payload:/key}",
            "max_batch_messages": 7,
        });
        let sink = Sink::open(&config(&endpoint.url(), more));
        let mut next = vec![0; 100];
        for call in 0..5_u64 {
            // As many of each key in the end, in an order without a pattern.
            let mut keys: Vec<u64> = (0..100).flat_map(|key| [key; 3]).collect();
            keys.sort_by_key(|&key| dice(seed, call * 1000 + key * 7 + dice(key, call) % 3));
            let payloads: Vec<String> = keys
                .into_iter()
                .map(|key| {
                    let place = &mut next[usize::try_from(key).unwrap()];
                    *place += 1;
                    message(key, *place - 1)
                })
                .collect();
            let batch = Batch::of(Schema::Json, payloads).from_offset(call * 300);
            assert_eq!(sink.consume(&batch.from_stream(&format!("keys-{mode}"))), 0, "{mode}");
        }
        assert_whole_and_in_order(&endpoint, 100, 15);
        assert!((2..=16).contains(&endpoint.max_in_flight()), "{mode}: {}", endpoint.max_in_flight());
    }
}

#[test]
fn keys_are_in_order_within_adaptive_concurrency_too() {
    let endpoint = Endpoint::start(unsteady(20));
    let more = json!({ "concurrency": "adaptive", "ordering": "key", "ordering_key": "{payload:/key}" });
    let sink = Sink::open(&config(&endpoint.url(), more));
    for call in 0..4 {
        let payloads = (0..400).map(|n| message(n % 50, call * 8 + n / 50));
        assert_eq!(sink.consume(&Batch::of(Schema::Json, payloads).from_offset(call * 400)), 0);
    }
    assert_whole_and_in_order(&endpoint, 50, 32);
}

#[test]
fn batches_of_one_partition_from_many_threads_do_not_mix() {
    let endpoint = Endpoint::start(unsteady(30));
    let sink = Sink::open(&config(&endpoint.url(), json!({ "concurrency": 8 })));
    thread::scope(|scope| {
        for call in 0..10 {
            let sink = &sink;
            scope.spawn(move || {
                let payloads = (0..10).map(|n| message(call, n));
                assert_eq!(sink.consume(&Batch::of(Schema::Json, payloads)), 0);
            });
        }
    });
    let mut exchanges = endpoint.exchanges();
    exchanges.retain(crate::support::endpoint::Exchange::is_success);
    let calls: Vec<(u64, u64)> =
        exchanges.iter().flat_map(|exchange| messages(&exchange.request.body)).collect();
    for batch in calls.chunks(10) {
        assert_eq!(batch, (0..10).map(|n| (batch[0].0, n)).collect::<Vec<_>>());
    }
    assert_eq!(calls.len(), 100);
}

#[test]
fn partitions_mixed_in_one_batch_share_no_body_and_stay_in_order() {
    for (seed, mode) in (40..).zip(["individual", "nd_json", "json_array", "raw"]) {
        for concurrency in [1, 8] {
            let endpoint = Endpoint::start(unsteady(seed));
            let more = json!({ "batch_mode": mode, "concurrency": concurrency });
            let sink = Sink::open(&config(&endpoint.url(), more));
            // Runs of partitions one after the other, as a poll brings them; the label is that of the last.
            let mut next = [0; 3];
            for call in 0..6 {
                let mut batch = Batch::of(Schema::Json, Vec::<String>::new());
                for run in 0..3 {
                    // Of a descending start, so that the offsets go back from each to the next.
                    let partition = (call + run) % 3;
                    let lane = u64::try_from(partition).unwrap();
                    let (first, length) = (next[partition], 5 + dice(seed, lane) % 5);
                    next[partition] += length;
                    let payloads = (first..first + length).map(|n| message(lane, n));
                    let part = Batch::of(Schema::Json, payloads);
                    // Each partition has its offsets, further down than those before it in the batch.
                    batch.messages.extend(part.from_offset(10_000 * (3 - run as u64) + first).messages);
                }
                assert_eq!(sink.consume(&batch.from_stream(&format!("mixed-{mode}-{concurrency}"))), 0);
            }
            let requests = endpoint.requests();
            for request in &requests {
                let lanes: BTreeSet<u64> = messages(&request.body).iter().map(|message| message.0).collect();
                assert_eq!(lanes.len(), 1, "{mode}: {}", String::from_utf8_lossy(&request.body));
            }
            for (lane, places) in taken(&endpoint) {
                let length = next[usize::try_from(lane).unwrap()];
                assert_eq!(places, (0..length).collect::<Vec<_>>(), "{mode}: lane {lane}");
            }
            assert_eq!(endpoint.max_in_flight(), 1, "{mode}: a batch is one lane");
        }
    }
}

#[test]
fn a_message_that_fails_is_settled_before_its_successors_in_the_lane_start() {
    for mode in ["individual", "raw", "nd_json", "json_array"] {
        let endpoint = Endpoint::start(|request| {
            let bad = messages(&request.body)[0].1 % 5 == 2;
            Answer::status(if bad { 500 } else { 200 }).after(Duration::from_millis(1))
        });
        let more = json!({
            "batch_mode": mode, "max_batch_messages": 1, "max_retries": 2, "concurrency": 8,
            // A probe in between would change the order of the requests.
            "circuit_breaker": { "failure_threshold": 0 },
        });
        let sink = Sink::open(&config(&endpoint.url(), more));
        let stream = format!("settled-first-{mode}");
        let batch = Batch::of(Schema::Json, (0..20).map(|n| message(0, n)));
        assert_eq!(sink.consume(&batch.from_stream(&stream)), 1);
        let order: Vec<u64> =
            endpoint.requests().iter().map(|request| messages(&request.body)[0].1).collect();
        let expected: Vec<u64> = (0..20).flat_map(|n| vec![n; if n % 5 == 2 { 3 } else { 1 }]).collect();
        assert_eq!(order, expected, "{mode}");
        assert_eq!(failures(&stream).reasons.keys().copied().collect::<Vec<_>>(), [2, 7, 12, 17], "{mode}");
    }
}

/// What a script of answers is drawn from.
#[derive(Debug, Clone, Copy)]
enum Step {
    Take,
    TakeAndClose,
    Fail(u16),
    Throttle,
    Reset,
    HangUp,
}
