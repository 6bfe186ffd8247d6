//! The breaker.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use serde_json::{Value, json};

use super::{MODES, Run, breaker_opened, failing_first, plain};
use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint},
    plugin::logged,
};

/// How often the breaker before this endpoint closed again.
fn breaker_closed(endpoint: &Endpoint) -> usize {
    logged(&format!("{} is back", endpoint.origin())).len()
}

/// That of [`breaker`].
const COOL_DOWN: Duration = Duration::from_millis(50);

/// A breaker that opens after this many failures. Its first probe comes after `retry_delay`, here as late as all others.
fn breaker(failure_threshold: u32, more: Value) -> Value {
    let breaker = json!({
        "circuit_breaker": { "failure_threshold": failure_threshold, "cool_down": "50ms" },
        "retry_delay": "50ms",
        "max_retry_delay": "50ms",
    });
    with(breaker, more)
}

#[test]
fn the_breaker_opens_probes_and_closes_and_all_arrives() {
    for mode in MODES {
        let more = breaker(3, json!({}));
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
        let more = breaker(3, json!({ "concurrency": 8, "ordering": "none", "max_retries": 8 }));
        let mut run = Run::new("wide-breaker", mode, Endpoint::start(failing_first(40, 500)), more);
        assert_eq!(run.send(100, plain), 0);
        let settled = run.delivered();
        assert_eq!((breaker_opened(&run.endpoint), breaker_closed(&run.endpoint)), (1, 1), "{mode}");
        // Those that were under way together count once, so it takes three times as many to open it. Then come a few early
        // probes of messages that have not failed, and then one each time.
        for pair in settled.exchanges[3 * 8 + 5..41].windows(2) {
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
    assert!(settled.exchanges.iter().any(|exchange| exchange.status.is_none()), "no connection was closed");
    assert_eq!((breaker_opened(&run.endpoint), breaker_closed(&run.endpoint)), (1, 0));
}
