//! `[[routes]]`: topics that go to endpoints of their own, or in requests of their own.

mod mistakes;
use std::{
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{
    batch,
    config::Config,
    dead_letter::{Folder, Record},
    preview::{Preview, Previewed},
};
use iggy_connector_sdk::{MessagesMetadata, RawMessage, Schema};
use serde_json::{Value, json};

use crate::support::{
    config::{config, with},
    endpoint::{Answer, Endpoint, Exchange, Request},
    plugin::{Batch, Sink, failures, logged, plugin},
    spooled,
};

/// The problems of a configuration, one a line.
fn told(config: Value) -> String {
    Config::from_json(&config).unwrap_err().to_string()
}

fn records(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    let add = |entry: iggy_connector_http_sink::dead_letter::Entry| {
        records.push(entry.record.unwrap());
        true
    };
    Folder::open(folder).unwrap().for_each(add).unwrap();
    records
}

/// The configuration without a `url`.
fn without_url(mut config: Value) -> Value {
    config.as_object_mut().unwrap().remove("url");
    config
}

fn taken(endpoint: &Endpoint) -> Vec<Request> {
    endpoint.exchanges().into_iter().filter(Exchange::is_success).map(|taken| taken.request).collect()
}

#[test]
fn the_first_route_that_matches_is_taken_with_its_own_keys_and_the_connectors() {
    let [own, orders] = [200, 200].map(Endpoint::answering);
    let more = json!({
        "batch_mode": "nd_json", "headers": { "X-Own": "1" }, "retry_count_header": "",
        "routes": [
            { "topic": "orders.*", "url": format!("{}/{{topic}}", orders.url()), "headers": { "X-Orders": "1" } },
            { "stream": "aud?t", "batch_mode": "raw" },
            { "topic": "orders.eu", "url": "http://127.0.0.1:1/never" },
        ],
    });
    let sink = Sink::open(&config(&own.url(), more));
    for (stream, topic) in [("s", "orders.eu"), ("audit", "orders.us"), ("audit", "x"), ("s", "x")] {
        assert_eq!(sink.consume(&Batch::numbered(2).from_stream(stream).from_topic(topic)), 0);
    }
    let orders = orders.requests();
    let paths: Vec<&str> = orders.iter().map(|request| &*request.path).collect();
    assert_eq!(paths, ["/in/orders.eu", "/in/orders.us"]);
    assert!(orders.iter().all(|request| {
        // The connector's headers are for its own endpoint.
        request.header("x-orders") == Some("1") && request.header("x-own").is_none()
    }));
    assert_eq!(orders[0].body, b"{\"n\":0}\n{\"n\":1}\n");
    let own = own.requests();
    let bodies: Vec<String> =
        own.iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect();
    assert_eq!(bodies, ["{\"n\":0}", "{\"n\":1}", "{\"n\":0}\n{\"n\":1}\n"]);
    assert!(own.iter().all(|request| request.header("x-own") == Some("1")));
    let warned = format!("connector {}: routes[2] is never taken: routes[0]", sink.id);
    assert!(logged(&warned).is_empty(), "orders.eu is not the same pattern as orders.*");
}

#[test]
fn what_no_route_takes_is_a_dead_letter_also_from_a_spool() {
    for spool in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::answering(200);
        let routes = json!({ "routes": [{ "topic": "a", "url": endpoint.url() }] });
        let mut config = without_url(spooled::config("", folder.path(), routes));
        if !spool {
            config.as_object_mut().unwrap().remove("spool");
        }
        let sink = Sink::open(&config);
        assert_eq!(sink.consume(&Batch::numbered(2).from_topic("a")), 0);
        assert_eq!(sink.consume(&Batch::numbered(3).from_topic("b")), 0);
        spooled::wait_until("the end of all", || !spool || spooled::held(folder.path()) == 0);
        drop(sink);
        assert_eq!(taken(&endpoint).len(), 2, "spool: {spool}");
        let records = records(&folder.path().join("dead-letters"));
        let seen: Vec<_> = records
            .iter()
            .map(|record| (&*record.topic, record.offset, &*record.reason, record.attempts))
            .collect();
        assert_eq!(seen, [("b", 0, "no_route", 0), ("b", 1, "no_route", 0), ("b", 2, "no_route", 0)]);
        assert!(records.iter().all(|record| record.url.is_empty()));
    }
}

