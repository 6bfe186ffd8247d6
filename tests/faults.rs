//! Endpoints at their worst, counted at both ends: each message is taken once, or named as failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use support::{
    endpoint::{Answer, Door, Endpoint, Exchange, Request, refused_url},
    plugin::{Batch, Failures, Sink, failures, logged, plugin},
};

const MODES: [&str; 4] = ["individual", "nd_json", "json_array", "raw"];
const BODIES_OF_MANY: [&str; 2] = ["nd_json", "json_array"];
const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration whose retries do not make a test wait.
fn config(url: &str, mode: &str, keys: Value) -> Value {
    let mut config = json!({
        "url": url,
        "batch_mode": mode,
        "include_metadata": false,
        "retry_delay": "1ms",
        "max_retry_delay": "2ms",
        "circuit_breaker": { "failure_threshold": 0 },
    });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    config
}

/// The numbers of the messages in a body of any mode.
fn numbers(body: &[u8]) -> Vec<u64> {
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Value>().map(Result::unwrap);
    let values = values.flat_map(|value| match value {
        Value::Array(values) => values,
        value => vec![value],
    });
    values.map(|value| value["n"].as_u64().unwrap()).collect()
}

fn holds(request: &Request, word: &str) -> bool {
    String::from_utf8_lossy(&request.body).contains(word)
}

/// Message `n`, of `size` bytes or a few more.
fn padded(n: u64, size: usize) -> String {
    format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(size.saturating_sub(15)))
}

fn plain(n: u64) -> String {
    format!("{{\"n\":{n}}}")
}

/// Message `n`, which is marked if it is one of these.
fn poisoned(n: u64, bad: &[u64]) -> String {
    if bad.contains(&n) { format!("{{\"n\":{n},\"poison\":true}}") } else { plain(n) }
}

/// A number that looks random and is always the same.
fn dice(seed: u64, throw: u64) -> u64 {
    let mut x = (seed ^ throw.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One sink on one endpoint, with its messages numbered by offset.
struct Run {
    endpoint: Endpoint,
    sink: Sink,
    stream: String,
    sent: u64,
    failing: usize,
}

/// What became of all messages of a run.
struct Settled {
    /// In the order in which the endpoint took them.
    taken: Vec<u64>,
    failed: Failures,
    exchanges: Vec<Exchange>,
}

impl Run {
    fn new(name: &str, mode: &str, endpoint: Endpoint, keys: Value) -> Self {
        let sink = Sink::open(&config(&endpoint.url(), mode, keys));
        Self { endpoint, sink, stream: format!("{name}-{mode}"), sent: 0, failing: 0 }
    }

    fn send(&mut self, count: u64, message: impl Fn(u64) -> String) -> i32 {
        let batch = Batch::of(Schema::Json, (self.sent..self.sent + count).map(message));
        let batch = batch.from_offset(self.sent).from_stream(&self.stream);
        self.sent += count;
        let code = self.sink.consume(&batch);
        assert!(code == 0 || code == 1, "{}: {code}", self.stream);
        self.failing += usize::from(code == 1);
        code
    }

    /// Counts at both ends. Each message was taken in just one request, or is named as failed.
    #[track_caller]
    fn settled(&self) -> Settled {
        let settled = self.settled_at_least_once();
        let once: BTreeSet<u64> = settled.taken.iter().copied().collect();
        assert_eq!(once.len(), settled.taken.len(), "{}: taken twice: {:?}", self.stream, settled.taken);
        settled
    }

    /// The same where answers got lost, so that what was taken may have been taken before; then under
    /// the same key.
    #[track_caller]
    fn settled_at_least_once(&self) -> Settled {
        let stream = &self.stream;
        let exchanges = self.endpoint.exchanges();
        let mut taken = Vec::new();
        let mut key_of = HashMap::new();
        for exchange in exchanges.iter().filter(|exchange| exchange.is_success()) {
            let key = exchange.request.header("idempotency-key").map(str::to_owned);
            for n in numbers(&exchange.request.body) {
                let before = key_of.insert(n, key.clone());
                assert!(before.is_none_or(|before| before == key), "{stream}: {n} came under two keys");
                taken.push(n);
            }
        }
        let failed = failures(stream);
        assert_eq!(self.failing > 0, failed.count > 0, "{stream}: consume failed {} times", self.failing);
        for n in failed.reasons.keys() {
            assert!(!key_of.contains_key(n), "{stream}: {n} was taken and is named as failed");
        }
        assert_eq!(key_of.len() + failed.count, usize::try_from(self.sent).unwrap(), "{stream}: {failed:?}");
        Settled { taken, failed, exchanges }
    }

    /// All was taken, once.
    #[track_caller]
    fn delivered(&self) -> Settled {
        let settled = self.settled();
        assert_eq!(settled.failed.count, 0, "{}: {:?}", self.stream, settled.failed);
        settled
    }
}

/// Waits for what must come about.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

// ---- Bodies that are too large ----

fn at_most(limit: usize) -> impl Fn(&Request) -> Answer {
    move |request| Answer::status(if request.body.len() > limit { 413 } else { 200 })
}

#[test]
fn bodies_over_the_endpoints_limit_arrive_in_parts_and_soon_in_few_requests() {
    for mode in BODIES_OF_MANY {
        for size in [400, 1000, 3000] {
            let mut run =
                Run::new(&format!("limit-{size}"), mode, Endpoint::start(at_most(100_000)), json!({}));
            for _ in 0..6 {
                assert_eq!(run.send(500, |n| padded(n, size)), 0);
            }
            let learned = run.endpoint.requests().len();
            for _ in 0..6 {
                assert_eq!(run.send(500, |n| padded(n, size)), 0);
            }
            let settled = run.delivered();
            let bytes: usize = settled
                .exchanges
                .iter()
                .filter(|exchange| exchange.is_success())
                .map(|exchange| exchange.request.body.len())
                .sum();
            // The second half of what was sent.
            let least = 6 * (bytes / 12).div_ceil(100_000);
            let requests = settled.exchanges.len() - learned;
            assert!(
                requests * 10 < least * 13,
                "{mode}, {size}: {requests} requests, where {least} are the least"
            );
            assert!(learned < 6 * (least / 6) * 3, "{mode}, {size}: {learned} requests to learn");
        }
    }
}

#[test]
fn where_all_is_too_large_each_message_fails_alone_and_no_search_goes_on() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(413).body("not even one"));
        let mut run = Run::new("all-too-large", mode, endpoint, json!({}));
        assert_eq!(run.send(200, |n| padded(n, 100)), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.len(), 200, "{mode}");
        for reason in settled.failed.reasons.values() {
            assert!(
                reason.starts_with("too_large, status 413 after 1 attempt: not even one"),
                "{mode}: {reason}"
            );
        }
        // Each message once, and the way down to the first of them.
        let requests = settled.exchanges.len();
        assert!((200..=220).contains(&requests), "{mode}: {requests}");
    }
}

