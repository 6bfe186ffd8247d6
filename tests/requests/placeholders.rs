//! Requests that depend on their messages: placeholders in the url and in headers.

use std::collections::BTreeMap;

use iggy_connector_http_sink::config::Config;
use iggy_connector_sdk::{HeaderKey, HeaderValue, Schema, encode_headers};
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, failures},
    spooled,
};

/// Sends a batch through a sink with the shipped defaults and these keys. `url` in them goes behind the endpoint's own.
fn sent(more: Value, batch: &Batch) -> Vec<Request> {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&at(&endpoint, more));
    assert_eq!(sink.consume(batch), 0);
    endpoint.requests()
}

fn at(endpoint: &Endpoint, mut more: Value) -> Value {
    let url = more["url"].as_str().unwrap_or_default();
    more["url"] = json!(format!("http://127.0.0.1:{}{url}", endpoint.port()));
    more
}

fn of_values(values: &[&str]) -> Batch {
    Batch::of(
        Schema::Json,
        values.iter().enumerate().map(|(n, value)| json!({ "n": n, "k": value }).to_string()),
    )
}

fn paths(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| &*request.path).collect()
}

/// The problems of a configuration.
fn told(config: Value) -> String {
    Config::from_json(&config).unwrap_err().to_string()
}

#[test]
fn the_url_and_headers_are_filled_in_for_each_message() {
    let mut batch = of_values(&["a/b", "ż?"]).from_stream("two words");
    let headers = [(HeaderKey::try_from("tenant").unwrap(), HeaderValue::try_from("t%1").unwrap())];
    batch.messages[0].headers = encode_headers(&BTreeMap::from(headers));
    let requests = sent(
        json!({
            "url": "/{stream}/{payload:/k}/{partition}?offset={offset}&at={timestamp:s}&t={header:tenant|none}",
            "headers": { "X-Id": "<{id}>", "X-Tenant": "{header:tenant|-}", "X-Plain": "{{topic} {user}" },
        }),
        &batch,
    );
    assert_eq!(
        paths(&requests),
        [
            "/two%20words/a%2Fb/1?offset=0&at=1760000000&t=t%251",
            "/two%20words/%C5%BC%3F/1?offset=1&at=1760000000&t=none"
        ]
    );
    assert_eq!(requests[0].header("x-id"), Some("<00000000000000000000000000000001>"));
    assert_eq!(requests[0].header("x-tenant"), Some("t%251"));
    assert_eq!(requests[1].header("x-tenant"), Some("-"));
    assert_eq!(requests[1].header("x-plain"), Some("{topic} {user}"));
}

#[test]
fn braces_in_old_configurations_mean_what_they_meant() {
    let requests = sent(json!({ "url": "/a{user}/{}?x={y}" }), &Batch::numbered(1));
    let decoded = requests[0].path.replace("%7B", "{").replace("%7D", "}");
    assert_eq!(decoded, "/a{user}/{}?x={y}");
}

