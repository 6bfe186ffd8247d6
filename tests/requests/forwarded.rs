//! What of a message goes into a request beside its body: `forward_headers`, its trace, and `tombstone_method`.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use iggy_connector_http_sink::{
    batch,
    config::Config,
    dead_letter::Folder,
    preview::{Preview, Previewed},
};
use iggy_connector_sdk::{HeaderKey, HeaderValue, MessagesMetadata, RawMessage, Schema, encode_headers};
use serde_json::{Value, json};

use crate::support::{
    config::{config, with},
    endpoint::{Answer, Endpoint, Exchange, Request},
    plugin::{Batch, Sink, failures},
    spooled,
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers<V: Into<HeaderValue>>(headers: impl IntoIterator<Item = (&'static str, V)>) -> Vec<u8> {
    let headers = headers.into_iter().map(|(key, value)| (HeaderKey::try_from(key).unwrap(), value.into()));
    encode_headers(&headers.collect::<BTreeMap<_, _>>())
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::try_from(value).unwrap()
}

/// Messages `{"n":…}`, each with this tenant; an empty one is none.
fn of_tenants(tenants: &[&str]) -> Batch {
    let mut batch = Batch::numbered(tenants.len() as u64);
    for (message, tenant) in batch.messages.iter_mut().zip(tenants) {
        if !tenant.is_empty() {
            message.headers = headers([("tenant", text(tenant))]);
        }
    }
    batch
}

fn sent(more: Value, batch: &Batch) -> Vec<Request> {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), more));
    assert_eq!(sink.consume(batch), 0);
    endpoint.requests()
}

fn keys(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| request.header("idempotency-key").unwrap()).collect()
}

#[test]
fn headers_of_messages_are_sent_under_their_names() {
    let mut batch = Batch::numbered(3);
    batch.messages[0].headers = headers([
        ("tenant", text("a")),
        ("count", HeaderValue::from(7_u64)),
        ("baggage", text("user=Am%C3%A9lie, plan=x")),
        ("name", text("Zażółć\r\nX-Evil: 1")),
        ("bytes", HeaderValue::try_from(&b"\xff\xfe"[..]).unwrap()),
        ("other", text("not asked for")),
    ]);
    batch.messages[1].headers = headers([("Count", text("other case"))]);
    let forwarded = json!({ "forward_headers": ["tenant", "count", "baggage", "name", "bytes"] });
    let requests = sent(forwarded.clone(), &batch);
    let header = |request: usize, name: &str| requests[request].header(name);
    assert_eq!((header(0, "tenant"), header(0, "count")), (Some("a"), Some("7")));
    assert_eq!(header(0, "baggage"), Some("user=Am%C3%A9lie, plan=x"));
    assert_eq!(header(0, "name"), Some("Za%C5%BC%C3%B3%C5%82%C4%87%0D%0AX-Evil: 1"));
    assert_eq!((header(0, "bytes"), header(0, "other"), header(0, "x-evil")), (Some("//4="), None, None));
    assert_eq!((header(1, "tenant"), header(1, "count")), (None, None));
    assert_eq!((header(2, "tenant"), header(2, "count")), (None, None));
    assert_eq!(keys(&requests), keys(&sent(json!({}), &batch)), "they are no part of the idempotency key");
}

#[test]
fn messages_with_other_headers_go_in_other_bodies_in_their_order() {
    let batch = of_tenants(&["a", "a", "b", "", "", "a"]);
    let forwarded = json!({ "forward_headers": ["tenant"], "batch_mode": "nd_json" });
    let shown = |request: &Request| {
        (request.header("tenant").unwrap_or("none").to_owned(), spooled::numbers(request))
    };
    let requests: Vec<_> = sent(forwarded.clone(), &batch).iter().map(shown).collect();
    let expected = [("a", vec![0, 1]), ("b", vec![2]), ("none", vec![3, 4]), ("a", vec![5])];
    assert_eq!(requests, expected.map(|(tenant, numbers)| (tenant.to_owned(), numbers)));
    let unordered = with(forwarded, json!({ "ordering": "none" }));
    let mut requests: Vec<_> = sent(unordered, &batch).iter().map(shown).collect();
    requests.sort();
    let expected = [("a", vec![0, 1, 5]), ("b", vec![2]), ("none", vec![3, 4])];
    assert_eq!(requests, expected.map(|(tenant, numbers)| (tenant.to_owned(), numbers)));
}