#[test]
fn a_message_too_large_even_alone_fails_and_those_around_it_arrive() {
    for mode in MODES {
        let mut run = Run::new("one-too-large", mode, Endpoint::start(at_most(2000)), json!({}));
        assert_eq!(run.send(60, |n| padded(n, if n == 31 { 5000 } else { 100 })), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [31], "{mode}");
        assert!(settled.failed.reasons[&31].starts_with("too_large, status 413"), "{mode}");
    }
}

#[test]
fn a_limit_that_sinks_midway_is_followed() {
    for mode in BODIES_OF_MANY {
        let endpoint =
            Endpoint::start(|request| at_most(if request.index < 20 { 50_000 } else { 5000 })(request));
        let mut run = Run::new("sinking-limit", mode, endpoint, json!({}));
        for _ in 0..8 {
            assert_eq!(run.send(200, |n| padded(n, 500)), 0);
        }
        let settled = run.delivered();
        assert_eq!(settled.taken, (0..1600).collect::<Vec<_>>(), "{mode}: in order");
        // 800 KB in 5 KB bodies are 160 at least.
        assert!(settled.exchanges.len() < 300, "{mode}: {}", settled.exchanges.len());
    }
}

// ---- Messages that spoil a body ----

fn refusing_poison(status: u16) -> impl Fn(&Request) -> Answer {
    move |request| {
        if holds(request, "poison") {
            Answer::status(status).body("{\"error\":\"mapper_parsing_exception\"}")
        } else {
            Answer::status(200)
        }
    }
}

#[test]
fn one_poison_in_500_fails_with_the_endpoints_words_and_the_others_arrive() {
    for mode in MODES {
        let mut run = Run::new("one-poison", mode, Endpoint::start(refusing_poison(400)), json!({}));
        assert_eq!(run.send(500, |n| poisoned(n, &[337])), 1);
        let settled = run.settled();
        assert_eq!(settled.taken.len(), 499, "{mode}");
        assert!(settled.taken.is_sorted(), "{mode}: {:?}", settled.taken);
        assert_eq!(
            settled.failed.reasons[&337],
            "rejected, status 400 after 1 attempt: {\"error\":\"mapper_parsing_exception\"}",
            "{mode}"
        );
        let bound = if BODIES_OF_MANY.contains(&mode) { 1 + 2 * 9 } else { 500 };
        assert!(settled.exchanges.len() <= bound, "{mode}: {}", settled.exchanges.len());
    }
}

#[test]
fn three_poisons_in_1000_fail_and_997_arrive() {
    for mode in MODES {
        let mut run = Run::new("three-poisons", mode, Endpoint::start(refusing_poison(422)), json!({}));
        assert_eq!(run.send(1000, |n| poisoned(n, &[0, 500, 999])), 1);
        let settled = run.settled();
        assert_eq!(settled.taken.len(), 997, "{mode}");
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [0, 500, 999], "{mode}");
        let bound = if BODIES_OF_MANY.contains(&mode) { 1 + 3 * 2 * 10 } else { 1000 };
        assert!(settled.exchanges.len() <= bound, "{mode}: {}", settled.exchanges.len());
    }
}

#[test]
fn where_every_message_is_poison_the_search_is_given_up() {
    for mode in MODES {
        let mut run = Run::new("all-poison", mode, Endpoint::start(refusing_poison(400)), json!({}));
        assert_eq!(run.send(200, |n| poisoned(n, &[n])), 1);
        let settled = run.settled();
        assert_eq!((settled.taken.len(), settled.failed.reasons.len()), (0, 200), "{mode}");
        // Over half of them alone, with the bodies above them, and the way down: no more than there are.
        assert!(settled.exchanges.len() <= 200 + 16, "{mode}: {}", settled.exchanges.len());
        let not_probed =
            settled.failed.reasons.values().filter(|reason| reason.starts_with("not_probed")).count();
        if BODIES_OF_MANY.contains(&mode) {
            assert!((90..100).contains(&not_probed), "{mode}: {not_probed}");
            assert!(settled.failed.reasons[&199].contains("mapper_parsing_exception"), "{mode}");
        } else {
            assert_eq!(not_probed, 0, "{mode}");
        }
    }
}

#[test]
fn a_search_for_poison_outlasts_a_busy_endpoint() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            if request.index % 2 == 0 { Answer::status(503) } else { refusing_poison(400)(request) }
        });
        let mut run = Run::new("busy-poison", mode, endpoint, json!({ "max_retries": 1 }));
        assert_eq!(run.send(64, |n| poisoned(n, &[5, 60])), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [5, 60], "{mode}");
        assert!(settled.failed.reasons[&5].starts_with("rejected, status 400 after 2 attempts"), "{mode}");
    }
}

#[test]
fn a_search_for_poison_goes_on_in_the_parts_of_a_body_that_was_too_large() {
    for mode in BODIES_OF_MANY {
        let endpoint = Endpoint::start(|request| {
            if request.body.len() > 3000 { Answer::status(413) } else { refusing_poison(400)(request) }
        });
        let mut run = Run::new("large-poison", mode, endpoint, json!({}));
        assert_eq!(run.send(300, |n| if n % 100 == 50 { poisoned(n, &[n]) } else { padded(n, 50) }), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [50, 150, 250], "{mode}");
    }
}

#[test]
fn without_isolate_status_codes_a_refused_body_fails_whole_after_one_request() {
    for mode in BODIES_OF_MANY {
        let more = json!({ "isolate_status_codes": [] });
        let mut run = Run::new("no-isolation", mode, Endpoint::start(refusing_poison(400)), more);
        assert_eq!(run.send(100, |n| poisoned(n, &[50])), 1);
        let settled = run.settled();
        assert_eq!((settled.exchanges.len(), settled.failed.reasons.len()), (1, 100), "{mode}");
        assert!(settled.failed.reasons[&0].contains("mapper_parsing_exception"), "{mode}");
    }
}

