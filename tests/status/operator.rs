//! What an operator can do, with the token.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{TOKEN, address, ask, open, post, report, shown};
use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, logged},
    spooled::{SOON, taken, wait_until},
};

#[test]
fn a_wrong_token_is_401_and_a_page_of_another_site_403() {
    let endpoint = Endpoint::answering(200);
    let sink = open(&endpoint.url(), json!({}));
    let address = address(&sink);
    let pause = format!("/connectors/{}/pause", sink.id);
    for (headers, status) in [
        (vec![], 401),
        (vec![("authorization", "Bearer wrong-wrong-wrong-wrong")], 401),
        (vec![("authorization", "Bearer ")], 401),
    ] {
        assert_eq!(ask(address, "POST", &pause, &headers).status, status, "{headers:?}");
    }
    assert_eq!(post(address, &pause, &[("origin", "http://evil.example")]).status, 403);
    assert_eq!(post(address, &pause, &[("origin", "null")]).status, 403);
    assert_eq!(report(address)["connectors"][0]["endpoints"][0]["state"], "idle", "nothing was paused");
    assert_eq!(post(address, &pause, &[("origin", &format!("http://{address}"))]).status, 200);
    assert_eq!(post(address, "/connectors/999999/pause", &[]).status, 404);
    assert_eq!(post(address, &format!("/connectors/{}/explode", sink.id), &[]).status, 404);
    assert_eq!(ask(address, "GET", &pause, &[("authorization", &format!("Bearer {TOKEN}"))]).status, 404);
}

#[test]
fn without_a_token_nothing_can_be_changed() {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&shown(&endpoint.url(), json!({})));
    let address = address(&sink);
    assert_eq!(ask(address, "POST", &format!("/connectors/{}/pause", sink.id), &[]).status, 403);
    assert!(!super::client::get(address, "/").body.contains("<button"));
}

#[test]
fn what_is_paused_goes_on_when_it_is_resumed() {
    let endpoint = Endpoint::answering(200);
    let folder = tempfile::tempdir().unwrap();
    let spool =
        json!({ "spool": { "path": folder.path() }, "close_timeout": "1s", "include_metadata": false });
    let sink = open(&endpoint.url(), spool);
    let address = address(&sink);
    let act = |action: &str| post(address, &format!("/connectors/{}/{action}", sink.id), &[]).status;
    let endpoint_report = || report(address)["connectors"][0]["endpoints"][0].clone();
    assert_eq!(act("pause"), 200);
    assert_eq!(sink.consume(&Batch::numbered(3)), 0);
    wait_until("a request that waits", || endpoint_report()["waiting"] == 1);
    assert_eq!(endpoint_report()["state"], "paused");
    let lane = report(address)["connectors"][0]["lanes"][0].clone();
    assert_eq!(lane["waits"], "an operator paused the endpoint", "{lane:#}");
    assert_eq!(ask(address, "GET", "/ready", &[]).status, 503);
    assert_eq!(endpoint.requests().len(), 0);
    assert_eq!(act("resume"), 200);
    wait_until("all messages", || taken(&endpoint) == [0, 1, 2]);
    assert_eq!(ask(address, "GET", "/ready", &[]).status, 200);
    for did in ["pauses delivery", "resumes delivery"] {
        assert_eq!(logged(&format!("connector {}: an operator {did}", sink.id)).len(), 1, "{did}");
    }
    // The page comes back to itself.
    let answer = post(address, &format!("/connectors/{}/resume", sink.id), &[("accept", "text/html,*/*")]);
    assert!(answer.status == 303 && answer.head.contains("location: /\r\n"), "{answer:?}");
}

/// The endpoint asked for a pause of hours, or retries are hours apart; an operator knows better.
fn retried_now(more: Value, first: Answer) {
    let endpoint = Endpoint::sequence(vec![first]);
    let sink = open(&endpoint.url(), with(json!({ "include_metadata": false, "close_timeout": "1s" }), more));
    let address = address(&sink);
    std::thread::scope(|scope| {
        let consume = scope.spawn(|| sink.consume(&Batch::numbered(1)));
        endpoint.wait_for_requests(1, SOON);
        let failed = || report(address)["connectors"][0]["endpoints"][0]["failures_in_a_row"] == 1;
        wait_until("a failure", failed);
        // It may not wait yet; what it asks for is there for who begins to wait later only as far as the endpoint is concerned.
        let began = std::time::Instant::now();
        while endpoint.requests().len() < 2 {
            assert!(began.elapsed() < SOON, "it is not sent again");
            assert_eq!(post(address, &format!("/connectors/{}/retry", sink.id), &[]).status, 200);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(consume.join().unwrap(), 0);
    });
    wait_until("a delivery", || taken(&endpoint) == [0]);
    assert!(!logged(&format!("connector {}: an operator ends all waits", sink.id)).is_empty());
}

const LONG: &str = "3h";

#[test]
fn retry_now_ends_the_wait_between_attempts() {
    let waits = json!({ "retry_delay": LONG, "max_retry_delay": LONG, "retry_jitter": "none", "max_retry_duration": "12h" });
    retried_now(waits, Answer::status(503));
}

#[test]
fn retry_now_ends_the_pause_that_the_endpoint_asked_for() {
    let pause = json!({ "max_retry_after": LONG, "max_retry_duration": "12h" });
    retried_now(pause, Answer::status(429).header("Retry-After", "10000"));
}

#[test]
fn retry_now_makes_a_probe_of_the_breaker_due() {
    let breaker = json!({ "circuit_breaker": { "failure_threshold": 1, "cool_down": LONG }, "retry_delay": LONG, "max_retry_delay": LONG, "max_retry_duration": "12h" });
    retried_now(breaker, Answer::status(503));
}

#[test]
fn retry_now_reaches_what_waits_in_a_spool() {
    let waits = json!({ "retry_delay": LONG, "max_retry_delay": LONG, "retry_jitter": "none", "circuit_breaker": { "failure_threshold": 1, "cool_down": LONG } });
    for ordering in [
        json!({}),
        json!({ "ordering": "key", "ordering_key": "{payload:/n}" }),
        json!({ "ordering": "none" }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let spool = with(json!({ "spool": { "path": folder.path() } }), ordering);
        retried_now(with(waits.clone(), spool), Answer::status(503));
    }
}