#[test]
fn without_dead_letters_what_no_route_takes_has_failed() {
    let endpoint = Endpoint::answering(200);
    let routes = json!({ "routes": [{ "topic": "a", "url": endpoint.url() }] });
    let sink = Sink::open(&without_url(config("", routes)));
    assert_eq!(sink.consume(&Batch::numbered(2).from_stream("no way")), 1);
    let failures = failures("no way");
    assert!(failures.count == 2 && failures.reasons[&0].contains("no_route"), "{failures:?}");
}

#[test]
fn letters_name_their_endpoint_and_are_replayed_over_their_route() {
    let folder = tempfile::tempdir().unwrap();
    let mended = Arc::new(AtomicBool::new(false));
    let refusing = || {
        let mended = mended.clone();
        Endpoint::start(move |_| Answer::status(if mended.load(SeqCst) { 200 } else { 404 }))
    };
    let (own, other) = (refusing(), refusing());
    let more = json!({
        "dead_letter": { "path": folder.path() }, "routes": [{ "topic": "a", "url": other.url() }],
    });
    let config = config(&own.url(), more);
    let sink = Sink::open(&config);
    for topic in ["a", "b"] {
        assert_eq!(sink.consume(&Batch::numbered(1).from_topic(topic)), 0);
    }
    let seen: Vec<_> = records(folder.path()).into_iter().map(|record| (record.topic, record.url)).collect();
    assert_eq!(seen, [("a".to_owned(), other.origin()), ("b".to_owned(), own.origin())]);
    mended.store(true, SeqCst);
    let replay = Folder::open(folder.path())
        .unwrap()
        .replay(&config, |_| true, |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(replay.delivered, 2);
    assert_eq!((taken(&own).len(), taken(&other).len()), (1, 1));
}

#[test]
fn an_endpoint_that_is_away_holds_up_no_topic_of_another() {
    for spool in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let away = Arc::new(AtomicBool::new(true));
        let one = Endpoint::start({
            let away = away.clone();
            move |_| Answer::status(if away.load(SeqCst) { 503 } else { 200 })
        });
        let other = Endpoint::answering(200);
        // With the shipped waits, breaker and concurrency.
        let mut config = json!({
            "spool": { "path": folder.path().join("spool") },
            "dead_letter": { "path": folder.path().join("dead-letters") },
            "max_retries": 1000,
            "routes": [{ "topic": "away", "url": one.url() }, { "topic": "there", "url": other.url() }],
        });
        if !spool {
            config.as_object_mut().unwrap().remove("spool");
        }
        let sink = Sink::open(&config);
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(sink.consume(&Batch::numbered(3).from_topic("away")), 0));
            one.wait_for_requests(1, spooled::SOON);
            for first in 0..10 {
                assert_eq!(sink.consume(&Batch::numbered(1).from_topic("there").from_offset(first)), 0);
            }
            spooled::wait_until("delivery to the other", || taken(&other).len() == 10);
            away.store(false, SeqCst);
        });
        spooled::wait_until("delivery", || taken(&one).len() == 3);
    }
}

#[test]
fn a_pause_and_a_learned_size_are_of_the_endpoint() {
    // That of a second, and no less but for what the way of the answer takes.
    const PAUSE: Duration = Duration::from_millis(950);
    let endpoint = Endpoint::start(|request| match request.index {
        0 => Answer::status(429).header("retry-after", "1"),
        _ if request.body.len() > 100 => Answer::status(413),
        _ => Answer::status(200),
    });
    let route = |topic: &str| json!({ "topic": topic, "url": format!("{}/{topic}", endpoint.url()) });
    let more = json!({ "batch_mode": "nd_json", "routes": [route("a"), route("b")] });
    let sink = Sink::open(&without_url(config("", more)));
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(sink.consume(&Batch::numbered(1).from_topic("a")), 0));
        endpoint.wait_for_requests(1, spooled::SOON);
        spooled::wait_until("the answer", || endpoint.exchanges().iter().any(|sent| sent.status.is_some()));
        thread::sleep(Duration::from_millis(50));
        assert_eq!(sink.consume(&Batch::numbered(1).from_topic("b")), 0);
    });
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[1].at - requests[0].at >= PAUSE, "all of the endpoint waits");
    let refused = |topic: &str| {
        let before = endpoint.exchanges().len();
        assert_eq!(sink.consume(&Batch::numbered(30).from_topic(topic).from_stream(topic)), 0);
        endpoint.exchanges()[before..].iter().filter(|sent| sent.status == Some(413)).count()
    };
    let first = refused("a");
    assert!(first > 1);
    assert!(refused("b") < first, "what one route has learned the other knows");
}