// ---- Answers that are waited out ----

#[test]
fn a_held_status_is_waited_out_without_spending_retries() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| Answer::status(if request.index < 30 { 401 } else { 200 }));
        let more = json!({ "hold_status_codes": [401], "max_retries": 0 });
        let mut run = Run::new("held", mode, endpoint, more);
        assert_eq!(run.send(20, plain), 0);
        assert_eq!(run.delivered().taken, (0..20).collect::<Vec<_>>(), "{mode}");
    }
}

#[test]
fn a_status_held_for_good_ends_with_the_deadline() {
    for mode in MODES {
        let more = json!({ "hold_status_codes": [403], "max_retries": 0, "max_retry_duration": "200ms" });
        let mut run = Run::new("held-for-good", mode, Endpoint::answering(403), more);
        let began = Instant::now();
        assert_eq!(run.send(10, plain), 1);
        assert!(began.elapsed() < PATIENCE, "{mode}: {:?}", began.elapsed());
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.len(), 10, "{mode}");
        assert!(
            settled.failed.reasons[&9].starts_with("deadline_exceeded, status 403"),
            "{:?}",
            settled.failed
        );
    }
}

/// So many requests came after an answer was sent and before a pause from then on was over.
fn inside(exchanges: &[Exchange], paused: Instant, pause: Duration) -> usize {
    exchanges
        .iter()
        .filter(|exchange| exchange.request.at > paused && exchange.request.at < paused + pause)
        .count()
}

#[test]
fn no_lane_sends_during_a_pause_that_a_429_asked_for() {
    let endpoint = Endpoint::start(|request| {
        let answer = if request.index % 3 == 2 {
            Answer::status(429).header("Retry-After", "1")
        } else {
            Answer::status(200)
        };
        answer.after(Duration::from_millis(20))
    });
    let more = json!({ "concurrency": 8, "ordering": "none", "max_retries": 0 });
    let mut run = Run::new("pauses", "individual", endpoint, more);
    assert_eq!(run.send(24, plain), 0);
    let exchanges = run.delivered().exchanges;
    let busy: Vec<&Exchange> = exchanges.iter().filter(|exchange| exchange.status == Some(429)).collect();
    assert!(busy.len() >= 8, "{}", busy.len());
    for exchange in busy {
        // Those that were on their way, and what they gave way to until the sink read the answer. Were the
        // pause not kept, all that are left would be inside.
        let requests = inside(&exchanges, exchange.answered.unwrap(), Duration::from_secs(1));
        assert!(requests <= 10, "{requests} requests inside the pause");
    }
    // Each pause is one second, whoever asked for it.
    let took = exchanges.last().unwrap().request.at - exchanges[0].request.at;
    assert!(took >= Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_pause_until_a_date_keeps_every_lane() {
    let dates: Arc<Mutex<Vec<(Instant, SystemTime)>>> = Arc::default();
    let endpoint = Endpoint::start({
        let dates = dates.clone();
        move |request| {
            if request.index != 3 {
                return Answer::status(200).after(Duration::from_millis(5));
            }
            // Dates have whole seconds.
            let date = SystemTime::now() + Duration::from_secs(2);
            let date = httpdate::parse_http_date(&httpdate::fmt_http_date(date)).unwrap();
            dates.lock().unwrap().push((Instant::now(), date));
            Answer::status(503).header("Retry-After", &httpdate::fmt_http_date(date))
        }
    });
    let more = json!({ "concurrency": 4, "ordering": "none", "max_retries": 0 });
    let mut run = Run::new("dated-pause", "individual", endpoint, more);
    assert_eq!(run.send(100, plain), 0);
    let exchanges = run.delivered().exchanges;
    let (asked, date) = dates.lock().unwrap()[0];
    let over = SystemTime::now().duration_since(date).expect("the pause was waited out");
    let pause = asked.elapsed().saturating_sub(over);
    let requests = inside(&exchanges, asked, pause.saturating_sub(Duration::from_millis(10)));
    assert!(requests <= 20, "{requests} of 100 requests inside the pause");
}

#[test]
fn a_pause_without_end_lets_each_message_fail_by_name() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(503).header("Retry-After", "3600"));
        let more = json!({ "max_retry_after": "2h", "max_retry_duration": "300ms", "max_batch_messages": 2 });
        let mut run = Run::new("endless-pause", mode, endpoint, more);
        let began = Instant::now();
        assert_eq!(run.send(8, plain), 1);
        assert!(began.elapsed() < PATIENCE, "{mode}: {:?}", began.elapsed());
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.len(), 8, "{mode}");
        assert!(settled.exchanges.len() <= 8, "{mode}: {}", settled.exchanges.len());
    }
}

/// What the thread of a sink has computed so far.
#[cfg(target_os = "linux")]
fn computed(sink: &Sink) -> Duration {
    let name = format!("http-sink-{}", sink.id);
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
            return Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap());
        }
    }
    panic!("there is no thread {name}");
}

#[cfg(target_os = "linux")]
#[test]
fn messages_behind_a_pause_beyond_their_deadline_cost_nothing() {
    let endpoint = Endpoint::start(|_| Answer::status(503).header("Retry-After", "3600"));
    let more = json!({ "max_retry_after": "2h", "max_retry_duration": "2s" });
    let mut run = Run::new("idle-pause", "individual", endpoint, more);
    assert_eq!(run.send(5, plain), 1);
    let computed = computed(&run.sink);
    run.settled();
    assert!(computed < Duration::from_secs(1), "the thread was busy for {computed:?}");
}

// ---- The breaker ----

/// An endpoint that fails the first so many requests.
fn failing_first(failing: usize, status: u16) -> impl Fn(&Request) -> Answer {
    move |request| Answer::status(if request.index < failing { status } else { 200 })
}

fn breaker_opened(endpoint: &Endpoint) -> usize {
    logged(&format!("{} keeps failing", endpoint.url())).len()
}

fn breaker_closed(endpoint: &Endpoint) -> usize {
    logged(&format!("{} is back", endpoint.url())).len()
}

