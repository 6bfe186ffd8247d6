//! The question at open whether the endpoint is there, through the built plugin.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, refused_url},
    plugin::{Sink, logged},
};

/// The shipped defaults but for the length of the waits.
fn config(url: &str, more: Value) -> Value {
    let quick =
        json!({ "url": url, "health_check_enabled": true, "retry_delay": "5ms", "max_retry_delay": "10ms" });
    with(quick, more)
}

/// What the connector said when it did not open, which names its endpoint.
#[track_caller]
fn why_not_open(url: &str, more: Value) -> String {
    assert_eq!(Sink::try_open(&config(url, more)).unwrap_err(), 1);
    // Of a URL no more is shown than scheme, host and port.
    let said = logged(&format!("health check failed: {} ", url.trim_end_matches("/in")));
    assert_eq!(said.len(), 1, "{said:?}");
    said[0].clone()
}

fn asked(endpoint: &Endpoint) -> usize {
    endpoint.requests().len()
}

#[test]
fn an_endpoint_that_is_well_is_asked_once_without_a_body() {
    for (method, key) in [("HEAD", json!({})), ("OPTIONS", json!({ "health_check_method": "OPTIONS" }))] {
        let endpoint = Endpoint::answering(200);
        let _sink = Sink::open(&config(&endpoint.url(), key));
        assert_eq!(asked(&endpoint), 1);
        assert_eq!(endpoint.requests()[0].method, method);
        assert!(endpoint.requests()[0].body.is_empty());
    }
}

#[test]
fn one_that_gets_well_opens() {
    let endpoint = Endpoint::sequence(vec![Answer::status(503), Answer::status(503)]);
    let _sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(asked(&endpoint), 3);
}

#[test]
fn one_that_never_gets_well_does_not_open_and_what_it_answered_is_told() {
    let endpoint = Endpoint::answering(503);
    let why = why_not_open(&endpoint.url(), json!({}));
    assert!(why.contains("answered 503 Service Unavailable to HEAD"), "{why}");
    assert!(why.ends_with("(asked 4 times)"), "{why}");
    assert_eq!(asked(&endpoint), 4);
}

#[test]
fn one_that_refuses_for_good_is_not_asked_again() {
    let endpoint = Endpoint::answering(404);
    let why = why_not_open(&endpoint.url(), json!({}));
    assert!(why.ends_with("(asked once)"), "{why}");
    assert_eq!(asked(&endpoint), 1);
}

#[test]
fn nobody_listening_is_asked_again_too() {
    let url = refused_url();
    let why = why_not_open(&url, json!({ "health_check_method": "GET", "max_retries": 1 }));
    assert!(why.contains("did not answer GET: connect: ") && why.ends_with("(asked 2 times)"), "{why}");
}

#[test]
fn held_answers_and_pauses_spend_no_retry() {
    let mut answers = vec![Answer::status(401); 5];
    answers.push(Answer::status(429).header("retry-after", "1"));
    let endpoint = Endpoint::sequence(answers);
    let began = Instant::now();
    let _sink = Sink::open(&config(&endpoint.url(), json!({ "hold_status_codes": [401], "max_retries": 0 })));
    assert_eq!(asked(&endpoint), 7);
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn the_deadline_ends_it() {
    let endpoint = Endpoint::answering(401);
    let more = json!({ "hold_status_codes": [401], "max_retry_duration": "300ms", "circuit_breaker": { "cool_down": "1ms" } });
    let began = Instant::now();
    let why = why_not_open(&endpoint.url(), more);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(why.contains("answered 401"), "{why}");
}

#[test]
fn with_a_spool_open_does_not_ask_for_hours() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::answering(503);
    let why = why_not_open(&endpoint.url(), json!({ "spool": { "path": folder.path().join("spool") } }));
    assert!(why.ends_with("(asked 4 times)"), "{why}");
}

#[test]
fn where_it_is_not_required_a_failure_is_a_warning() {
    let endpoint = Endpoint::answering(503);
    let _sink = Sink::open(&config(&endpoint.url(), json!({ "health_check_required": false })));
    let warned = logged(&format!("health check failed, and is not required: {}", endpoint.origin()));
    assert!(warned.len() == 1 && warned[0].starts_with("WARN "), "{warned:?}");
}
