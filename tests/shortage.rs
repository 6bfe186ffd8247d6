//! A process that runs out of file descriptors: through the built plugin, in processes with a low limit.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Exchange},
    worker::{Job, Worker},
};

const MESSAGES: u64 = 1_000;
/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// The shipped defaults, with 64 requests in flight.
fn job(url: &str, batch: u64, more: Value) -> Job {
    let config = json!({
        "url": url, "include_metadata": false, "concurrency": 64, "ordering": "none",
    });
    Job {
        config: with(config, more),
        topics: [("a".to_owned(), 0)].into(),
        end: MESSAGES,
        batch: (batch, batch),
        pace: Duration::ZERO,
        filling: 0,
        keys: 0,
        seed: 0,
    }
}

/// Streams all messages with this many descriptors; returns how long that took, and the log.
fn stream(descriptors: u32, job: &Job) -> (Duration, Vec<String>) {
    let worker = Worker::start_with_descriptors(descriptors, job);
    worker.expect("open", SOON);
    let began = Instant::now();
    worker.expect("streamed", SOON);
    (began.elapsed(), worker.close(SOON))
}

fn offset(body: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(body).unwrap()["n"].as_u64().unwrap()
}

fn delivered(endpoint: &Endpoint) -> BTreeSet<u64> {
    let taken: Vec<u64> = endpoint
        .exchanges()
        .iter()
        .filter(|exchange| exchange.is_success())
        .map(|Exchange { request, .. }| offset(&request.body))
        .collect();
    let once: BTreeSet<u64> = taken.iter().copied().collect();
    assert_eq!(once.len(), taken.len(), "something was taken twice");
    once
}

fn dead_letters(folder: &Path) -> Vec<u64> {
    let mut offsets = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            let letters = std::fs::read_to_string(path).unwrap();
            offsets.extend(
                letters
                    .lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap()),
            );
        }
    }
    offsets.sort_unstable();
    offsets
}

/// The reason is named, once in so short a time, and nothing else is wrong.
#[track_caller]
fn assert_named(log: &[String]) {
    let named: Vec<&String> = log.iter().filter(|line| line.contains("short of file descriptors")).collect();
    assert_eq!(named.len(), 1, "{log:#?}");
    assert!(named[0].starts_with("WARN ") && named[0].contains("Too many open files"), "{named:?}");
    assert!(!log.iter().any(|line| line.contains("keeps failing")), "the breaker opened: {log:#?}");
    assert!(!log.iter().any(|line| line.starts_with("ERROR")), "{log:#?}");
}

#[test]
fn a_healthy_endpoint_gets_everything_at_full_speed() {
    let takes = Duration::from_millis(5);
    let endpoint = Endpoint::start(move |_| Answer::status(200).after(takes));
    // Twice, to compare.
    let (enough, log) = stream(1_000, &job(&endpoint.url(), 1_000, json!({})));
    assert_eq!(log, [""; 0]);
    assert_eq!(delivered(&endpoint).len() as u64, MESSAGES);
    drop(endpoint);
    for more in [json!({}), json!({ "concurrency": "adaptive" }), json!({ "max_retries": 0 })] {
        let endpoint = Endpoint::start(move |_| Answer::status(200).after(takes));
        let (short, log) = stream(64, &job(&endpoint.url(), 1_000, more.clone()));
        println!("{more}: {enough:?} with descriptors enough, {short:?} with few");
        assert_eq!(delivered(&endpoint).len() as u64, MESSAGES, "{more}: {log:#?}");
        if more.get("concurrency").is_none() {
            assert_named(&log);
        }
        assert!(short < enough * 5 + Duration::from_secs(2), "{more}: {short:?}, and {enough:?} with enough");
    }
}

#[test]
fn names_are_looked_up_without_descriptors_to_look_with() {
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(5)));
    let url = format!("http://localhost:{}/in", endpoint.port());
    let (_, log) = stream(40, &job(&url, 1_000, json!({ "max_retries": 0 })));
    assert_eq!(delivered(&endpoint).len() as u64, MESSAGES, "{log:#?}");
    assert_named(&log);
}

#[test]
fn dead_letters_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_| Answer::status(403).after(Duration::from_millis(1)));
    let letters = folder.path().join("letters");
    let (_, log) = stream(40, &job(&endpoint.url(), 1_000, json!({ "dead_letter": { "path": letters } })));
    assert_eq!(dead_letters(&letters), (0..MESSAGES).collect::<Vec<_>>(), "{log:#?}");
}

#[test]
fn dead_letters_are_kept_where_files_are_small() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_| Answer::status(403).after(Duration::from_millis(1)));
    let letters = folder.path().join("letters");
    let config = json!({ "dead_letter": { "path": letters, "segment_bytes": "2 KiB" } });
    let (_, log) = stream(40, &job(&endpoint.url(), 100, config));
    assert_eq!(dead_letters(&letters), (0..MESSAGES).collect::<Vec<_>>(), "{log:#?}");
}

#[test]
fn a_spool_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(1)));
    let config = json!({ "spool": { "path": folder.path().join("spool"), "max_bytes": "1 MiB" } });
    let job = Job { filling: 4_000, ..job(&endpoint.url(), 10, config) };
    let worker = Worker::start_with_descriptors(40, &job);
    worker.expect("open", SOON);
    worker.expect("streamed", SOON);
    crate::support::worker::wait_until(SOON, || delivered(&endpoint).len() as u64 == MESSAGES);
    let log = worker.close(SOON);
    assert!(!log.iter().any(|line| line.starts_with("ERROR")), "{log:#?}");
}