const COOL_DOWN: Duration = Duration::from_millis(50);

fn breaker(failure_threshold: u32) -> Value {
    json!({ "failure_threshold": failure_threshold, "cool_down": "50ms" })
}

#[test]
fn the_breaker_opens_probes_and_closes_and_all_arrives() {
    for mode in MODES {
        let more = json!({ "circuit_breaker": breaker(3) });
        let mut run = Run::new("breaker", mode, Endpoint::start(failing_first(12, 503)), more);
        assert_eq!(run.send(20, plain), 0);
        let settled = run.delivered();
        assert_eq!(settled.taken, (0..20).collect::<Vec<_>>(), "{mode}");
        assert_eq!((breaker_opened(&run.endpoint), breaker_closed(&run.endpoint)), (1, 1), "{mode}");
        // Three failures open it; what follows are probes, until the first success.
        for pair in settled.exchanges[2..13].windows(2) {
            let waited = pair[1].request.at - pair[0].request.at;
            assert!(waited >= COOL_DOWN, "{mode}: a probe after {waited:?}");
        }
    }
}

#[test]
fn while_the_breaker_is_open_one_request_goes_each_cool_down_whatever_the_concurrency() {
    for mode in ["individual", "raw"] {
        let more =
            json!({ "circuit_breaker": breaker(3), "concurrency": 8, "ordering": "none", "max_retries": 8 });
        let mut run = Run::new("wide-breaker", mode, Endpoint::start(failing_first(20, 500)), more);
        assert_eq!(run.send(100, plain), 0);
        let settled = run.delivered();
        assert_eq!((breaker_opened(&run.endpoint), breaker_closed(&run.endpoint)), (1, 1), "{mode}");
        // The failures that open it, with those that were on their way beside them, then probes.
        for pair in settled.exchanges[2 + 7..21].windows(2) {
            let waited = pair[1].request.at - pair[0].request.at;
            assert!(waited >= COOL_DOWN, "{mode}: a probe after {waited:?}");
        }
    }
}

#[test]
fn refusals_for_good_never_open_the_breaker() {
    for status in [400, 404, 413, 422, 501] {
        let more = json!({ "circuit_breaker": { "failure_threshold": 1, "cool_down": "1h" } });
        let mut run =
            Run::new(&format!("refusals-{status}"), "individual", Endpoint::answering(status), more);
        assert_eq!(run.send(50, plain), 1);
        let settled = run.settled();
        assert_eq!((settled.exchanges.len(), settled.failed.reasons.len()), (50, 50), "{status}");
        assert_eq!(breaker_opened(&run.endpoint), 0, "{status}");
    }
}

#[test]
fn an_endpoint_that_says_when_to_come_back_does_not_open_the_breaker() {
    let endpoint = Endpoint::start(|request| {
        if request.index < 10 { Answer::status(429).header("Retry-After", "0") } else { Answer::status(200) }
    });
    let more = json!({ "circuit_breaker": { "failure_threshold": 2, "cool_down": "1h" }, "max_retries": 0 });
    let mut run = Run::new("polite-429", "individual", endpoint, more);
    assert_eq!(run.send(5, plain), 0);
    run.delivered();
    assert_eq!(breaker_opened(&run.endpoint), 0);
}

#[test]
fn a_connection_that_the_server_closed_does_not_close_the_breaker() {
    // All fail. What comes on a connection that was used before is hung up on, which says nothing.
    let seen: Mutex<BTreeSet<usize>> = Mutex::default();
    let endpoint = Endpoint::start(move |request| {
        let first = seen.lock().unwrap().insert(request.connection);
        if first { Answer::status(500) } else { Answer::hang_up() }
    });
    let more = json!({
        "circuit_breaker": { "failure_threshold": 2, "cool_down": "1h" },
        "max_retries": 20,
        "max_retry_duration": "1s",
    });
    let mut run = Run::new("stale-breaker", "individual", endpoint, more);
    assert_eq!(run.send(3, plain), 1);
    let settled = run.settled();
    let failed = settled.exchanges.iter().filter(|exchange| exchange.status == Some(500)).count();
    assert_eq!(failed, 2, "{} requests", settled.exchanges.len());
    assert_eq!((breaker_opened(&run.endpoint), breaker_closed(&run.endpoint)), (1, 0));
}

// ---- Connections ----

#[test]
fn with_a_dead_endpoint_all_fails_by_name_when_the_deadline_is_over() {
    for mode in MODES {
        for threshold in [0, 5] {
            let stream = format!("dead-{threshold}-{mode}");
            let more = json!({
                "circuit_breaker": { "failure_threshold": threshold, "cool_down": "30s" },
                "max_retries": 1_000_000,
                "max_retry_duration": "300ms",
            });
            let sink = Sink::open(&config(&refused_url(), mode, more));
            let began = Instant::now();
            assert_eq!(sink.consume(&Batch::numbered(100).from_stream(&stream)), 1, "{stream}");
            assert!(began.elapsed() < Duration::from_secs(10), "{stream}: {:?}", began.elapsed());
            let failed = failures(&stream);
            assert_eq!((failed.count, failed.reasons.len()), (100, 100), "{stream}");
            let reason = &failed.reasons[&0];
            assert!(
                reason.starts_with("deadline_exceeded") || reason.starts_with("circuit_open"),
                "{reason}"
            );
            assert!(reason.contains("connect: "), "{reason}");
        }
    }
}

#[test]
fn connections_reset_as_soon_as_they_are_made_are_made_again() {
    for mode in MODES {
        let endpoint = Endpoint::behind(
            |connection| if connection < 5 { Door::Reset } else { Door::Open },
            |_| Answer::status(200),
        );
        let mut run = Run::new("reset-door", mode, endpoint, json!({ "max_retries": 5 }));
        assert_eq!(run.send(20, plain), 0);
        run.delivered();
        assert_eq!(run.endpoint.connections(), 6, "{mode}");
    }
}

#[test]
fn a_body_cut_off_in_the_middle_is_sent_again() {
    for mode in MODES {
        let endpoint = Endpoint::behind(
            |connection| if connection < 3 { Door::ResetAfterHead } else { Door::Open },
            |_| Answer::status(200),
        );
        let mut run = Run::new("cut-body", mode, endpoint, json!({ "max_retries": 3 }));
        assert_eq!(run.send(3, |n| padded(n, 2_000_000)), 0);
        run.delivered();
    }
}

