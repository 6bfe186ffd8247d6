//! What is shown is what happens.

use iggy_connector_sdk::Schema;
use serde_json::json;

use super::client::{address, get, metric, shown, status};
use crate::support::{
    endpoint::{Answer, Endpoint, refused_url},
    plugin::{Batch, Sink},
    spooled::{self, wait_until},
};

#[test]
fn metrics_agree_with_what_the_endpoint_saw() {
    // Of the body of ten, message 7 is bad; and the first answer is 503.
    let endpoint = Endpoint::start(|request| match request.index {
        0 => Answer::status(503),
        _ if spooled::numbers(request).contains(&7) => Answer::status(400),
        _ => Answer::status(200),
    });
    let folder = tempfile::tempdir().unwrap();
    let config = shown(
        &endpoint.url(),
        json!({
            "batch_mode": "nd_json",
            "include_metadata": false,
            "retry_delay": "1ms",
            "dead_letter": { "path": folder.path() },
        }),
    );
    let sink = Sink::open(&config);
    let address = address(&sink);
    assert_eq!(sink.consume(&Batch::numbered(10).from_stream("agree \"\\ment")), 0);
    let seen = |status: u16| {
        endpoint.exchanges().iter().filter(|exchange| exchange.status == Some(status)).count() as f64
    };
    let (id, origin) = (sink.id, endpoint.origin());
    let of_endpoint = format!("connector=\"{id}\",endpoint=\"{origin}\"");
    let of_topic = format!("connector=\"{id}\",stream=\"agree \\\"\\\\ment\",topic=\"topic\"");
    for code in [200, 400, 503] {
        assert!(seen(code) > 0.0, "{code}");
        let sample = format!("http_sink_requests_total{{{of_endpoint},status=\"{code}\"}}");
        assert_eq!(metric(address, &sample), seen(code), "{sample}");
    }
    let requests = endpoint.requests();
    let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
    for (sample, value) in [
        (format!("http_sink_messages_total{{{of_topic},outcome=\"delivered\"}}"), 9.0),
        (format!("http_sink_messages_total{{{of_topic},outcome=\"dead_lettered\"}}"), 1.0),
        (format!("http_sink_messages_total{{{of_topic},outcome=\"failed\"}}"), 0.0),
        (format!("http_sink_dead_letters_total{{{of_topic},reason=\"rejected\"}}"), 1.0),
        (format!("http_sink_retries_total{{{of_endpoint},cause=\"503\"}}"), 1.0),
        (format!("http_sink_request_duration_seconds_count{{{of_endpoint}}}"), requests.len() as f64),
        (format!("http_sink_request_body_bytes_total{{{of_endpoint}}}"), bytes as f64),
        (format!("http_sink_isolated_messages_total{{{of_endpoint}}}"), 1.0),
        (format!("http_sink_requests_in_flight{{{of_endpoint}}}"), 0.0),
        (format!("http_sink_breaker_state{{{of_endpoint},state=\"closed\"}}"), 1.0),
        (format!("http_sink_ready{{connector=\"{id}\"}}"), 1.0),
    ] {
        assert_eq!(metric(address, &sample), value, "{sample} in {}", get(address, "/metrics").body);
    }
    assert!(metric(address, &format!("http_sink_dead_letter_bytes{{connector=\"{id}\"}}")) > 0.0);
    let blocked = format!("http_sink_consume_blocked_seconds_total{{connector=\"{id}\",cause=\"delivery\"}}");
    assert!(metric(address, &blocked) > 0.0);
    let status = status(address);
    assert_eq!(status["connectors"][0]["dead_letters"]["by_reason"]["rejected"], 1, "{status:#}");
}

#[test]
fn ready_says_why_nothing_gets_through_while_the_endpoint_is_away() {
    let endpoint = Endpoint::answering(200);
    let (port, origin) = (endpoint.port(), endpoint.origin());
    let folder = tempfile::tempdir().unwrap();
    let config = shown(
        &endpoint.url(),
        json!({ "spool": { "path": folder.path().join("s") }, "dead_letter": { "path": folder.path().join("d") }, "close_timeout": "1s" }),
    );
    let sink = Sink::open(&config);
    let address = address(&sink);
    let state = || status(address)["connectors"][0]["endpoints"][0].clone();
    assert_eq!(state()["state"], "idle");
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    wait_until("a delivery", || state()["state"] == "delivering");
    assert_eq!((get(address, "/ready").status, get(address, "/ready").body), (200, "ready\n".to_owned()));
    drop(endpoint);
    assert_eq!(sink.consume(&Batch::numbered(2).from_offset(1)), 0);
    wait_until("503", || get(address, "/ready").status == 503);
    let reasons = get(address, "/ready").body;
    assert!(reasons.contains(&origin) && reasons.contains("connect: "), "{reasons}");
    let away = state();
    assert!(["retrying", "breaker_open"].contains(&away["state"].as_str().unwrap()), "{away:#}");
    assert!(
        away["last_error"].as_str().unwrap().contains("connect") && away["failing_since"].is_string(),
        "{away:#}"
    );
    assert_eq!(get(address, "/live").status, 200);
    let page = get(address, "/").body;
    assert!(page.contains("Not everything gets through") && page.contains(&origin), "{page}");
    let endpoint = Endpoint::start_on(port, |_| Answer::status(200));
    wait_until("200", || get(address, "/ready").status == 200);
    wait_until("all messages", || endpoint.requests().len() >= 2);
    assert!(get(address, "/").body.contains("Everything gets through"));
}

