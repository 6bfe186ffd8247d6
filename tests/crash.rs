//! A spool behind a plugin whose process is killed at any moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{
    dead_letter::Folder,
    spool::{self, Status},
};
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint},
    random::Random,
    weather::{Arrival, Message, Weather},
    worker::{Job, Worker, wait_until},
};

const TOPICS: [&str; 3] = ["a", "b", "c"];
/// The most messages of a batch.
const BATCH: u64 = 40;
/// What was answered so long before a kill is not sent again. Success is written down within a few milliseconds; the
/// rest is for a machine that has much else to do.
const WRITTEN_WITHIN: Duration = Duration::from_millis(500);

/// About how many messages are answered in the time after which success is written down.
const WRITTEN_TOGETHER: u64 = 10;

/// Some are refused for what is in them, never so many in a body that it is not looked at message by message.
fn is_poison(message: &Message) -> bool {
    [13, 57, 60].contains(&(message.offset % 97))
}

fn status(folder: &Path) -> Status {
    spool::status(&folder.join("spool")).unwrap()
}

/// Kills workers at random moments while they stream to an endpoint in changing weather, each beginning where the one
/// before it had its last batch acknowledged, so that a batch that was being stored comes again, cut in another way; and lets the last
/// one deliver what is left. So many messages can be in flight at once.
fn kill_again_and_again(name: &str, in_flight: u64, more: Value) {
    kill_while_streaming(name, in_flight, more, &Stream::default());
}

/// What is streamed: the pace of batches, the bytes that fill a payload, and the number of keys.
struct Stream {
    pace: Duration,
    filling: usize,
    keys: u64,
    /// What the spool takes at least at one of the kills, in bytes.
    fills: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self { pace: Duration::from_millis(40), filling: 0, keys: 0, fills: 0 }
    }
}