#[test]
fn an_answer_cut_off_in_its_head_is_asked_for_again_under_the_same_key() {
    for mode in MODES {
        let lost = || Answer::raw("HTTP/1.1 200 OK\r\ncontent-le").cut_after(27);
        let endpoint =
            Endpoint::start(move |request| if request.index < 4 { lost() } else { Answer::status(200) });
        let mut run = Run::new("cut-head", mode, endpoint, json!({ "max_retries": 4 }));
        assert_eq!(run.send(10, plain), 0);
        let settled = run.settled_at_least_once();
        assert_eq!(settled.failed.count, 0, "{mode}");
        let counts = settled.exchanges[..5].iter().map(|exchange| exchange.request.header("x-retry-count"));
        assert_eq!(counts.collect::<Vec<_>>(), [None, Some("1"), Some("2"), Some("3"), Some("4")], "{mode}");
    }
}

#[test]
fn what_happens_to_the_body_of_an_answer_changes_nothing_about_its_status() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            let status = [200, 503, 200, 404][request.index % 4];
            Answer::status(status).body("a long explanation").cut_after(6)
        });
        let mut run = Run::new("cut-answer", mode, endpoint, json!({ "max_batch_messages": 1 }));
        assert_eq!(run.send(9, plain), 1);
        let settled = run.settled();
        // 200; 503 and 200; 404; and so on.
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [2, 5, 8], "{mode}");
        assert!(
            settled.failed.reasons[&2].starts_with("rejected, status 404 after 1 attempt: a long"),
            "{mode}"
        );
    }
}

/// Takes the first request of each connection and hangs up on the second.
fn hanging_up_on_the_second() -> Endpoint {
    let seen: Mutex<BTreeSet<usize>> = Mutex::default();
    Endpoint::start(move |request| {
        let first = seen.lock().unwrap().insert(request.connection);
        if first { Answer::status(200).after(Duration::from_millis(1)) } else { Answer::hang_up() }
    })
}

#[test]
fn keepalive_connections_that_the_server_closes_fail_no_message_even_without_retries() {
    for mode in MODES {
        let more = json!({ "max_retries": 0, "max_batch_messages": 1 });
        let mut run = Run::new("closed-keepalive", mode, hanging_up_on_the_second(), more);
        assert_eq!(run.send(50, plain), 0);
        assert_eq!(run.delivered().taken, (0..50).collect::<Vec<_>>(), "{mode}");
    }
}

#[test]
fn the_same_holds_for_many_connections_side_by_side() {
    for mode in MODES {
        let more = json!({
            "max_retries": 0, "max_batch_messages": 1, "concurrency": 8, "ordering": "none",
        });
        let mut run = Run::new("closed-keepalives", mode, hanging_up_on_the_second(), more);
        assert_eq!(run.send(200, plain), 0, "{:?}", failures(&run.stream));
        run.delivered();
    }
}

#[test]
fn an_idle_connection_that_the_server_closed_does_not_cost_a_message_its_one_attempt() {
    let more = json!({ "max_retries": 0, "max_retry_duration": "0s" });
    let mut run = Run::new("late-keepalive", "individual", hanging_up_on_the_second(), more);
    assert_eq!(run.send(10, plain), 0, "{:?}", failures(&run.stream));
    run.delivered();
}

#[test]
fn connections_closed_after_each_answer_lose_nothing() {
    for mode in MODES {
        for said in [false, true] {
            let endpoint = Endpoint::start(move |_| {
                let answer = Answer::status(200).body("thanks");
                if said { answer.connection_close() } else { answer.closing() }
            });
            let more = json!({
                "max_retries": 0, "max_batch_messages": 1, "concurrency": 4, "ordering": "none",
            });
            let mut run = Run::new(&format!("closing-{said}"), mode, endpoint, more);
            assert_eq!(run.send(50, plain), 0, "{:?}", failures(&run.stream));
            run.delivered();
        }
    }
}

// ---- Silence ----

#[test]
fn requests_that_stall_are_given_up_and_sent_again() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            if request.header("x-retry-count").is_none() { Answer::stall() } else { Answer::status(200) }
        });
        let more = json!({ "timeout": "300ms", "max_retries": 1, "max_batch_messages": 2 });
        let mut run = Run::new("stalls", mode, endpoint, more);
        assert_eq!(run.send(4, plain), 0);
        let settled = run.delivered();
        let bodies = if BODIES_OF_MANY.contains(&mode) { 2 } else { 4 };
        assert_eq!(settled.exchanges.len(), 2 * bodies, "{mode}");
    }
}

#[test]
fn an_endpoint_that_always_stalls_fails_messages_by_name() {
    for mode in MODES {
        let more = json!({ "timeout": "100ms", "max_retries": 1 });
        let mut run = Run::new("all-stall", mode, Endpoint::start(|_| Answer::stall()), more);
        assert_eq!(run.send(3, plain), 1);
        let settled = run.settled();
        for reason in settled.failed.reasons.values() {
            assert!(reason.starts_with("retries_exhausted after 2 attempts: timeout"), "{mode}: {reason}");
        }
    }
}

#[test]
fn connections_that_are_accepted_and_never_read_are_given_up() {
    let endpoint = Endpoint::behind(
        |connection| if connection < 2 { Door::Stall } else { Door::Open },
        |_| Answer::status(200),
    );
    let mut run = Run::new("deaf", "nd_json", endpoint, json!({ "timeout": "300ms", "max_retries": 2 }));
    // More than the buffers of the system hold, so that the body itself stalls.
    assert_eq!(run.send(10, |n| padded(n, 1_000_000)), 0);
    assert_eq!(run.delivered().exchanges.len(), 1);
}

#[test]
fn a_success_whose_body_never_ends_is_a_success_when_the_time_is_over() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(200).body("thanks a lot").stalling_after(3));
        let more = json!({ "timeout": "300ms", "max_retries": 0 });
        let mut run = Run::new("stalling-thanks", mode, endpoint, more);
        assert_eq!(run.send(3, plain), 0);
        run.delivered();
    }
}