#[test]
fn what_is_spooled_or_replayed_has_the_headers_of_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let away = Arc::new(AtomicBool::new(true));
    let endpoint = Endpoint::start({
        let away = away.clone();
        move |request| match request.header("tenant") {
            Some("b") if away.load(SeqCst) => Answer::status(404),
            _ if away.load(SeqCst) => Answer::status(503),
            _ => Answer::status(200),
        }
    });
    let forwarded = json!({ "forward_headers": ["tenant"], "batch_mode": "nd_json", "ordering": "none" });
    let config = spooled::config(&endpoint.url(), folder.path(), forwarded);
    let sink = Sink::open(&config);
    let mut batch = of_tenants(&["a", "b", "a", "c"]);
    batch.messages[0].headers = headers([("tenant", text("a")), ("traceparent", text(TRACE))]);
    assert_eq!(sink.consume(&batch), 0);
    spooled::wait_until("the refusal", || spooled::letters(folder.path()).len() == 1);
    assert_eq!(sink.close(), 0);
    away.store(false, SeqCst);
    let before = endpoint.requests().len();
    let sink = Sink::open(&config);
    spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
    let replayed = Folder::open(&folder.path().join("dead-letters"))
        .unwrap()
        .replay(&config, |_| true, |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(replayed.delivered, 1);
    drop(sink);
    let mut taken: Vec<(Option<String>, Vec<u64>)> = endpoint.requests()[before..]
        .iter()
        .map(|request| (request.header("tenant").map(str::to_owned), spooled::numbers(request)))
        .collect();
    taken.sort();
    let expected = [("a", vec![0, 2]), ("b", vec![1]), ("c", vec![3])];
    assert_eq!(taken, expected.map(|(tenant, numbers)| (Some(tenant.to_owned()), numbers)));
}

#[test]
fn a_request_for_one_message_passes_its_trace_on() {
    let mut batch = Batch::numbered(4);
    batch.messages[0].headers = headers([("traceparent", text(TRACE)), ("tracestate", text("a=1"))]);
    batch.messages[1].headers = headers([("traceparent", text("00-abc")), ("tracestate", text("a=1"))]);
    batch.messages[2].headers = headers([("tracestate", text("a=1"))]);
    for mode in ["individual", "raw"] {
        let requests = sent(json!({ "batch_mode": mode }), &batch);
        let traces: Vec<_> = requests
            .iter()
            .map(|request| (request.header("traceparent"), request.header("tracestate")))
            .collect();
        assert_eq!(traces, [(Some(TRACE), Some("a=1")), (None, None), (None, None), (None, None)], "{mode}");
    }
    let own = json!({ "headers": { "traceparent": "mine" } });
    assert!(sent(own, &batch).iter().all(|request| request.header("traceparent") == Some("mine")));
    let many = sent(json!({ "batch_mode": "nd_json" }), &batch);
    assert_eq!((many.len(), many[0].header("traceparent")), (1, None));
    let asked_for = json!({ "batch_mode": "nd_json", "forward_headers": ["traceparent"] });
    assert_eq!(sent(asked_for, &batch)[0].header("traceparent"), Some(TRACE));
}

/// Messages of customers, of which those at `gone` have no payload.
fn customers(count: u64, gone: &[usize]) -> Batch {
    let mut batch = Batch::numbered(count);
    for (n, message) in batch.messages.iter_mut().enumerate() {
        message.headers = headers([("customer", HeaderValue::from(n as u64 % 2))]);
        if gone.contains(&n) {
            message.payload.clear();
        }
    }
    batch
}

fn shown(request: &Request) -> (&str, String, Vec<u64>) {
    (&request.method, request.path.rsplit('/').next().unwrap().to_owned(), spooled::numbers(request))
}