#[test]
fn routes_keep_their_own_order_in_one_spool_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let away = Arc::new(AtomicBool::new(true));
    let endpoint = Endpoint::start({
        let away = away.clone();
        move |request| Answer::status(if away.load(SeqCst) || request.index % 4 == 0 { 503 } else { 200 })
    });
    let route = |topic: &str, ordering: Value| {
        with(
            json!({ "topic": topic, "url": format!("{}/{topic}", endpoint.url()), "concurrency": 4 }),
            ordering,
        )
    };
    let routes = json!({ "routes": [
        route("partition", json!({})),
        route("key", json!({ "ordering": "key", "ordering_key": "{payload:/n}" })),
        route("none", json!({ "ordering": "none", "batch_mode": "nd_json" })),
    ] });
    let config = without_url(spooled::config("", folder.path(), routes));
    let sink = Sink::open(&config);
    let topics = ["partition", "key", "none"];
    for topic in topics {
        for first in 0..10 {
            assert_eq!(sink.consume(&spooled::numbered(first * 3..first * 3 + 3).from_topic(topic)), 0);
        }
    }
    assert_eq!(sink.close(), 0);
    away.store(false, SeqCst);
    let sink = Sink::open(&config);
    spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
    drop(sink);
    for topic in topics {
        let path = format!("/in/{topic}");
        let mut numbers: Vec<u64> =
            taken(&endpoint).iter().filter(|taken| taken.path == path).flat_map(spooled::numbers).collect();
        if topic != "partition" {
            numbers.sort_unstable();
        }
        assert_eq!(numbers, (0..30).collect::<Vec<u64>>(), "{topic}");
    }
}

#[test]
fn a_preset_of_a_route_adds_to_the_query_of_the_connectors_url() {
    let config = Config::from_json(&json!({
        "url": "http://a/?query=INSERT", "routes": [{ "topic": "rows", "preset": "clickhouse" }],
    }))
    .unwrap();
    let url = |config: &Config| config.endpoint.url.resolve().unwrap();
    assert_eq!(url(&config), "http://a/?query=INSERT");
    let route = url(config.route("s", "rows").unwrap());
    assert!(route.starts_with("http://a/?query=INSERT&insert_deduplication_token="), "{route}");
}

#[test]
fn a_preset_of_a_route_goes_before_the_connectors_keys_and_after_its_own() {
    let config = Config::from_json(&json!({
        "url": "http://a/", "batch_mode": "raw", "success_status_codes": [299], "preset": "slack",
        "routes": [
            { "topic": "logs", "preset": "loki", "url": "http://b/", "success_status_codes": [201] },
            { "topic": "raw" },
        ],
    }))
    .unwrap();
    let of = |topic: &str| config.route("s", topic).unwrap();
    assert_eq!(of("logs").body.mode.to_string(), "json_array");
    assert_eq!(of("logs").success_status_codes.iter().collect::<Vec<_>>(), [&201]);
    assert_eq!(of("logs").rate_limit.requests_per_second, None, "that is of another preset");
    for topic in ["raw", "else"] {
        assert_eq!(of(topic).body.mode.to_string(), "raw");
        assert_eq!(of(topic).rate_limit.requests_per_second, Some(1.0));
        assert_eq!(of(topic).success_status_codes.iter().collect::<Vec<_>>(), [&299]);
    }
}

