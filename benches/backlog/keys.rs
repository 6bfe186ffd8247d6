//! 10,000 keys, of which the endpoint never takes one in a hundred: how the others fare beside them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    endpoint::{Answer, Endpoint},
    load::{Delays, Watch, batch, number, paced, wait_until},
    support::plugin::Sink,
};

const KEYS: u64 = 10_000;
const BATCH: u64 = 100;
/// Messages of a run.
const MESSAGES: u64 = 20_000;
/// With 64 requests at once 3,200 messages a second: the endpoint is the limit, and not the processor.
const LATENCY: Duration = Duration::from_millis(20);
const PACED: f64 = 1_500.0;
/// Alone and beside in turns, so that both see the same machine.
const ROUNDS: usize = 3;

fn is_stuck(key: u64) -> bool {
    key.is_multiple_of(100)
}

/// What came of the healthy keys.
struct Fared {
    rate: f64,
    median: Duration,
    p99: Duration,
    /// In MiB.
    memory: u64,
}

/// Feeds so many messages of all keys, or of the healthy ones alone; as fast as they are taken, or so many a second. Tells how much
/// memory is taken beyond that at the start, in MiB, each minute.
fn run(
    ordering: &str,
    beside: bool,
    per_second: Option<f64>,
    messages: u64,
    each_minute: impl Fn(u64),
) -> Fared {
    let delays = Delays::of(2 * messages);
    let endpoint = Endpoint::start(
        |body| Answer { status: if is_stuck(number(body, "key")) { 503 } else { 200 }, after: LATENCY },
        {
            let delays = delays.clone();
            move |body| delays.delivered(number(body, "n"))
        },
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut config = json!({
        "url": endpoint.url(), "include_metadata": false, "concurrency": "adaptive", "ordering": ordering,
        "close_timeout": "1s", "spool": { "path": folder.path().join("spool") },
    });
    if ordering == "key" {
        config["ordering_key"] = json!("{payload:/key}");
    }
    let sink = Sink::open(&config);
    let key = |n: u64| n % KEYS;
    let (mut next, mut healthy) = (0, 0);
    let mut feed = |_| {
        let mut batch = batch(next, BATCH, 200, |n| format!("\"key\":{}", key(n)));
        let first = next;
        next += BATCH;
        let mut numbers: Vec<u64> = (first..next).collect();
        if !beside {
            let mut keep = numbers.iter().map(|n| !is_stuck(key(*n)));
            batch.messages.retain(|_| keep.next().unwrap());
            numbers.retain(|n| !is_stuck(key(*n)));
        }
        healthy += numbers.iter().filter(|n| !is_stuck(key(**n))).count() as u64;
        for number in numbers {
            delays.consumed(number);
        }
        assert_eq!(sink.consume(&batch), 0);
    };
    let memory = Watch::start();
    let began = Instant::now();
    match per_second {
        None => (0..messages / BATCH).for_each(&mut feed),
        Some(rate) => {
            let of_a_minute = (rate * 60.0 / BATCH as f64) as u64;
            paced(rate / BATCH as f64, Duration::from_secs_f64(messages as f64 / rate), |number| {
                feed(number);
                if (number + 1).is_multiple_of(of_a_minute) {
                    each_minute(memory.so_far());
                }
            });
        }
    }
    wait_until("delivery of the healthy keys", Duration::from_secs(600), || delays.count() >= healthy);
    let rate = healthy as f64 / began.elapsed().as_secs_f64();
    let [median, p99] = delays.quantiles();
    Fared { rate, median, p99, memory: memory.stop() }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

pub(super) fn measure() {
    println!(
        "\n{KEYS} keys, one in a hundred always refused with 503, endpoint {LATENCY:?}, adaptive, individual; at once, and \
         {PACED} messages/s; medians of {ROUNDS}"
    );
    println!(
        "{:<10} {:<8} {:>10} {:>10} {:>10} {:>12}",
        "ordering", "", "healthy/s", "median ms", "p99 ms", "memory MiB"
    );
    for ordering in ["key", "none"] {
        let mut fared: [Vec<[Fared; 2]>; 2] = Default::default();
        for _ in 0..ROUNDS {
            for (beside, fared) in [false, true].into_iter().zip(&mut fared) {
                fared.push([None, Some(PACED)].map(|rate| run(ordering, beside, rate, MESSAGES, |_| {})));
            }
        }
        let [alone, beside] = fared.map(|rounds| {
            let of = |what: &dyn Fn(&[Fared; 2]) -> f64| median(rounds.iter().map(what).collect());
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            [
                of(&|[at_once, _]| at_once.rate),
                of(&|[_, paced]| millis(paced.median)),
                of(&|[_, paced]| millis(paced.p99)),
                of(&|[_, paced]| paced.memory as f64),
            ]
        });
        for (what, [rate, median, p99, memory]) in [("alone", alone), ("beside", beside)] {
            println!("{ordering:<10} {what:<8} {rate:>10.0} {median:>10.1} {p99:>10.1} {memory:>12.0}");
        }
        println!(
            "{ordering:<10} ratio    {:>10.2} {:>10} {:>10.2}",
            beside[0] / alone[0],
            "",
            beside[2] / alone[2]
        );
    }
}

/// The memory over minutes, where ever more of the keys wait that never get through.
pub(super) fn minutes(minutes: u64) {
    println!(
        "\nthe same keys at {PACED} messages/s for {minutes} minutes, ordering key: memory beyond that at the start, MiB"
    );
    let messages = minutes * (60.0 * PACED) as u64;
    let began = Instant::now();
    run("key", true, Some(PACED), messages, |memory| {
        println!("after {:>4} s {memory:>6}", began.elapsed().as_secs());
    });
}