#[test]
fn lanes_show_what_waits_and_why_its_head_does() {
    let endpoint = Endpoint::start(|_| Answer::status(503).body("try <b>later</b>"));
    let folder = tempfile::tempdir().unwrap();
    let more = json!({ "spool": { "path": folder.path() }, "close_timeout": "1s" });
    let sink = Sink::open(&shown(&endpoint.url(), more));
    let address = address(&sink);
    let stream = "lanes<script>alert(1)</script>\u{202e}";
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream(stream)), 0);
    let lane = || status(address)["connectors"][0]["lanes"][0].clone();
    wait_until("the reason why the lane waits", || lane()["waits"].is_string());
    let shown = lane();
    assert_eq!(
        (&shown["stream"], &shown["topic"], &shown["partition"]),
        (&json!(stream), &json!("topic"), &json!(1))
    );
    assert_eq!(shown["messages"], 1, "{shown:#}");
    assert!(shown["oldest_seconds"].is_u64(), "{shown:#}");
    assert!(
        shown["waits"].as_str().unwrap().contains("503 Service Unavailable: try <b>later</b>"),
        "{shown:#}"
    );
    let messages = get(address, "/metrics").body;
    assert!(
        messages.lines().any(|line| line.starts_with("http_sink_spool_messages{") && line.ends_with(" 1")),
        "{messages}"
    );
    assert!(messages.contains("http_sink_spool_oldest_age_seconds{"), "{messages}");
    let page = get(address, "/").body;
    assert!(page.contains("try &lt;b&gt;later&lt;/b&gt;"), "{page}");
    for wrong in ["<b>later", "<script>alert", "\u{202e}"] {
        assert!(!page.contains(wrong), "{wrong} in {page}");
    }
}

#[test]
fn a_consume_that_waits_is_seen_while_it_does() {
    let sink =
        Sink::open(&shown(&refused_url(), json!({ "max_retry_duration": "2s", "close_timeout": "1s" })));
    let address = address(&sink);
    std::thread::scope(|scope| {
        let consume = scope.spawn(|| sink.consume(&Batch::numbered(1).from_stream("waiting consume")));
        let calls = format!("http_sink_consume_calls{{connector=\"{}\"}}", sink.id);
        wait_until("a call", || metric(address, &calls) == 1.0);
        assert_ne!(consume.join().unwrap(), 0);
        assert_eq!(metric(address, &calls), 0.0);
    });
    let failed = r#"stream="waiting consume",topic="topic",outcome="failed"}"#;
    let sample = format!("http_sink_messages_total{{connector=\"{}\",{failed}", sink.id);
    assert_eq!(metric(address, &sample), 1.0);
}

#[test]
fn secrets_are_shown_nowhere() {
    let endpoint = Endpoint::start(|request| Answer::status(500).body(request.path.clone()));
    let url =
        endpoint.origin().replace("http://", "http://user:hunter2-hunter2@") + "/services/T0SECRETSECRET/x";
    let config = shown(
        &url,
        json!({
            "headers": { "Authorization": "Bearer s3cr3t-s3cr3t" },
            "retry_delay": "1ms",
            "max_retries": 1,
            "status": { "address": "127.0.0.1:0", "token": "t0ken-t0ken-t0ken" },
        }),
    );
    let sink = Sink::open(&config);
    let address = address(&sink);
    assert_ne!(sink.consume(&Batch::of(Schema::Raw, ["x"]).from_stream("secret status")), 0);
    for path in ["/", "/metrics", "/api/status", "/ready"] {
        let answer =
            super::client::ask(address, "GET", path, &[("authorization", "Bearer t0ken-t0ken-t0ken")]);
        assert_eq!(answer.status, 200, "{answer:?}");
        for secret in ["hunter2", "T0SECRET", "s3cr3t", "t0ken"] {
            assert!(!answer.body.contains(secret), "{secret} at {path}: {}", answer.body);
        }
    }
}

#[test]
fn each_endpoint_of_the_routes_is_shown_and_counted_once() {
    let (one, other) = (Endpoint::answering(200), Endpoint::answering(404));
    let route = |topic: &str, url: String| json!({ "topic": topic, "url": url });
    let sink = Sink::open(&shown(
        &format!("{}/own", one.url()),
        json!({ "routes": [
            route("a", format!("{}/a", one.url())), route("b", format!("{}/b", other.url())), route("c", format!("{}/c", one.url())),
        ] }),
    ));
    let address = address(&sink);
    for (topic, code) in [("a", 0), ("b", 1), ("c", 0), ("d", 0)] {
        assert_eq!(sink.consume(&Batch::numbered(2).from_topic(topic)), code);
    }
    let report = status(address);
    let endpoints = report["connectors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|of| of["connector"] == sink.id)
        .unwrap()["endpoints"]
        .as_array()
        .unwrap();
    let shown: Vec<&str> = endpoints.iter().map(|endpoint| endpoint["endpoint"].as_str().unwrap()).collect();
    assert_eq!(shown, [one.origin(), other.origin()]);
    assert!(endpoints[1]["last_error"].as_str().unwrap().contains("404"));
    for (origin, code, count) in [(one.origin(), 200, 6.0), (other.origin(), 404, 2.0)] {
        let labels = format!("connector=\"{}\",endpoint=\"{origin}\",status=\"{code}\"", sink.id);
        assert_eq!(metric(address, &format!("http_sink_requests_total{{{labels}}}")), count);
    }
    let page = get(address, "/").body;
    assert!(page.contains(&one.origin()) && page.contains(&other.origin()));
}
