//! Many small batches of one partition to an endpoint that takes its time: bodies that fill.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;

use super::{
    endpoint::{Answer, Endpoint},
    load::{Delays, batch, number, paced, wait_until},
    support::plugin::Sink,
};

const LASTING: Duration = Duration::from_secs(20);
const LATENCY: Duration = Duration::from_millis(200);
const BATCH: u64 = 5;
const BATCHES: f64 = 200.0;

fn run(linger: &str) {
    let delays = Delays::of(2 * BATCH * BATCHES as u64 * LASTING.as_secs());
    let requests = Arc::<AtomicU64>::default();
    let endpoint = Endpoint::start(|_| Answer::ok(LATENCY), {
        let (delays, requests) = (delays.clone(), requests.clone());
        move |body| {
            requests.fetch_add(1, Relaxed);
            let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.for_each(|line| delays.delivered(number(line, "n")));
        }
    });
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "include_metadata": false, "batch_mode": "nd_json", "linger": linger,
        "spool": { "path": folder.path().join("spool") },
    }));
    let mut at_end = 0;
    let batches = paced(BATCHES, LASTING, |call| {
        (call * BATCH..(call + 1) * BATCH).for_each(|n| delays.consumed(n));
        assert_eq!(sink.consume(&batch(call * BATCH, BATCH, 200, |n| format!("\"of\":{n}"))), 0);
        at_end = requests.load(Relaxed);
    });
    let all = batches * BATCH;
    let waiting = all - delays.count();
    wait_until("delivery", Duration::from_secs(60), || delays.count() >= all);
    let [median, p99] = delays.quantiles().map(|time| time.as_secs_f64() * 1e3);
    let rate = at_end as f64 / LASTING.as_secs_f64();
    println!("{linger:<8} {rate:>10.1} {median:>12.0} {p99:>10.0} {waiting:>16}");
}

pub(super) fn measure() {
    println!(
        "\n{} messages/s in batches of {BATCH}, endpoint {LATENCY:?}, nd_json, {LASTING:?}",
        BATCHES * 5.0
    );
    println!(
        "{:<8} {:>10} {:>12} {:>10} {:>16}",
        "linger", "requests/s", "median ms", "p99 ms", "waiting at end"
    );
    ["0s", "1s"].into_iter().for_each(run);
}