#[test]
fn slow_answers_side_by_side_are_each_counted_once() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            Answer::status(200).after(Duration::from_millis(dice(1, numbers(&request.body)[0]) % 30))
        });
        let more = json!({ "concurrency": 16, "ordering": "none", "max_batch_messages": 2 });
        let mut run = Run::new("slow", mode, endpoint, more);
        assert_eq!(run.send(300, plain), 0);
        run.delivered();
        assert!(run.endpoint.max_in_flight() <= 16, "{mode}: {}", run.endpoint.max_in_flight());
    }
}

// ---- Answers that are none ----

#[test]
fn answers_of_a_gigabyte_are_cut_off_and_count_once() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::huge(1 << 30));
        let mut run = Run::new("huge", mode, endpoint, json!({ "max_retries": 0 }));
        assert_eq!(run.send(3, plain), 0);
        run.delivered();
    }
}

#[test]
fn a_head_of_a_megabyte_is_no_answer_and_a_large_one_is() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(503).header("x-large", &"x".repeat(1 << 20)));
        let mut run = Run::new("huge-head", mode, endpoint, json!({ "max_retries": 2 }));
        assert_eq!(run.send(2, plain), 1);
        let settled = run.settled();
        let reason = &settled.failed.reasons[&0];
        assert!(reason.starts_with("retries_exhausted after 3 attempts: "), "{mode}: {reason}");

        let endpoint = Endpoint::start(|_| Answer::status(200).header("x-large", &"x".repeat(100_000)));
        let mut run = Run::new("large-head", mode, endpoint, json!({ "max_retries": 0 }));
        assert_eq!(run.send(10, plain), 0);
        run.delivered();
    }
}

#[test]
fn what_is_no_http_is_retried_and_then_fails_by_name() {
    let garbage = [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"\x00\x01\x02\x03\xff\xfe\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 99999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: minus one\r\n\r\n",
    ];
    for (number, bytes) in garbage.into_iter().enumerate() {
        for mode in MODES {
            let endpoint = Endpoint::start(move |request| {
                if request.header("x-retry-count").is_none() {
                    Answer::raw(bytes).closing()
                } else {
                    Answer::status(200)
                }
            });
            let mut run =
                Run::new(&format!("garbage-once-{number}"), mode, endpoint, json!({ "max_retries": 1 }));
            assert_eq!(run.send(5, plain), 0, "{number}: {:?}", failures(&run.stream));
            assert_eq!(run.settled_at_least_once().failed.count, 0);

            let endpoint = Endpoint::start(move |_| Answer::raw(bytes).closing());
            let sink = Sink::open(&config(&endpoint.url(), mode, json!({ "max_retries": 1 })));
            let stream = format!("garbage-{number}-{mode}");
            assert_eq!(sink.consume(&Batch::numbered(2).from_stream(&stream)), 1, "{number}");
            let failed = failures(&stream);
            assert_eq!(failed.count, 2, "{number}: {failed:?}");
            assert!(failed.reasons[&1].starts_with("retries_exhausted after 2 attempts: "), "{failed:?}");
        }
    }
}

#[test]
fn interim_answers_are_passed_over() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| {
            let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20);
            bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n");
            bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            Answer::raw(bytes)
        });
        let mut run = Run::new("interim", mode, endpoint, json!({ "max_retries": 0 }));
        assert_eq!(run.send(10, plain), 0, "{:?}", failures(&run.stream));
        run.delivered();
        assert_eq!(run.endpoint.connections(), 1, "{mode}");
    }
}

#[test]
fn answers_in_old_and_odd_http_are_answers() {
    let odd = [
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok",
        "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nno length",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nno size\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 8\r\n\r\nnot gzip",
    ];
    for (number, answer) in odd.into_iter().enumerate() {
        let endpoint = Endpoint::start(move |_| Answer::raw(answer).closing());
        let stream = format!("odd-{number}");
        let sink = Sink::open(&config(&endpoint.url(), "individual", json!({ "max_retries": 0 })));
        let code = sink.consume(&Batch::numbered(5).from_stream(&stream));
        assert_eq!(code, 0, "{answer:?}: {:?}", failures(&stream));
        let mut taken: Vec<u64> =
            endpoint.requests().iter().flat_map(|request| numbers(&request.body)).collect();
        taken.dedup();
        assert_eq!(taken, (0..5).collect::<Vec<_>>(), "{answer:?}");
    }
}

#[test]
fn a_connection_closed_without_an_answer_spends_a_retry_where_it_was_new() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::hang_up());
        let mut run =
            Run::new("hung-up", mode, endpoint, json!({ "max_retries": 2, "max_batch_messages": 1 }));
        assert_eq!(run.send(4, plain), 1);
        let settled = run.settled();
        assert_eq!((settled.exchanges.len(), settled.failed.reasons.len()), (12, 4), "{mode}");
        assert!(
            settled.failed.reasons[&0].starts_with("retries_exhausted after 3 attempts: closed"),
            "{mode}"
        );
    }
}

#[test]
fn other_statuses_are_what_the_lists_say() {
    for mode in MODES {
        for status in [101, 204, 205, 206, 300, 304, 307, 418, 451, 599, 600, 999] {
            let name = format!("status-{status}");
            let mut run = Run::new(&name, mode, Endpoint::answering(status), json!({ "max_retries": 1 }));
            let code = run.send(3, plain);
            // No settled(): 205 and 206 are success to the endpoint alone.
            let failed = failures(&run.stream);
            if status == 204 {
                assert_eq!((code, failed.count), (0, 0), "{mode}: {status}");
                continue;
            }
            assert_eq!((code, failed.count), (1, 3), "{mode}: {status}");
            let reason = &failed.reasons[&0];
            let expected = match status {
                599 => "retries_exhausted, status 599 after 2 attempts".to_owned(),
                _ => format!("rejected, status {status} after 1 attempt"),
            };
            assert!(reason.starts_with(&expected), "{mode}: {reason}");
        }
    }
}