#[test]
fn an_empty_payload_is_a_request_of_its_own_without_a_body() {
    for mode in ["individual", "nd_json", "raw"] {
        let more = json!({
            "method": "PUT", "tombstone_method": "DELETE", "batch_mode": mode, "compression": "gzip",
            "message_template": if mode == "raw" { Value::Null } else { json!("{\"n\":{payload:/n}}") },
        });
        let requests = sent(with(more.clone(), json!({ "compression": "none" })), &customers(5, &[2, 3]));
        let puts = |numbers: &[u64]| -> Vec<_> {
            if mode == "nd_json" {
                vec![("PUT", "in".to_owned(), numbers.to_vec())]
            } else {
                numbers.iter().map(|n| ("PUT", "in".to_owned(), vec![*n])).collect()
            }
        };
        let deletes = vec![("DELETE", "in".to_owned(), Vec::new()); 2];
        let expected = [puts(&[0, 1]), deletes, puts(&[4])].concat();
        assert_eq!(requests.iter().map(shown).collect::<Vec<_>>(), expected, "{mode}");
        for request in requests.iter().chain(&sent(more, &customers(5, &[2, 3]))) {
            let is_put = request.method == "PUT";
            assert_eq!(request.header("content-type").is_some(), is_put, "{request:?}");
            assert!(is_put || request.body.is_empty() && request.header("content-encoding").is_none());
        }
        if mode == "raw" {
            let without = sent(json!({ "batch_mode": "raw" }), &customers(5, &[]));
            assert_eq!(keys(&requests), keys(&without), "the method is no part of the idempotency key");
        }
    }
}

#[test]
fn a_tombstone_keeps_its_place_among_the_messages_for_its_url_also_from_a_spool() {
    for spool in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint =
            Endpoint::start(|request| Answer::status(if request.index % 3 == 0 { 503 } else { 200 }));
        let more = json!({
            "url": format!("{}/{{header:customer}}", endpoint.url()), "method": "PUT", "tombstone_method": "DELETE",
            "batch_mode": "nd_json", "max_retries": 100,
        });
        let mut config = spooled::config(&endpoint.url(), folder.path(), more);
        if !spool {
            config.as_object_mut().unwrap().remove("spool");
        }
        let sink = Sink::open(&config);
        assert_eq!(sink.consume(&customers(10, &[2, 4, 5])), 0);
        spooled::wait_until("delivery", || !spool || spooled::held(folder.path()) == 0);
        drop(sink);
        let taken: Vec<Request> = endpoint
            .exchanges()
            .into_iter()
            .filter(Exchange::is_success)
            .map(|taken| taken.request)
            .collect();
        // Retries may have parted bodies, and never change the order.
        let of = |customer: &str| -> Vec<(String, Option<u64>)> {
            let all = taken.iter().map(shown).filter(|(_, path, _)| path == customer);
            all.flat_map(|(method, _, numbers)| {
                let numbers: Vec<Option<u64>> =
                    if numbers.is_empty() { vec![None] } else { numbers.into_iter().map(Some).collect() };
                numbers.into_iter().map(move |n| (method.to_owned(), n))
            })
            .collect()
        };
        let expected = |ends: &[Option<u64>]| -> Vec<(String, Option<u64>)> {
            ends.iter().map(|n| (if n.is_some() { "PUT" } else { "DELETE" }.to_owned(), *n)).collect()
        };
        assert_eq!(of("0"), expected(&[Some(0), None, None, Some(6), Some(8)]), "spool: {spool}");
        assert_eq!(of("1"), expected(&[Some(1), Some(3), None, Some(7), Some(9)]), "spool: {spool}");
    }
}

#[test]
fn a_refused_tombstone_is_a_letter_that_is_replayed_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let mended = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::start({
        let mended = mended.clone();
        move |request| {
            let refuses = request.method == "DELETE" && !mended.load(SeqCst);
            Answer::status(if refuses { 404 } else { 200 }).body("{\"ok\":true}")
        }
    });
    let more = json!({
        "tombstone_method": "DELETE", "dead_letter": { "path": folder.path() },
        "response": { "expect_pointer": "/ok", "expect_value": true },
    });
    let config = config(&endpoint.url(), more);
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&customers(3, &[1])), 0);
    mended.store(true, SeqCst);
    let replay = Folder::open(folder.path())
        .unwrap()
        .replay(&config, |_| true, |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!((replay.delivered, replay.failed), (1, 0));
    let methods: Vec<String> = endpoint.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["POST", "DELETE", "POST", "DELETE"]);
}

