//! How often and when a request is sent again, and what it then says about itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;

use super::{BODIES_OF_MANY, MODES, Run, config, failing_first, plain};
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink},
};

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