#[test]
fn a_content_length_that_is_too_long_or_too_short_mixes_up_no_answers() {
    for mode in MODES {
        for (number, length) in ["100", "2", "0"].into_iter().enumerate() {
            let endpoint = Endpoint::start(move |request| {
                // What stands behind the end would refuse the next message.
                let answer = Answer::status(200)
                    .header("content-length", length)
                    .body("okHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
                if request.index % 2 == 0 { answer.closing() } else { answer }
            });
            let more = json!({ "timeout": "300ms", "max_retries": 1, "max_batch_messages": 1 });
            let mut run = Run::new(&format!("length-{number}"), mode, endpoint, more);
            assert_eq!(run.send(6, plain), 0, "{length}: {:?}", failures(&run.stream));
            run.delivered();
        }
    }
}

// ---- Close ----

#[test]
fn close_during_retries_settles_what_is_on_its_way() {
    for mode in MODES {
        let more = json!({
            "close_timeout": "100ms", "max_retries": 1_000_000, "retry_delay": "20ms", "max_retry_delay": "1h",
            "concurrency": 4, "ordering": "none", "max_batch_messages": 1,
        });
        let run = Run::new("closed-retries", mode, Endpoint::answering(503), more);
        let batch = Batch::numbered(20).from_stream(&run.stream);
        let code = thread::scope(|scope| {
            let consuming = scope.spawn(|| run.sink.consume(&batch));
            run.endpoint.wait_for_requests(6, PATIENCE);
            assert_eq!(plugin().close(run.sink.id), 0, "{mode}");
            consuming.join().unwrap()
        });
        assert_eq!(code, 1, "{mode}");
        let failed = failures(&run.stream);
        assert_eq!(failed.count, 20, "{mode}: {failed:?}");
        assert!(failed.reasons.values().all(|reason| reason.starts_with("closed")), "{mode}: {failed:?}");
    }
}

#[test]
fn close_lets_requests_on_their_way_finish_within_its_time() {
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(300)));
    let run = Run::new("closing-time", "nd_json", endpoint, json!({ "close_timeout": "30s" }));
    let batch = Batch::numbered(20).from_stream(&run.stream);
    thread::scope(|scope| {
        let consuming = scope.spawn(|| run.sink.consume(&batch));
        run.endpoint.wait_for_requests(1, PATIENCE);
        assert_eq!(plugin().close(run.sink.id), 0);
        assert_eq!(consuming.join().unwrap(), 0);
    });
    assert_eq!(failures(&run.stream).count, 0);
}

#[test]
fn close_ends_a_wait_for_the_breaker() {
    for mode in MODES {
        let more = json!({
            "circuit_breaker": { "failure_threshold": 1, "cool_down": "1m" }, "max_batch_messages": 1,
        });
        let run = Run::new("closed-breaker", mode, Endpoint::answering(503), more);
        let batch = Batch::numbered(20).from_stream(&run.stream);
        let code = thread::scope(|scope| {
            let consuming = scope.spawn(|| run.sink.consume(&batch));
            eventually("the breaker opens", || breaker_opened(&run.endpoint) == 1);
            let began = Instant::now();
            assert_eq!(plugin().close(run.sink.id), 0, "{mode}");
            assert!(began.elapsed() < PATIENCE, "{mode}: {:?}", began.elapsed());
            consuming.join().unwrap()
        });
        assert_eq!((code, failures(&run.stream).count), (1, 20), "{mode}");
        assert_eq!(run.endpoint.requests().len(), 1, "{mode}");
    }
}

// ---- What a request says about itself ----

#[test]
fn the_retry_count_begins_with_the_first_retry() {
    for mode in MODES {
        let endpoint = Endpoint::start(failing_first(4, 503));
        let mut run = Run::new("retry-count", mode, endpoint, json!({ "max_retries": 4 }));
        assert_eq!(run.send(2, plain), 0);
        let exchanges = run.delivered().exchanges;
        let counts: Vec<_> =
            exchanges.iter().map(|exchange| exchange.request.header("x-retry-count")).collect();
        assert_eq!(counts[..5], [None, Some("1"), Some("2"), Some("3"), Some("4")], "{mode}");
        assert!(counts[5..].iter().all(Option::is_none), "{mode}: {counts:?}");
    }
}

#[test]
fn the_idempotency_key_is_the_same_over_retries_and_its_own_for_each_body() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            Answer::status(if request.header("x-retry-count") == Some("2") { 200 } else { 503 })
        });
        let mut run = Run::new("keys", mode, endpoint, json!({ "max_batch_messages": 2 }));
        assert_eq!(run.send(10, plain), 0);
        let mut keys: BTreeMap<Vec<u8>, BTreeSet<String>> = BTreeMap::new();
        for exchange in run.delivered().exchanges {
            let key = exchange.request.header("idempotency-key").unwrap().to_owned();
            keys.entry(exchange.request.body).or_default().insert(key);
        }
        assert!(keys.values().all(|keys| keys.len() == 1), "{mode}: {keys:?}");
        let different: BTreeSet<_> = keys.values().flatten().collect();
        assert_eq!(different.len(), if BODIES_OF_MANY.contains(&mode) { 5 } else { 10 }, "{mode}");
    }
}

#[test]
fn a_message_sent_alone_has_its_key_again_when_it_is_consumed_again() {
    for mode in ["individual", "raw"] {
        let endpoint = Endpoint::answering(200);
        let keys = |sink: &Sink, from: usize| -> Vec<String> {
            assert_eq!(sink.consume(&Batch::numbered(5).from_stream(&format!("again-{mode}"))), 0);
            let requests = endpoint.requests();
            requests[from..]
                .iter()
                .map(|request| request.header("idempotency-key").unwrap().to_owned())
                .collect()
        };
        let sink = Sink::open(&config(&endpoint.url(), mode, json!({})));
        let first = keys(&sink, 0);
        let again = keys(&sink, 5);
        drop(sink);
        let reopened = keys(&Sink::open(&config(&endpoint.url(), mode, json!({}))), 10);
        assert_eq!(first, again, "{mode}");
        assert_eq!(first, reopened, "{mode}: over a restart");
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 5, "{mode}");
    }
}