#[test]
fn the_status_alone_says_how_a_tombstone_ended() {
    let endpoint = Endpoint::start(|request| {
        if request.method == "DELETE" {
            Answer::status(204)
        } else {
            Answer::status(200).body("{\"ok\":true}")
        }
    });
    let more = json!({
        "tombstone_method": "DELETE", "response": { "expect_pointer": "/ok", "expect_value": true },
    });
    let sink = Sink::open(&config(&endpoint.url(), more));
    assert_eq!(sink.consume(&customers(3, &[1])), 0);
    assert_eq!(endpoint.requests().len(), 3);
}

#[test]
fn without_a_tombstone_method_an_empty_payload_is_as_any_other() {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&customers(3, &[1]).from_stream("no tombstones")), 1);
    assert!(failures("no tombstones").reasons[&1].contains("undecodable"));
}

#[test]
fn a_preview_shows_them() {
    let more = json!({
        "forward_headers": ["customer"], "tombstone_method": "DELETE", "compression": "gzip",
        "url": "http://localhost/{header:customer}",
    });
    let config = Config::from_json(&config("", more)).unwrap();
    let preview = Preview::new(config, false).unwrap();
    let mut batch = customers(2, &[1]);
    batch.messages[1].headers = headers([("customer", text("x")), ("traceparent", text(TRACE))]);
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 1, schema: Schema::Json };
    let messages: Vec<_> = batch.messages.iter().map(RawMessage::borrowed).collect();
    let previewed = preview.of(&batch::Batch::borrowed(&batch.topic, &metadata, &messages)).unwrap();
    let [Previewed::Request(put), Previewed::Request(delete)] = &*previewed else { panic!("{previewed:?}") };
    let header = |headers: &[(String, Vec<u8>)], name: &str| {
        let found = headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
    };
    assert_eq!((&*put.method, header(&put.headers, "customer").as_deref()), ("POST", Some("0")));
    assert_eq!((&*delete.method, &*delete.url), ("DELETE", "http://localhost/x"));
    assert_eq!((delete.body.len(), &delete.uncompressed), (0, &None));
    assert_eq!(header(&delete.headers, "customer").as_deref(), Some("x"));
    assert_eq!(header(&delete.headers, "traceparent").as_deref(), Some(TRACE));
}

#[test]
fn mistakes_are_told() {
    for (more, words) in [
        (
            json!({ "forward_headers": ["a b"] }),
            "forward_headers[0]: names \"a…\": is not a name of a header",
        ),
        (json!({ "forward_headers": ["Host"] }), "host is that of url"),
        (json!({ "forward_headers": ["tenant", "Tenant"] }), "names tenant twice"),
        (json!({ "forward_headers": ["x"], "headers": { "X": "1" } }), "names x, which headers sets already"),
        (json!({ "forward_headers": ["idempotency-key"] }), "idempotency_header sets"),
        (json!({ "forward_headers": ["x-retry-count"] }), "retry_count_header sets"),
        (json!({ "forward_headers": ["content-type"] }), "{header:content-type}"),
        (
            json!({ "forward_headers": ["authorization"], "auth": { "type": "bearer", "token": "t" } }),
            "[auth] sets for each request",
        ),
        (json!({ "forward_headers": [{}] }), "a table stands where a string belongs"),
        (json!({ "tombstone_method": "REMOVE" }), "\"DELETE\""),
    ] {
        let told = Config::from_json(&config("http://127.0.0.1/", more)).unwrap_err().to_string();
        assert!(told.contains(words), "{words}: {told}");
    }
    // As the environment overrides it.
    let list = json!({ "forward_headers": "[\"a\", \"b\"]" });
    Config::from_json(&config("http://127.0.0.1/", list)).unwrap();
}