#[test]
fn messages_for_one_url_share_bodies_in_their_order() {
    let values: Vec<String> = (0..1000).map(|n| (n % 10).to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for mode in ["nd_json", "json_array"] {
        let config = json!({ "url": "/{payload:/k}", "batch_mode": mode, "include_metadata": false });
        let requests = sent(config, &of_values(&values));
        assert_eq!(requests.len(), 10, "{mode}");
        for (place, request) in requests.iter().enumerate() {
            let lines: Vec<Value> = match mode {
                "json_array" => serde_json::from_slice(&request.body).unwrap(),
                _ => str::from_utf8(&request.body)
                    .unwrap()
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect(),
            };
            let numbers: Vec<u64> = lines.iter().map(|line| line["n"].as_u64().unwrap()).collect();
            let key = request.path[1..].parse::<u64>().unwrap();
            assert_eq!(key, place as u64);
            assert_eq!(numbers, (0..100).map(|n| n * 10 + key).collect::<Vec<_>>(), "{mode}");
        }
    }
}

#[test]
fn what_goes_to_one_url_with_other_headers_keeps_its_order() {
    let batch = of_values(&["a", "a", "b", "b", "a"]);
    let config = |ordering: &str| {
        json!({
            "url": "/in", "headers": { "x-k": "{payload:/k}" }, "batch_mode": "nd_json", "include_metadata": false,
            "ordering": ordering,
        })
    };
    let kinds = |requests: &[Request]| -> Vec<(String, usize)> {
        let lines = |request: &Request| spooled::numbers(request).len();
        requests.iter().map(|request| (request.header("x-k").unwrap().to_owned(), lines(request))).collect()
    };
    let requests = sent(config("partition"), &batch);
    assert_eq!(kinds(&requests), [("a".into(), 2), ("b".into(), 2), ("a".into(), 1)]);
    // Without an order to keep they fill.
    let mut unordered = kinds(&sent(config("none"), &batch));
    unordered.sort();
    assert_eq!(unordered, [("a".into(), 3), ("b".into(), 2)]);
}

#[test]
fn more_urls_than_are_kept_open_at_once_lose_nothing() {
    let values: Vec<String> = (0..3000).map(|n| (n * 7 % 300).to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let config = json!({ "url": "/{payload:/k}", "batch_mode": "nd_json", "include_metadata": false });
    let requests = sent(config, &of_values(&values));
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = 0;
    for request in &requests {
        for n in spooled::numbers(request) {
            let before = last.insert(request.path.clone(), n);
            assert!(before.is_none_or(|before| before < n), "{}", request.path);
            count += 1;
        }
    }
    assert_eq!((count, last.len()), (3000, 300));
}

#[test]
fn a_message_that_lacks_a_field_is_told_and_the_others_go_on() {
    let mut batch = of_values(&["a", "..", "b"]).from_stream("lacks a field");
    batch.messages[2].payload = b"{\"n\":2}".to_vec();
    batch.messages.extend(of_values(&["", "", "", "c"]).messages.split_off(3));
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&at(&endpoint, json!({ "url": "/{payload:/k}/x" })));
    assert_eq!(sink.consume(&batch), 1);
    assert_eq!(paths(&endpoint.requests()), ["/a/x", "/c/x"]);
    let failed = failures("lacks a field").reasons;
    assert!(failed[&1].contains("unrenderable") && failed[&1].contains("leads elsewhere"), "{failed:?}");
    assert!(failed[&2].contains("unrenderable") && failed[&2].contains("{payload:/k}"), "{failed:?}");
}

#[test]
fn a_key_stays_in_order_over_urls() {
    let message = |key, url, n| json!({ "k": key, "u": url, "n": n }).to_string();
    let batch = Batch::of(
        Schema::Json,
        [message("b", 2, 0), message("a", 1, 1), message("a", 2, 2), message("b", 2, 3), message("b", 1, 4)],
    );
    let requests = sent(
        json!({
            "url": "/{payload:/u}", "batch_mode": "nd_json", "include_metadata": false, "ordering": "key",
            "ordering_key": "{payload:/k}",
        }),
        &batch,
    );
    let sent: Vec<Value> = requests
        .iter()
        .flat_map(|request| {
            serde_json::Deserializer::from_slice(&request.body).into_iter().map(Result::unwrap)
        })
        .collect();
    let of_key = |key| -> Vec<u64> {
        let of_it = sent.iter().filter(|message| message["k"] == key);
        of_it.map(|message| message["n"].as_u64().unwrap()).collect()
    };
    assert_eq!((of_key("a"), of_key("b")), (vec![1, 2], vec![0, 3, 4]));
}

#[test]
fn the_idempotency_key_in_a_url_is_that_of_the_body() {
    let endpoint = Endpoint::start(|request| Answer::status(if request.body.len() > 30 { 413 } else { 200 }));
    let config =
        json!({ "url": "/in?token={idempotency_key}", "batch_mode": "nd_json", "include_metadata": false });
    let sink = Sink::open(&at(&endpoint, config));
    assert_eq!(sink.consume(&Batch::numbered(8)), 0);
    let requests = endpoint.requests();
    assert!(requests.len() > 1);
    for request in &requests {
        let key = request.header("idempotency-key").unwrap();
        assert_eq!((key.len(), &*request.path), (32, &*format!("/in?token={key}")));
    }
}

#[test]
fn with_a_spool_each_url_is_in_order_and_what_cannot_be_rendered_is_a_letter() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|request| Answer::status(if request.index % 3 == 0 { 503 } else { 200 }));
    let more = json!({ "url": "/{payload:/k}", "batch_mode": "nd_json", "include_metadata": false });
    let url = at(&endpoint, more.clone())["url"].clone();
    let config = spooled::config("", folder.path(), with(more, json!({ "url": url, "retry_delay": "2ms" })));
    let sink = Sink::open(&config);
    for round in 0..20 {
        let mut batch = of_values(&["a", "b", "", "a", "b"]);
        batch.messages[2].payload = b"{}".to_vec();
        for (n, message) in (round * 5..).zip(&mut batch.messages) {
            message.offset = n;
            message.id = n.into();
            message.payload =
                String::from_utf8_lossy(&message.payload).replace("\"n\":", &format!("\"n\":1{n:03}")).into();
        }
        assert_eq!(sink.consume(&batch), 0);
    }
    spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
    drop(sink);
    let mut of_path: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for exchange in endpoint.exchanges().into_iter().filter(crate::support::endpoint::Exchange::is_success) {
        of_path.entry(exchange.request.path.clone()).or_default().extend(spooled::numbers(&exchange.request));
    }
    assert_eq!(of_path.keys().collect::<Vec<_>>(), ["/a", "/b"]);
    for (path, numbers) in of_path {
        assert!(numbers.len() == 40 && numbers.is_sorted(), "{path}: {numbers:?}");
    }
    let letters = spooled::letters(folder.path());
    assert_eq!(letters.len(), 20);
    assert!(
        letters.iter().all(|(offset, reason)| offset % 5 == 2 && reason == "unrenderable"),
        "{letters:?}"
    );
}