fn kill_while_streaming(name: &str, in_flight: u64, more: Value, stream: &Stream) {
    let unordered = more.get("ordering").is_some();
    let kills = std::env::var("IGGY_HTTP_SINK_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let seed = std::env::var("IGGY_HTTP_SINK_SEED").map_or(clock, |seed| seed.parse().unwrap());
    println!("{name}: IGGY_HTTP_SINK_SEED={seed}");
    let mut random = Random(u64::try_from(seed).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut weather = Weather::start(random.between(0, u64::MAX - 1), is_poison);
    let mut job = Job {
        config: config(&weather.url(), folder.path(), more),
        topics: TOPICS.map(|topic| (topic.to_owned(), 0)).into(),
        end: u64::MAX,
        batch: (1, BATCH),
        pace: stream.pace,
        filling: stream.filling,
        keys: stream.keys,
        seed: 0,
    };
    let (mut killed, mut fullest) = (Vec::new(), 0);
    let mut accepted = job.topics.clone();
    for _ in 0..kills {
        job.seed = random.between(0, u64::MAX - 1);
        let worker = Worker::start(&job);
        // From before its sink is open to when it has much under way.
        thread::sleep(Duration::from_millis(random.between(10, 500)));
        let next = worker.kill();
        killed.push(Instant::now());
        // The first may have had no time to make a folder.
        fullest =
            spool::status(&folder.path().join("spool")).map_or(fullest, |status| status.bytes.max(fullest));
        for (topic, end) in &mut accepted {
            *end = next[topic].max(*end);
            job.topics.insert(topic.clone(), *end);
        }
    }
    weather.clear_up();
    let left = status(folder.path()).messages;
    job.end = 0;
    let worker = Worker::start(&job);
    worker.expect("open", Duration::from_secs(10));
    worker.expect("streamed", Duration::from_secs(10));
    wait_until(Duration::from_mins(2), || status(folder.path()).messages == 0);
    worker.close(Duration::from_secs(10));
    let spool = status(folder.path());
    assert_eq!((spool.messages, spool.damages, spool.in_use), (0, Vec::new(), false));

    let arrivals = weather.arrivals();
    let dead = dead_letters(folder.path());
    all_arrived_or_are_dead(&accepted, &arrivals, &dead);
    match stream.keys {
        0 if unordered => {}
        0 => firsts_are_in_order(&arrivals, |_| 0),
        keys => firsts_are_in_order(&arrivals, |offset| offset % keys),
    }
    assert!(fullest >= stream.fills, "{fullest} bytes at most");
    same_bodies_have_same_keys(&arrivals);
    let away = weather.away();
    let repeats = repeats_by_cause(&arrivals, &killed, &away);
    // What was in flight is sent again, and what was answered and is not yet written down: never more than the records
    // under way hold, in each lane one, or without an order one more than there are requests at once; and mostly little.
    let records = if unordered { 9 } else { 1 };
    let most = repeats.iter().max().copied().unwrap_or_default();
    assert!(most <= records * BATCH * TOPICS.len() as u64, "{most} repeats for one kill");
    let (all, letters) = (repeats.iter().sum::<u64>(), dead.values().sum::<u64>());
    // On a machine that is busy with other things more is answered before it is written down.
    let bound = (6 * in_flight + 4 * WRITTEN_TOGETHER) * repeats.len() as u64;
    assert!(all <= bound, "{all} repeats for {} kills", repeats.len());
    assert!(letters <= dead.len() as u64 + bound, "{letters} letters of {} messages", dead.len());
    println!(
        "{name}: {kills} kills, {} times away: {} messages accepted, {left} left at the last kill; {} requests; {} dead \
         letters of {} messages; {} repeats, at most {most} at once",
        away.len(),
        accepted.values().sum::<u64>(),
        arrivals.len(),
        letters,
        dead.len(),
        all,
    );
}

fn config(url: &str, folder: &Path, mut more: Value) -> Value {
    let mut config = json!({
        "url": url,
        "include_metadata": false,
        "retry_delay": "5ms",
        "max_retry_delay": "50ms",
        "circuit_breaker": { "failure_threshold": 5, "cool_down": "20ms" },
        "spool": { "path": folder.join("spool"), "sync": "batch" },
        "dead_letter": { "path": folder.join("letters") },
    });
    if let Some(spool) = more.as_object_mut().unwrap().remove("spool") {
        config["spool"] = with(config["spool"].take(), spool);
    }
    with(config, more)
}

/// How many letters there are of each message.
fn dead_letters(folder: &Path) -> BTreeMap<Message, u64> {
    let mut dead = BTreeMap::new();
    let each = |entry: iggy_connector_http_sink::dead_letter::Entry| {
        // A kill can leave a part of a line behind.
        if let Ok(record) = entry.record {
            assert_eq!((record.status, record.reason.as_str()), (Some(400), "rejected"));
            *dead.entry(Message { topic: record.topic, offset: record.offset }).or_default() += 1;
        }
        true
    };
    Folder::open(&folder.join("letters")).unwrap().for_each(each).unwrap();
    dead
}

fn all_arrived_or_are_dead(
    next: &BTreeMap<String, u64>,
    arrivals: &[Arrival],
    dead: &BTreeMap<Message, u64>,
) {
    let taken: BTreeSet<&Message> =
        arrivals.iter().filter(|arrival| arrival.taken).flat_map(|arrival| &arrival.messages).collect();
    for (topic, end) in next {
        for offset in 0..*end {
            let message = Message { topic: topic.clone(), offset };
            let (taken, dead) = (taken.contains(&message), dead.contains_key(&message));
            assert_eq!((taken, dead), (!is_poison(&message), is_poison(&message)), "{message:?}");
        }
    }
}

fn firsts_are_in_order(arrivals: &[Arrival], key: impl Fn(u64) -> u64) {
    let mut last: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in arrivals.iter().filter(|arrival| arrival.taken).flat_map(|arrival| &arrival.messages) {
        if seen.insert(message)
            && let Some(before) = last.insert((&message.topic, key(message.offset)), message.offset)
        {
            assert!(before < message.offset, "{message:?} came behind {before}");
        }
    }
}

/// What arrives again is recognised by its key, and nothing else has that.
fn same_bodies_have_same_keys(arrivals: &[Arrival]) {
    let (mut keys, mut bodies) = (BTreeMap::new(), BTreeMap::new());
    let mut taken_in: BTreeMap<&Message, &Vec<u8>> = BTreeMap::new();
    for Arrival { key, body, messages, taken, .. } in arrivals {
        let text = String::from_utf8_lossy(body);
        assert_eq!(keys.entry(body).or_insert(key), &key, "the key of {text}");
        assert_eq!(bodies.entry(key).or_insert(body), &body, "the body with key {key}");
        for message in messages.iter().filter(|_| *taken) {
            let before = taken_in.entry(message).or_insert(body);
            assert_eq!(String::from_utf8_lossy(before), text, "{message:?} came in another body");
        }
    }
}

/// How many messages were taken once more after each kill, and each time the endpoint went away.
fn repeats_by_cause(arrivals: &[Arrival], killed: &[Instant], away: &[Instant]) -> Vec<u64> {
    let mut causes: Vec<Instant> = killed.iter().chain(away).copied().collect();
    causes.sort();
    let mut repeats = vec![0; causes.len()];
    let mut taken: BTreeMap<&Message, Instant> = BTreeMap::new();
    for arrival in arrivals.iter().filter(|arrival| arrival.taken) {
        for message in &arrival.messages {
            let Some(before) = taken.insert(message, arrival.at) else { continue };
            let cause = causes.iter().rposition(|cause| {
                *cause < arrival.at && cause.saturating_duration_since(before) < WRITTEN_WITHIN
            });
            let cause = cause.unwrap_or_else(|| {
                let (ago, all) = (arrival.at - before, arrivals.len());
                panic!("{message:?} came once more after {ago:?}, without a kill in between: {all} requests")
            });
            repeats[cause] += 1;
        }
    }
    repeats
}

#[test]
fn what_was_accepted_survives_kills_in_mode_individual() {
    kill_again_and_again("individual", 3, json!({ "concurrency": 4 }));
}

#[test]
fn what_was_accepted_survives_kills_in_mode_nd_json() {
    let more = json!({ "batch_mode": "nd_json", "max_batch_messages": 7, "concurrency": 4 });
    kill_again_and_again("nd_json", 3 * 7, more);
}

#[test]
fn what_was_accepted_survives_kills_without_an_order() {
    kill_again_and_again("no order", 8, json!({ "ordering": "none", "concurrency": 8 }));
}

#[test]
fn what_was_accepted_survives_kills_while_bodies_linger() {
    let more = json!({ "batch_mode": "nd_json", "max_batch_messages": 50, "linger": "80ms" });
    kill_again_and_again("linger", 3 * 50, more);
}

#[test]
fn what_was_accepted_survives_kills_by_key() {
    let more = json!({
        "batch_mode": "nd_json", "max_batch_messages": 7, "ordering": "key", "ordering_key": "{payload:/n}", "concurrency": 4,
    });
    kill_again_and_again("key", 12 * 7, more);
}

#[test]
fn what_was_accepted_survives_kills_with_several_messages_a_key() {
    let more = json!({ "ordering": "key", "ordering_key": "{header:key}", "concurrency": 4 });
    kill_while_streaming("few keys", 12, more, &Stream { keys: 10, ..Stream::default() });
}

#[test]
fn what_was_accepted_survives_kills_with_several_messages_a_key_in_a_body() {
    let more = json!({
        "batch_mode": "nd_json", "max_batch_messages": 7, "ordering": "key", "ordering_key": "{header:key}", "concurrency": 4,
    });
    kill_while_streaming("few keys, nd_json", 12 * 7, more, &Stream { keys: 10, ..Stream::default() });
}

#[test]
fn what_was_accepted_survives_kills_in_a_spool_that_is_synced_later() {
    kill_again_and_again("sync", 3, json!({ "spool": { "sync": "100ms" } }));
}

#[test]
fn what_was_accepted_survives_kills_while_a_small_spool_is_full() {
    let stream =
        Stream { pace: Duration::from_millis(5), filling: 2_000, fills: 900 * 1024, ..Stream::default() };
    kill_while_streaming("small", 3, json!({ "spool": { "max_bytes": "1 MiB" } }), &stream);
}

#[test]
fn what_was_answered_is_settled_while_the_rest_of_its_batch_waits() {
    for ordering in ["partition", "none"] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::start(|request| {
            if request.body.starts_with(b"{\"t\":\"a\",\"n\":3,") {
                Answer::stall()
            } else {
                Answer::status(200)
            }
        });
        let config = json!({
            "url": endpoint.url(),
            "include_metadata": false,
            "ordering": ordering,
            "spool": { "path": folder.path().join("spool") },
        });
        let job = Job {
            config,
            topics: [("a".to_owned(), 0)].into(),
            end: 5,
            batch: (5, 5),
            pace: Duration::ZERO,
            filling: 0,
            keys: 0,
            seed: 0,
        };
        let worker = Worker::start(&job);
        endpoint.wait_for_requests(4, Duration::from_secs(10));
        wait_until(Duration::from_secs(10), || status(folder.path()).messages == 2);
        assert_eq!(worker.kill()["a"], 5);
        let worker = Worker::start(&Job { end: 0, ..job });
        endpoint.wait_for_requests(5, Duration::from_secs(10));
        drop(worker);
        let requests = endpoint.requests();
        assert_eq!(requests[3].body, requests[4].body, "{ordering}: the first that was not answered");
    }
}
