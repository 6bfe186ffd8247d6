//! What the log tells of an endpoint that is away.

use serde_json::json;

use super::{Run, eventually, plain};
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{logged, plugin},
};

/// What was logged of the endpoint after the line of open.
fn told(endpoint: &Endpoint) -> Vec<String> {
    let lines = logged(&endpoint.origin());
    lines.into_iter().filter(|line| !line.contains("is open: ")).collect()
}

#[test]
fn an_outage_is_one_line_when_it_begins_and_one_when_it_is_over() {
    let endpoint = Endpoint::start(|request| {
        if request.index < 12 { Answer::status(503).body("over\u{7}loaded") } else { Answer::status(200) }
    });
    let keys = json!({
        "batch_mode": "nd_json",
        "circuit_breaker": { "failure_threshold": 3, "cool_down": "20ms" },
        "retry_delay": "20ms",
        "max_retry_delay": "20ms",
    });
    let mut run = Run::new("outage-lines", "nd_json", endpoint, keys);
    assert_eq!(run.send(20, plain), 0);
    let lines = told(&run.endpoint);
    let [began, ended] = &lines[..] else { panic!("{lines:#?}") };
    let origin = run.endpoint.origin();
    let begins = format!(
        "WARN {origin} keeps failing: answered 503 Service Unavailable: over\\u{{7}}loaded (attempt 3 since 20"
    );
    assert!(began.starts_with(&begins), "{began}");
    for words in
        ["; next attempt in ", ", as the circuit breaker allows; the connector holds 20 messages in 1 batch"]
    {
        assert!(began.contains(words), "{words}: {began}");
    }
    assert!(ended.starts_with(&format!("INFO {origin} is back after ")), "{ended}");
    let ends = ": 12 attempts failed; meanwhile the connector settled 0 messages delivered, 0 dead-lettered, 0 failed; \
                the connector holds 20 messages in 1 batch";
    assert!(ended.ends_with(ends), "{ended}");
}

#[test]
fn with_a_spool_it_is_told_what_waits_there() {
    let endpoint = Endpoint::start(|request| Answer::status(if request.index < 4 { 503 } else { 200 }));
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({
        "batch_mode": "nd_json",
        "circuit_breaker": { "failure_threshold": 3, "cool_down": "20ms" },
        "spool": { "path": folder.path().join("spool") },
    });
    let mut run = Run::new("outage-of-a-spool", "nd_json", endpoint, keys);
    assert_eq!(run.send(20, plain), 0);
    eventually("it is back", || told(&run.endpoint).iter().any(|line| line.contains(" is back after ")));
    let lines = told(&run.endpoint);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].ends_with("; the connector holds 20 messages in 1 lane of the spool"), "{lines:#?}");
}

#[test]
fn one_that_goes_on_at_close_has_a_last_line() {
    let endpoint = Endpoint::answering(503);
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({
        "batch_mode": "nd_json",
        "circuit_breaker": { "failure_threshold": 3, "cool_down": "20ms" },
        "spool": { "path": folder.path().join("spool") },
        "close_timeout": "100ms",
    });
    let mut run = Run::new("away-at-close", "nd_json", endpoint, keys);
    assert_eq!(run.send(20, plain), 0);
    eventually("it is told", || !told(&run.endpoint).is_empty());
    assert_eq!(plugin().close(run.sink.id), 0);
    let lines = told(&run.endpoint);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let begins =
        format!("WARN {} is still away at close: answered 503 Service Unavailable (", run.endpoint.origin());
    assert!(lines[1].starts_with(&begins), "{lines:#?}");
    let ends = " ago); meanwhile the connector settled 0 messages delivered, 0 dead-lettered, 0 failed; \
                the connector holds 20 messages in 1 lane of the spool";
    assert!(lines[1].contains(" attempts failed since 20") && lines[1].ends_with(ends), "{lines:#?}");
}

#[test]
fn a_long_pause_is_told_at_once_and_short_ones_are_not() {
    let pauses = |seconds: &'static str| {
        Endpoint::start(move |request| {
            if request.index == 0 {
                Answer::status(429).header("Retry-After", seconds)
            } else {
                Answer::status(200)
            }
        })
    };
    let keys = json!({ "max_retry_duration": "1500ms", "max_retries": 0 });
    let mut long = Run::new("long-pause", "raw", pauses("30"), keys.clone());
    // The pause ends with the deadline, and then comes the last attempt.
    assert_eq!(long.send(1, plain), 0);
    let lines = told(&long.endpoint);
    let told_of =
        ["answered 429 Too Many Requests (attempt 1 since ", "; next attempt in ", ", as it asked for; "];
    assert!(told_of.iter().all(|words| lines[0].contains(words)), "{lines:#?}");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let mut short = Run::new("short-pause", "raw", pauses("1"), keys);
    assert_eq!(short.send(1, plain), 0);
    assert_eq!(told(&short.endpoint), [""; 0]);
}

#[test]
fn an_endpoint_that_comes_and_goes_does_not_fill_the_log() {
    let endpoint = Endpoint::start(|request| Answer::status(if request.index % 8 == 7 { 200 } else { 500 }));
    let keys =
        json!({ "max_retries": 10, "circuit_breaker": { "failure_threshold": 3, "cool_down": "1ms" } });
    let mut run = Run::new("comes-and-goes", "individual", endpoint, keys);
    assert_eq!(run.send(100, plain), 0);
    let lines = told(&run.endpoint);
    assert!((2..=4).contains(&lines.len()), "{lines:#?}");
    assert!(run.endpoint.exchanges().len() >= 800);
}

#[test]
fn a_fault_on_the_way_is_named() {
    let endpoint =
        Endpoint::start(|request| if request.index < 5 { Answer::hang_up() } else { Answer::status(200) });
    let mut run = Run::new(
        "hangs-up",
        "individual",
        endpoint,
        json!({ "max_retries": 9, "circuit_breaker": { "failure_threshold": 3, "cool_down": "1ms" } }),
    );
    assert_eq!(run.send(1, plain), 0);
    let lines = told(&run.endpoint);
    assert!(lines[0].contains("keeps failing: no answer, closed: "), "{lines:#?}");
}