#[test]
fn credentials_of_the_connector_do_not_go_to_another_endpoint() {
    let config = Config::from_json(&json!({
        "url": "https://a/", "auth": { "type": "bearer", "token": "t" }, "headers_authorization2": "secret",
        "tls": { "min_version": "1.3" }, "response_header_timeout": "3s",
        "routes": [{ "topic": "a", "url": "https://b/" }, { "topic": "b" }, { "topic": "c", "tls": {} }],
    }))
    .unwrap();
    let of = |topic: &str| config.route("s", topic).unwrap();
    assert!(of("a").endpoint.auth.is_none() && of("a").endpoint.headers.is_empty());
    assert!(of("b").endpoint.auth.is_some() && of("b").endpoint.headers.len() == 1);
    assert_eq!(of("a").client.response_header_timeout, Duration::from_secs(3));
    assert_eq!(of("a").client.tls.min_version, of("b").client.tls.min_version);
    assert_ne!(of("c").client.tls.min_version, of("b").client.tls.min_version);
}

#[test]
fn a_preview_takes_the_route_of_the_topic() {
    let config = without_url(config(
        "",
        json!({ "routes": [
            { "topic": "a", "url": "http://a/", "method": "PUT" },
            { "topic": "b", "url": "http://b/", "batch_mode": "nd_json" },
        ] }),
    ));
    let preview = Preview::new(Config::from_json(&config).unwrap(), false).unwrap();
    let of = |topic: &str| {
        let batch = Batch::numbered(2).from_topic(topic);
        let metadata = MessagesMetadata { partition_id: 1, current_offset: 1, schema: Schema::Json };
        let messages: Vec<_> = batch.messages.iter().map(RawMessage::borrowed).collect();
        let previewed = preview.of(&batch::Batch::borrowed(&batch.topic, &metadata, &messages)).unwrap();
        let shown = |previewed: &Previewed| match previewed {
            Previewed::Request(request) => {
                format!("{} {} {}", request.method, request.url, request.messages.len())
            }
            Previewed::Refused { message, reason, .. } => format!("{message} {reason}"),
        };
        previewed.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(of("a"), ["PUT http://a/ 1", "PUT http://a/ 1"]);
    assert_eq!(of("b"), ["POST http://b/ 2"]);
    assert_eq!(of("c"), ["0 no_route", "1 no_route"]);
}

#[test]
fn the_health_check_of_each_route_is_asked() {
    let (one, other) = (Endpoint::answering(200), Endpoint::answering(404));
    let checks = json!({ "health_check_enabled": true, "max_retries": 0 });
    let routes =
        json!({ "routes": [{ "topic": "a", "url": one.url() }, { "topic": "b", "url": other.url() }] });
    Sink::try_open(&without_url(config("", with(checks, routes)))).expect_err("one of them answers 404");
    assert_eq!((one.requests().len(), other.requests().len()), (1, 1));
}

#[test]
fn close_leaves_each_route_its_own_time() {
    let [short, long] = [(); 2].map(|()| Endpoint::start(|_| Answer::stall()));
    let sink = Sink::open(&json!({
        "url": long.url(), "timeout": "1m", "close_timeout": "5s",
        "routes": [{ "topic": "short", "url": short.url(), "close_timeout": "1s" }],
    }));
    thread::scope(|scope| {
        let call = |topic: &'static str, offset| {
            let sink = &sink;
            let batch = Batch::numbered(1).from_stream("closes apart").from_topic(topic).from_offset(offset);
            scope.spawn(move || (sink.consume(&batch), Instant::now()))
        };
        let calls = [call("short", 0), call("long", 1)];
        short.wait_for_requests(1, Duration::from_secs(10));
        long.wait_for_requests(1, Duration::from_secs(10));
        let began = Instant::now();
        assert_eq!(plugin().close(sink.id), 0);
        let [(_, cut_short), (_, cut_late)] = calls.map(|call| call.join().unwrap());
        assert!(cut_short - began < Duration::from_secs(3), "{:?}", cut_short - began);
        assert!(cut_late - began >= Duration::from_secs(3), "{:?}", cut_late - began);
    });
    let failed = failures("closes apart").reasons;
    assert!([0, 1].iter().all(|offset| failed[offset].contains("closed")), "{failed:?}");
}
