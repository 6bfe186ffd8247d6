//! With keys in order, or no order, one message that does not get through waits alone.

use serde_json::{Value, json};

use super::{messages, taken, wait_until};
use crate::support::{
    again::again,
    endpoint::{Answer, Endpoint},
    plugin::Sink,
};

/// The value of `k` and `n` in each line or element of a body.
fn numbers(body: &[u8]) -> Vec<(String, u64)> {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>().map(Result::unwrap);
    values.map(|value| (value["k"].as_str().unwrap().to_owned(), value["n"].as_u64().unwrap())).collect()
}

/// Sends batches of which the first message alone is refused for ever with 503, and counts what arrives of the others.
fn beside_a_stuck_message(mode: &str, ordering: &str, concurrency: u64, batches: u64) {
    let endpoint = Endpoint::start(|request| {
        let stuck = numbers(&request.body).iter().any(|(_, n)| *n == 0);
        Answer::status(if stuck { 503 } else { 200 })
    });
    let folder = tempfile::tempdir().unwrap();
    let mut config = json!({
        "url": endpoint.url(), "batch_mode": mode, "include_metadata": false, "concurrency": concurrency,
        "ordering": ordering, "close_timeout": "1s", "max_batch_messages": 1,
        "circuit_breaker": { "cool_down": "300ms" }, "spool": { "path": folder.path().join("spool") },
    });
    if ordering == "key" {
        config["ordering_key"] = json!("{payload:/k}");
    }
    let sink = Sink::open(&config);
    for batch in 0..batches {
        // One of each key, the stuck one in the first.
        let payloads: Vec<String> = (batch * 3..)
            .zip(["a", "b", "c"])
            .map(|(n, key)| format!("{{\"k\":\"{key}\",\"n\":{n}}}"))
            .collect();
        let batch: Vec<(u64, &str)> = (batch * 3..).zip(payloads.iter().map(String::as_str)).collect();
        assert_eq!(sink.consume(&messages(1, &batch)), 0);
    }
    let arrived = || taken(&endpoint, |request| numbers(&request.body)).concat();
    let expected = if ordering == "key" { batches * 2 } else { batches * 3 - 1 };
    wait_until(&format!("{mode}, {ordering}: all others arrive"), || arrived().len() as u64 == expected);
    for key in ["a", "b", "c"] {
        let of_key: Vec<u64> = arrived().iter().filter(|(k, _)| k == key).map(|(_, n)| *n).collect();
        assert!(ordering != "key" || of_key.is_sorted(), "{mode}: {key}: {of_key:?}");
        assert!(ordering != "key" || key != "a" || of_key.is_empty(), "{mode}: {of_key:?} came before 0");
    }
}

#[test]
fn one_message_on_503_stops_nothing_but_its_key() {
    for mode in ["individual", "nd_json"] {
        for concurrency in [1, 4] {
            for ordering in ["key", "none"] {
                beside_a_stuck_message(mode, ordering, concurrency, 40);
            }
        }
    }
}

#[test]
fn a_key_goes_on_in_order_once_its_message_gets_through() {
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let endpoint = Endpoint::start(move |request| {
        let first = numbers(&request.body).iter().any(|(_, n)| *n == 0);
        let fails = first && refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 3;
        Answer::status(if fails { 503 } else { 200 })
    });
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "include_metadata": false, "concurrency": 4, "ordering": "key",
        "ordering_key": "{payload:/k}", "retry_delay": "10ms", "max_retry_delay": "20ms",
        "spool": { "path": folder.path().join("spool") },
    }));
    for n in (0..60).step_by(2) {
        let payloads = [n, n + 1].map(|n| format!("{{\"k\":\"a\",\"n\":{n}}}"));
        let batch: Vec<(u64, &str)> = (n..).zip(payloads.iter().map(String::as_str)).collect();
        assert_eq!(sink.consume(&messages(1, &batch)), 0);
    }
    let arrived = || taken(&endpoint, |request| numbers(&request.body)[0].1);
    wait_until("all arrive", || arrived().len() == 60);
    assert_eq!(arrived(), (0..60).collect::<Vec<u64>>());
}

/// The resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A large backlog, without an order, before an endpoint that hangs. It measures all of its process, so it runs alone in one.
#[cfg(target_os = "linux")]
#[test]
fn a_backlog_of_320_mb_takes_no_more_than_the_budget_of_memory() {
    const ALONE: &str = "IGGY_HTTP_SINK_TEST_MEMORY";
    const NAME: &str = "a_backlog_of_320_mb_takes_no_more_than_the_budget_of_memory";
    if std::env::var_os(ALONE).is_none() {
        let alone = again(module_path!(), NAME).env(ALONE, "1").output();
        let alone = alone.unwrap();
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stdout));
        return;
    }
    let endpoint = Endpoint::start(|_| Answer::stall());
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "include_metadata": false, "concurrency": "adaptive", "ordering": "none",
        "close_timeout": "1s", "timeout": "2s", "connect_timeout": "1s",
        "spool": { "path": folder.path().join("spool") },
    }));
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(1000));
    let before = resident();
    let mut most = before;
    for batch in 0..320_u64 {
        let batch: Vec<(u64, &str)> =
            (batch * 1000..(batch + 1) * 1000).map(|n| (n, payload.as_str())).collect();
        assert_eq!(sink.consume(&messages(1, &batch)), 0);
        most = most.max(resident());
    }
    // Time for attempts to time out and be parked.
    for _ in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        most = most.max(resident());
    }
    assert!(endpoint.requests().len() > 1);
    assert!(most - before <= 96 << 20, "{} MiB more than at open", (most - before) >> 20);
    println!("{} MiB more than at open", (most - before) >> 20);
}