#[test]
fn the_health_check_asks_without_what_only_messages_have() {
    let endpoint = Endpoint::answering(200);
    let config = json!({
        "url": "/base/{topic}?x={id}", "headers": { "x-topic": "{topic}", "x-fixed": "1" }, "health_check_enabled": true,
    });
    drop(Sink::open(&at(&endpoint, config)));
    let requests = endpoint.requests();
    assert_eq!((&*requests[0].method, &*requests[0].path), ("HEAD", "/base/"));
    assert_eq!((requests[0].header("x-topic"), requests[0].header("x-fixed")), (None, Some("1")));
}

#[test]
fn no_message_says_where_requests_go() {
    for url in [
        "http://{topic}/x",
        "http://a.{topic}.example/x",
        "http://a:{partition}/",
        "http://{topic}@a/",
        "{topic}://a/",
        "http:///{topic}/",
        "http://a/#{topic}",
    ] {
        let told = told(json!({ "url": url }));
        assert!(told.contains("plugin_config.url"), "{url}: {told}");
    }
    assert!(told(json!({ "url": "http://a.{topic}/x" })).contains("must not come from a message"));
    let told = told(json!({
        "url": "http://a/{payload:id}", "headers": { "x-a": "{timestamp:never}", "x-b": "{header:b" }
    }));
    for words in ["url: {payload:id}", "headers.x-a: {timestamp:never} has no such form", "headers.x-b"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn what_a_message_holds_begins_no_header_and_no_request() {
    let hostile = "a\r\nX-Evil: 1\r\n\r\nPOST /evil HTTP/1.1\r\n\0\u{7f}é\u{2028} ";
    let mut batch = of_values(&[hostile]).from_stream(hostile);
    let headers = [(HeaderKey::try_from("t").unwrap(), HeaderValue::try_from(hostile).unwrap())];
    batch.messages[0].headers = encode_headers(&BTreeMap::from(headers));
    let requests = sent(
        json!({
            "url": "/{stream}/{payload:/k}?t={header:t}",
            "headers": { "X-Stream": "{stream}", "X-T": "{header:t}", "X-K": "{payload:/k}" },
        }),
        &batch,
    );
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = &requests[0];
    assert!(request.header("x-evil").is_none() && !request.path.contains(' '), "{request:?}");
    for name in ["x-stream", "x-t", "x-k"] {
        let value = request.header(name).unwrap();
        assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{name}: {value:?}");
        assert!(value.starts_with("a%0D%0AX-Evil: 1") && value.ends_with("%20"), "{name}: {value}");
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert!(body.to_string().contains("X-Evil"), "the message itself is whole");
}
