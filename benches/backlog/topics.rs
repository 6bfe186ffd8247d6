//! A topic that does not get through beside nine that do, until the spool is full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    endpoint::{Answer, Endpoint},
    load::{batch, number},
    support::plugin::{Sink, plugin},
};

const TOPICS: u64 = 10;
const BATCH: u64 = 100;
const SIZE: usize = 1024;
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Before it is measured: by then the topic that is stuck holds all that it gets.
const WARM_UP: Duration = Duration::from_secs(8);
const LASTING: Duration = Duration::from_secs(8);
/// Alone and beside in turns, so that both see the same machine.
const ROUNDS: usize = 3;

/// Messages a second of the nine, and what waits of the tenth at the end. Each topic is fed as fast as it is taken, or with so
/// many batches a second.
fn run(beside: bool, paced: Option<f64>) -> (f64, u64) {
    let delivered = Arc::<AtomicU64>::default();
    let endpoint = Endpoint::start(
        |body| Answer {
            status: if number(body, "topic") == 0 { 503 } else { 200 },
            after: Duration::from_millis(1),
        },
        {
            let delivered = delivered.clone();
            move |body| {
                delivered.fetch_add(memchr::memchr_iter(b'\n', body).count() as u64, Relaxed);
            }
        },
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "include_metadata": false, "batch_mode": "nd_json", "concurrency": "adaptive",
        "close_timeout": "1s", "spool": { "path": folder.path().join("spool"), "max_bytes": MAX_BYTES },
    }));
    let (over, stuck) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for topic in u64::from(!beside)..TOPICS {
            let (sink, over, stuck) = (&sink, &over, &stuck);
            scope.spawn(move || {
                let (began, mut next) = (Instant::now(), 0);
                while !over.load(Relaxed) {
                    let batch = batch(next, BATCH, SIZE, |_| format!("\"topic\":{topic}"))
                        .from_topic(&format!("topic-{topic}"));
                    // With 1 it is being closed.
                    if sink.consume(&batch) == 0 && topic == 0 {
                        stuck.fetch_add(BATCH, Relaxed);
                    }
                    next += BATCH;
                    if let Some(paced) = paced {
                        let due = began + Duration::from_secs_f64((next / BATCH) as f64 / paced);
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                    }
                }
            });
        }
        thread::sleep(WARM_UP);
        let (before, began) = (delivered.load(Relaxed), Instant::now());
        thread::sleep(LASTING);
        let rate = (delivered.load(Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        over.store(true, Relaxed);
        plugin().close(sink.id);
        (rate, stuck.load(Relaxed))
    })
}

fn median(mut of: [f64; ROUNDS]) -> f64 {
    of.sort_by(f64::total_cmp);
    of[ROUNDS / 2]
}

pub(super) fn measure() {
    println!("\nnine topics beside one that is always refused with 503, max_bytes {} MiB", MAX_BYTES >> 20);
    let (most, _) = run(false, None);
    // A share of what they could do, which a queue is for, and all of it.
    for share in [Some(0.25), Some(0.5), None] {
        let paced = share.map(|share| most * share / (9 * BATCH) as f64);
        let rounds = [(); ROUNDS].map(|()| (run(false, paced).0, run(true, paced)));
        let alone = median(rounds.map(|(alone, _)| alone));
        let (beside, stuck) = (median(rounds.map(|(_, (beside, _))| beside)), rounds[0].1.1);
        let ratio = median(rounds.map(|(alone, (beside, _))| beside / alone));
        let fed = share.map_or("as fast as taken".to_owned(), |share| format!("{share} of that"));
        println!(
            "fed {fed}: alone {alone:.0} messages/s, beside {beside:.0} messages/s: {ratio:.2} of it; the one that is stuck holds {} MiB",
            (stuck * SIZE as u64) >> 20
        );
    }
}
