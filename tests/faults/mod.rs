//! Endpoints at their worst, counted at both ends: each message is taken once, or named as failed.

mod all_at_once;
mod answers;
mod breaker;
mod deadline_and_close;
mod isolation;
mod outage_lines;
mod pauses;
mod retries;
mod secrets;
mod too_large;
mod transport;

use std::{
    collections::{BTreeSet, HashMap},
    thread,
    time::{Duration, Instant},
};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Exchange, Request},
    plugin::{Batch, Failures, Sink, failures, logged, plugin},
};

/// All modes.
const MODES: [&str; 4] = ["individual", "nd_json", "json_array", "raw"];
/// The modes whose bodies hold many messages.
const BODIES_OF_MANY: [&str; 2] = ["nd_json", "json_array"];
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration of this mode.
fn config(url: &str, mode: &str, keys: Value) -> Value {
    crate::support::config::config(url, with(json!({ "batch_mode": mode }), keys))
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

/// Whether this word stands in the body.
fn holds(request: &Request, word: &str) -> bool {
    String::from_utf8_lossy(&request.body).contains(word)
}

/// Message `n`, of `size` bytes or a few more.
fn padded(n: u64, size: usize) -> String {
    format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(size.saturating_sub(15)))
}

/// Message `n` and nothing else.
fn plain(n: u64) -> String {
    format!("{{\"n\":{n}}}")
}

/// Message `n`, which is marked if it is one of these.
fn poisoned(n: u64, bad: &[u64]) -> String {
    if bad.contains(&n) { format!("{{\"n\":{n},\"poison\":true}}") } else { plain(n) }
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
    /// A sink that is open and has been sent nothing; its stream is named after the test and the mode.
    fn new(name: &str, mode: &str, endpoint: Endpoint, keys: Value) -> Self {
        let sink = Sink::open(&config(&endpoint.url(), mode, keys));
        Self { endpoint, sink, stream: format!("{name}-{mode}"), sent: 0, failing: 0 }
    }

    /// Consumes the next messages; returns what consume did.
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
        // It tells what failed and was not told at once; a test may have closed it before.
        plugin().close(self.sink.id);
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

/// An endpoint that fails the first requests, this many.
fn failing_first(failing: usize, status: u16) -> impl Fn(&Request) -> Answer {
    move |request| Answer::status(if request.index < failing { status } else { 200 })
}

/// How often the breaker before this endpoint opened because requests kept failing.
fn breaker_opened(endpoint: &Endpoint) -> usize {
    let told = logged(&format!("{} keeps failing", endpoint.origin()));
    told.iter().filter(|line| line.contains("circuit breaker")).count()
}