#[test]
fn the_headers_of_retries_and_keys_can_be_renamed_and_turned_off() {
    let busy_once = || Endpoint::start(failing_first(1, 503));
    let more = json!({ "idempotency_header": "X-Dedup", "retry_count_header": "X-Tries" });
    let mut run = Run::new("renamed", "individual", busy_once(), more);
    assert_eq!(run.send(1, plain), 0);
    let requests = run.endpoint.requests();
    assert_eq!(requests[0].header("x-dedup").unwrap().len(), 32);
    assert_eq!(requests[0].header("x-dedup"), requests[1].header("x-dedup"));
    assert_eq!((requests[0].header("x-tries"), requests[1].header("x-tries")), (None, Some("1")));
    for request in &requests {
        assert_eq!((request.header("idempotency-key"), request.header("x-retry-count")), (None, None));
    }

    let more = json!({ "idempotency_header": "", "retry_count_header": "" });
    let mut run = Run::new("turned-off", "individual", busy_once(), more);
    assert_eq!(run.send(1, plain), 0);
    for request in run.endpoint.requests() {
        assert_eq!((request.header("idempotency-key"), request.header("x-retry-count")), (None, None));
    }
}

// ---- How often and how fast ----

#[test]
fn max_retries_are_spent_exactly_by_each_body() {
    for mode in MODES {
        for retries in [0, 1, 5] {
            let more = json!({ "max_retries": retries, "max_batch_messages": 2 });
            let mut run = Run::new(&format!("spent-{retries}"), mode, Endpoint::answering(500), more);
            assert_eq!(run.send(6, plain), 1);
            let bodies = if BODIES_OF_MANY.contains(&mode) { 3 } else { 6 };
            let settled = run.settled();
            assert_eq!(settled.exchanges.len(), bodies * (retries + 1), "{mode}: {retries}");
            let reason = &settled.failed.reasons[&0];
            let attempts = format!("after {} attempt", retries + 1);
            assert!(
                reason.starts_with("retries_exhausted, status 500") && reason.contains(&attempts),
                "{reason}"
            );
        }
    }
}

#[test]
fn without_jitter_the_whole_backoff_is_waited() {
    let more = json!({
        "retry_jitter": "none", "retry_delay": "40ms", "retry_backoff_multiplier": 2, "max_retry_delay": "100ms",
        "max_retries": 4,
    });
    let mut run = Run::new("no-jitter", "individual", Endpoint::start(failing_first(4, 503)), more);
    assert_eq!(run.send(1, plain), 0);
    let exchanges = run.delivered().exchanges;
    for (pair, wait) in exchanges.windows(2).zip([40, 80, 100, 100]) {
        let waited = pair[1].request.at - pair[0].answered.unwrap();
        // The clock that the backoff is read from and the timers tell milliseconds.
        assert!(waited >= Duration::from_millis(wait - 2), "{waited:?} instead of {wait} ms");
    }
}

/// How long it takes to send so many messages of 100 bytes under a limit.
fn time_limited(name: &str, mode: &str, limit: Value, batches: u64) -> Duration {
    let keys = json!({ "rate_limit": limit, "concurrency": 8, "ordering": "none" });
    let mut run = Run::new(name, mode, Endpoint::answering(200), keys);
    let began = Instant::now();
    for _ in 0..batches {
        assert_eq!(run.send(20 / batches, |n| format!("{:<100}", plain(n))), 0);
    }
    let took = began.elapsed();
    run.delivered();
    took
}

#[test]
fn rates_of_requests_messages_and_bytes_are_kept() {
    let took = time_limited("rate-requests", "individual", json!({ "requests_per_second": 50 }), 1);
    assert!(took >= Duration::from_millis(350), "{took:?}");
    let took = time_limited("rate-messages", "nd_json", json!({ "messages_per_second": 50 }), 5);
    // The last of five bodies of four messages waits for those before.
    assert!(took >= Duration::from_millis(4 * 80 - 30), "{took:?}");
    let took = time_limited("rate-bytes", "raw", json!({ "bytes_per_second": 5000 }), 1);
    assert!(took >= Duration::from_millis(350), "{took:?}");
}

// ---- All at once ----

#[test]
fn among_faults_of_every_kind_each_message_has_one_outcome() {
    for (seed, mode) in (0..).zip(MODES) {
        for (ordering, concurrency) in [("none", 8), ("partition", 1)] {
            let attempts: Arc<Mutex<HashMap<Vec<u8>, u64>>> = Arc::default();
            let lost = Arc::new(AtomicUsize::new(0));
            let endpoint = Endpoint::start({
                let lost = lost.clone();
                move |request| {
                    let attempt = {
                        let mut attempts = attempts.lock().unwrap();
                        let attempt = attempts.entry(request.body.clone()).or_default();
                        *attempt += 1;
                        *attempt
                    };
                    if request.body.len() > 1500 {
                        return Answer::status(413);
                    }
                    if holds(request, "poison") {
                        return Answer::status(422);
                    }
                    let ok = Answer::status(200).after(Duration::from_millis(dice(seed, attempt) % 4));
                    match dice(seed, numbers(&request.body)[0] * 1000 + attempt) % 12 {
                        0 => Answer::status(503),
                        1 => Answer::status(500).body("oops").cut_after(2),
                        2 => Answer::reset(),
                        3 => Answer::hang_up(),
                        4 => Answer::status(429).header("Retry-After", "0"),
                        5 => Answer::raw("garbage\r\n\r\n").closing(),
                        6 => {
                            lost.fetch_add(1, SeqCst);
                            Answer::raw("HTTP/1.1 200 O").cut_after(14)
                        }
                        7 => ok.closing(),
                        8 => ok.body("thanks").cut_after(1),
                        _ => ok,
                    }
                }
            });
            let more = json!({
                "ordering": ordering, "concurrency": concurrency, "max_retries": 20, "max_batch_messages": 40,
                "circuit_breaker": { "failure_threshold": 6, "cool_down": "2ms" },
            });
            let mut run = Run::new(&format!("soup-{ordering}"), mode, endpoint, more);
            for _ in 0..3 {
                run.send(100, |n| if n % 97 == 13 { poisoned(n, &[n]) } else { padded(n, 60) });
            }
            let settled = run.settled_at_least_once();
            assert_eq!(
                settled.failed.reasons.keys().copied().collect::<Vec<_>>(),
                [13, 110, 207],
                "{mode}: {:?}",
                settled.failed
            );
            let once: BTreeSet<u64> = settled.taken.iter().copied().collect();
            assert!(
                settled.taken.len() - once.len() <= 40 * lost.load(SeqCst),
                "{mode}: more twice than answers lost"
            );
            eventually("nothing is left on its way", || run.endpoint.in_flight() == 0);
        }
    }
}
