//! A spool before an endpoint that is away, as a whole or for one of the topics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::spool;
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint},
    plugin::Sink,
    weather::Port,
    worker::{Job, Worker, batch, wait_until},
};

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// The resident memory of a process, in bytes.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Streams that many messages a second, for that long, while nobody listens, and then somebody does.
fn outage(rate: u64, lasts: Duration, size: u64) {
    // The budget of 64 MiB, and a body for each request in flight.
    const MEMORY: u64 = 96 * 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let config = json!({
        "url": port.url(),
        "batch_mode": "nd_json",
        "include_metadata": false,
        "max_retry_delay": "1s",
        "circuit_breaker": { "cool_down": "1s" },
        "spool": { "path": folder.path().join("spool"), "max_bytes": "4 GiB" },
    });
    let topics = TOPICS.len() as u64;
    let end = rate * lasts.as_secs() / topics;
    let job = Job {
        config,
        topics: TOPICS.map(|topic| (topic.to_owned(), 0)).into(),
        end,
        batch: (size, size),
        pace: Duration::from_micros(1_000_000 * size * topics / rate),
        filling: 200,
        keys: 0,
        seed: 0,
    };
    let worker = Worker::start(&job);
    worker.expect("open", Duration::from_secs(10));
    let (id, began) = (worker.id(), Instant::now());
    let before = memory(id);
    let mut most = before;
    while worker.next().values().any(|next| *next < end) {
        most = most.max(memory(id));
        assert!(began.elapsed() < lasts * 2, "consume does not keep up: {:?}", worker.next());
        thread::sleep(Duration::from_millis(50));
    }
    worker.expect("streamed", Duration::from_secs(1));
    let (filled, most_away) = (began.elapsed(), most);

    let arrived = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let endpoint = Endpoint::start_on(port.number, {
        let arrived = arrived.clone();
        move |request| {
            let lines = memchr::memchr_iter(b'\n', &request.body).count();
            arrived.fetch_add(lines as u64, SeqCst);
            Answer::status(200)
        }
    });
    while arrived.load(SeqCst) < end * topics {
        most = most.max(memory(id));
        assert!(began.elapsed() < filled * 2, "only {} arrived", arrived.load(SeqCst));
        thread::sleep(Duration::from_millis(10));
    }
    let drained = began.elapsed();
    worker.close(Duration::from_secs(20));
    drop(endpoint);
    assert_eq!(spool::status(&folder.path().join("spool")).unwrap().messages, 0);
    println!(
        "{} messages, filled in {filled:?} and drained in {drained:?}; memory {} KiB at first, {} KiB more while away, \
         {} KiB more to the end",
        end * topics,
        before / 1024,
        (most_away - before) / 1024,
        (most - before) / 1024
    );
    assert!(most - before <= MEMORY, "memory grew by {} KiB", (most - before) / 1024);
    assert!(drained < filled, "filled in {filled:?} and drained in {drained:?}");
}

#[test]
fn memory_stays_flat_while_the_endpoint_is_away_and_the_backlog_drains_faster_than_it_grew() {
    outage(5_000, Duration::from_secs(4), 50);
}

#[test]
#[ignore = "takes two minutes, and means something in release mode alone"]
fn memory_stays_flat_for_a_minute_at_20_000_messages_a_second() {
    outage(20_000, Duration::from_mins(1), 100);
}

/// How many messages of topic b arrive in a second, beside topic a, if it is `stuck` there. The endpoint takes so long for
/// an answer.
fn rate_of_b(stuck: bool, config: &Value, takes: Duration) -> f64 {
    let messages = if takes.is_zero() { 30_000 } else { 2_000 };
    let folder = tempfile::tempdir().unwrap();
    let (of_a, of_b) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let endpoint = Endpoint::start({
        let (of_a, of_b) = (of_a.clone(), of_b.clone());
        move |request| {
            let is_a = request.body.starts_with(b"{\"t\":\"a\"");
            if is_a { &of_a } else { &of_b }.fetch_add(1, SeqCst);
            Answer::status(if is_a { 503 } else { 200 }).after(takes)
        }
    });
    let sink = Sink::open(&with(
        json!({
            "url": endpoint.url(),
            "include_metadata": false,
            "close_timeout": "1s",
            // The stuck topic is to keep knocking, as much as it may.
            "circuit_breaker": { "failure_threshold": 0 },
            "spool": { "path": folder.path().join("spool") },
        }),
        config.clone(),
    ));
    if stuck {
        assert_eq!(sink.consume(&batch("a", 0..1000, 200, 0)), 0);
        wait_until(Duration::from_secs(10), || of_a.load(SeqCst) > 0);
    }
    let began = Instant::now();
    for first in (0..messages).step_by(100) {
        assert_eq!(sink.consume(&batch("b", first..first + 100, 200, 0)), 0);
    }
    wait_until(Duration::from_mins(2), || of_b.load(SeqCst) == messages);
    messages as f64 / began.elapsed().as_secs_f64()
}

#[test]
#[ignore = "measures, so it wants a quiet machine and release mode"]
fn a_topic_beside_one_that_is_stuck_keeps_its_rate() {
    let takes = Duration::from_millis(2);
    for (config, takes, keeps) in [
        (json!({}), takes, 0.9),
        (json!({ "retry_delay": "1ms", "max_retry_delay": "10ms", "concurrency": 2 }), takes, 0.9),
        // Each of the 1,000 messages that are stuck is a lane, and knocks within the first second: two of eight slots' worth.
        (json!({ "ordering": "none", "concurrency": 8 }), takes, 0.8),
        (json!({}), Duration::ZERO, 0.9),
    ] {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        // Neither is always the first.
        for stuck in [false, true, true, false].repeat(3) {
            let rate = rate_of_b(stuck, &config, takes);
            if stuck { &mut beside } else { &mut alone }.push(rate);
        }
        let [alone, beside] = [alone, beside].map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        println!(
            "{config}, {takes:?} an answer: {alone:.0}/s alone and {beside:.0}/s beside one that is stuck, {:.3} of it",
            beside / alone
        );
        assert!(beside >= keeps * alone, "{config}: {beside} of {alone}");
    }
}
