//! A large backlog that an endpoint leaves behind which does not answer: what it takes of memory, and how fast it drains once
//! the endpoint is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    endpoint::{Answer, Endpoint},
    load::{Watch, batch, wait_until},
    support::plugin::Sink,
};

const BATCH: u64 = 1000;
const SIZE: usize = 1024;
const PARTITIONS: u64 = 8;
/// How long a hanging endpoint keeps a request, and how long one takes that is well.
const HANGS: Duration = Duration::from_secs(5);
const LATENCY: Duration = Duration::from_millis(2);

fn fed(number: u64) -> super::support::plugin::Batch {
    let partition = number % PARTITIONS;
    let first = number / PARTITIONS * BATCH;
    let mut batch = batch(first, BATCH, SIZE, |n| format!("\"key\":{}", n % 1000));
    batch.partition_id = u32::try_from(partition).unwrap() + 1;
    for message in &mut batch.messages {
        message.id += u128::from(partition) << 64;
    }
    batch
}

fn config(url: &str, mode: &str, ordering: &str) -> Value {
    let mut config = json!({
        "url": url, "include_metadata": false, "batch_mode": mode, "concurrency": "adaptive", "ordering": ordering,
        "timeout": "2s", "connect_timeout": "2s", "max_payload_size_bytes": "1 MiB", "close_timeout": "1s",
    });
    if ordering == "key" {
        config["ordering_key"] = json!("{payload:/key}");
    }
    config
}

/// Messages a second without a spool, each partition from a thread of its own.
fn without(mode: &str, ordering: &str, batches: u64) -> f64 {
    let endpoint = Endpoint::start(|_| Answer::ok(LATENCY), |_| {});
    let sink = Sink::open(&config(&endpoint.url(), mode, ordering));
    let began = Instant::now();
    thread::scope(|scope| {
        for partition in 0..PARTITIONS {
            let sink = &sink;
            scope.spawn(move || {
                for number in (partition..batches).step_by(PARTITIONS as usize) {
                    assert_eq!(sink.consume(&fed(number)), 0);
                }
            });
        }
    });
    (batches * BATCH) as f64 / began.elapsed().as_secs_f64()
}

fn run(mode: &str, ordering: &str, gigabytes: f64) {
    let batches = (gigabytes * 1e9 / (BATCH as f64 * SIZE as f64)).ceil() as u64;
    let bare = without(mode, ordering, batches.min(400));
    let (is_well, delivered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let endpoint = Endpoint::start(
        {
            let is_well = is_well.clone();
            move |_| {
                if is_well.load(Relaxed) {
                    Answer::ok(LATENCY)
                } else {
                    // The client has gone by then.
                    Answer { status: 503, after: HANGS }
                }
            }
        },
        {
            let delivered = delivered.clone();
            move |body| {
                let messages = memchr::memmem::find_iter(body, b"\"n\":").count() as u64;
                delivered.fetch_add(messages, Relaxed);
            }
        },
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut config = config(&endpoint.url(), mode, ordering);
    config["spool"] = json!({ "path": folder.path().join("spool"), "max_bytes": "16 GiB" });
    let memory = Watch::start();
    let sink = Sink::open(&config);
    let began = Instant::now();
    (0..batches).for_each(|number| assert_eq!(sink.consume(&fed(number)), 0));
    let accepted = (batches * BATCH) as f64 / began.elapsed().as_secs_f64();
    // It goes on hanging for a while.
    thread::sleep(Duration::from_secs(5));
    is_well.store(true, Relaxed);
    wait_until("the first delivery", Duration::from_secs(120), || delivered.load(Relaxed) > 0);
    let began = Instant::now();
    let all = batches * BATCH;
    wait_until("delivery of the backlog", Duration::from_secs(1200), || delivered.load(Relaxed) >= all);
    let drained = all as f64 / began.elapsed().as_secs_f64();
    let again = delivered.load(Relaxed) - all;
    println!(
        "{mode:<11} {ordering:<10} {accepted:>10.0} {drained:>10.0} {bare:>12.0} {:>8.2} {:>12} {again:>7}",
        drained / bare,
        memory.stop()
    );
}

pub(super) fn measure(gigabytes: f64, modes: &[&str], orderings: &[&str]) {
    println!("\na backlog of {gigabytes} GB, {PARTITIONS} partitions, endpoint hanging, then {LATENCY:?}");
    println!(
        "{:<11} {:<10} {:>10} {:>10} {:>12} {:>8} {:>12} {:>7}",
        "mode", "ordering", "accepted/s", "drained/s", "no spool, /s", "ratio", "memory MiB", "again"
    );
    for mode in modes {
        // A request a message: a part of it takes as long.
        let share = if *mode == "individual" { 16.0 } else { 1.0 };
        for ordering in orderings {
            run(mode, ordering, gigabytes / share);
        }
    }
}
