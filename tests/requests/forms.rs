//! Bodies of a form of their own, and compressed ones.

use std::{io::Read, time::Instant};

use iggy_connector_http_sink::config::Config;
use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, failures, logged},
    spooled,
};

/// Sends a batch through a sink with the shipped defaults and these keys.
fn sent(more: Value, batch: &Batch) -> Vec<Request> {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&with(json!({ "url": endpoint.url() }), more));
    assert_eq!(sink.consume(batch), 0);
    endpoint.requests()
}

fn bodies(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect()
}

fn told(config: Value) -> String {
    Config::from_json(&with(json!({ "url": "http://localhost/" }), config)).unwrap_err().to_string()
}

/// The body as it was before it was compressed.
fn plain(request: &Request) -> Vec<u8> {
    match request.header("content-encoding") {
        None => request.body.clone(),
        Some("gzip") => {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(&*request.body).read_to_end(&mut plain).unwrap();
            plain
        }
        Some("zstd") => zstd::stream::decode_all(&*request.body).unwrap(),
        Some(other) => panic!("{other}"),
    }
}

#[test]
fn a_message_is_what_its_template_says() {
    let batch = Batch::of(Schema::Json, ["{\"n\": 1,\n\"s\":\"a\\\"b\"}", "{\"n\":2}"]);
    let bulk = json!({
        "batch_mode": "nd_json",
        "message_template": "{\"create\":{\"_id\":\"{id}\",\"_index\":{topic}}}\n{payload}",
    });
    let id = |n: u32| format!("{{\"create\":{{\"_id\":\"{n:032x}\",\"_index\":\"topic\"}}}}\n");
    assert_eq!(
        bodies(&sent(bulk, &batch)),
        [format!("{}{{\"n\": 1, \"s\":\"a\\\"b\"}}\n{}{{\"n\":2}}\n", id(1), id(2))]
    );
    let text = json!({ "message_template": "{\"text\":\"{payload:/s|none} is {payload:/n}\"}" });
    let requests = sent(text, &batch);
    assert_eq!(bodies(&requests), [r#"{"text":"a\"b is 1"}"#, r#"{"text":"none is 2"}"#]);
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    let line = json!({
        "batch_mode": "nd_json", "template_format": "line_protocol",
        "message_template": "orders,topic={topic} n={payload:/n}i,s=\"{payload:/s|}\" {timestamp:ns}",
    });
    let requests = sent(line, &batch);
    assert_eq!(
        bodies(&requests),
        [
            "orders,topic=topic n=1i,s=\"a\\\"b\" 1760000000000000000\norders,topic=topic n=2i,s=\"\" 1760000000000001000\n"
        ]
    );
    assert_eq!(requests[0].header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn what_stands_around_messages_may_depend_on_them() {
    let values = ["a", "b", "a"].map(|value| json!({ "k": value }).to_string());
    let loki = json!({
        "batch_mode": "json_array", "ordering": "none",
        "body_prefix": "{\"streams\":[{\"stream\":{\"k\":{payload:/k}},\"values\":[",
        "message_template": "[\"{timestamp:ns}\",\"{payload}\"]",
        "body_suffix": "]}]}",
    });
    let bodies: Vec<Value> = bodies(&sent(loki, &Batch::of(Schema::Json, values)))
        .iter()
        .map(|body| serde_json::from_str::<Value>(body).unwrap()["streams"][0].clone())
        .collect();
    let mut found: Vec<(&str, usize)> = bodies
        .iter()
        .map(|stream| (stream["stream"]["k"].as_str().unwrap(), stream["values"].as_array().unwrap().len()))
        .collect();
    found.sort_unstable();
    assert_eq!(found, [("a", 2), ("b", 1)]);
    assert!(bodies[0]["values"][0][1].is_string());
}

#[test]
fn the_frame_alone_can_be_replaced() {
    let config = json!({
        "batch_mode": "json_array", "include_metadata": false, "body_prefix": "{\"events\":[", "body_suffix": "]}",
    });
    assert_eq!(bodies(&sent(config, &Batch::numbered(2))), [r#"{"events":[{"n":0},{"n":1}]}"#]);
    let concatenated = json!({ "batch_mode": "nd_json", "message_template": "{\"event\":{payload}}", "body_separator": "", "body_suffix": "" });
    assert_eq!(bodies(&sent(concatenated, &Batch::numbered(2))), [r#"{"event":{"n":0}}{"event":{"n":1}}"#]);
}

#[test]
fn limits_and_413_keep_the_form() {
    for compression in ["none", "gzip", "zstd"] {
        let endpoint =
            Endpoint::start(|request| Answer::status(if plain(request).len() > 60 { 413 } else { 200 }));
        let config = json!({
            "url": endpoint.url(), "batch_mode": "json_array", "message_template": "{payload:/n}", "body_prefix": "{\"of\":{topic},\"n\":[",
            "body_suffix": "]}", "max_payload_size_bytes": 100, "compression": compression,
        });
        let sink = Sink::open(&config);
        assert_eq!(sink.consume(&Batch::numbered(200)), 0);
        let mut all = Vec::new();
        for exchange in endpoint.exchanges() {
            let body = plain(&exchange.request);
            assert!(body.len() <= 100);
            let body: Value = serde_json::from_slice(&body).unwrap();
            if exchange.is_success() {
                all.extend(body["n"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()));
            }
        }
        assert_eq!(all, (0..200).collect::<Vec<u64>>(), "{compression}");
    }
}

#[test]
fn a_message_that_the_template_cannot_show_is_told() {
    let endpoint = Endpoint::answering(200);
    let batch =
        Batch::of(Schema::Json, ["{\"a\":1}", "{}", "{\"a\":", "{\"a\":2}"]).from_stream("cannot be shown");
    let config =
        json!({ "url": endpoint.url(), "batch_mode": "nd_json", "message_template": "{\"a\":{payload:/a}}" });
    assert_eq!(Sink::open(&config).consume(&batch), 1);
    assert_eq!(bodies(&endpoint.requests()).concat(), "{\"a\":1}\n{\"a\":2}\n");
    let failed = failures("cannot be shown").reasons;
    assert!(failed[&1].contains("unrenderable"), "{failed:?}");
    assert!(failed[&2].contains("undecodable"), "{failed:?}");
}

#[test]
fn bodies_are_compressed_on_the_wire_alone() {
    for (compression, level) in [("gzip", 1), ("gzip", 9), ("zstd", 1), ("zstd", 19)] {
        let config =
            json!({ "batch_mode": "nd_json", "compression": compression, "compression_level": level });
        let requests = sent(config, &Batch::numbered(1000));
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].header("content-encoding"), Some(compression));
        assert_eq!(requests[0].header("content-length"), Some(&*requests[0].body.len().to_string()));
        let expected = sent(json!({ "batch_mode": "nd_json" }), &Batch::numbered(1000));
        assert_eq!(plain(&requests[0]), expected[0].body);
        assert!(requests[0].body.len() * 5 < expected[0].body.len());
    }
}

#[test]
fn with_a_spool_forms_and_compression_are_the_same_after_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|request| Answer::status(if request.index < 2 { 503 } else { 200 }));
    let more = json!({
        "batch_mode": "nd_json", "message_template": "{\"n\":{payload:/n},\"key\":{idempotency_key}}", "compression": "zstd",
        "retry_delay": "2ms",
    });
    let sink = Sink::open(&spooled::config(&endpoint.url(), folder.path(), more));
    assert_eq!(sink.consume(&Batch::numbered(100)), 0);
    let began = Instant::now();
    spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
    let requests = endpoint.requests();
    assert!(requests.len() >= 3, "{:?}", began.elapsed());
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    let last = String::from_utf8(plain(requests.last().unwrap())).unwrap();
    let keys: std::collections::BTreeSet<String> =
        last.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].to_string()).collect();
    assert_eq!(keys.len(), 100);
}

#[test]
fn an_endpoint_that_takes_no_compression_is_told_with_the_key() {
    let endpoint = Endpoint::answering(415);
    let sink = Sink::open(&json!({ "url": endpoint.url(), "compression": "gzip" }));
    assert_eq!(sink.consume(&Batch::numbered(2)), 1);
    let lines = logged("compression = \"none\"");
    let own: Vec<_> = lines.iter().filter(|line| line.contains(&endpoint.port().to_string())).collect();
    assert!(own.len() == 1 && own[0].starts_with("ERROR"), "{lines:?}");
}

#[test]
fn wrong_forms_are_told() {
    for (config, words) in [
        (json!({ "message_template": "{user}" }), "message_template: {user} is no placeholder"),
        (json!({ "message_template": "{\"a\":{payload:/a}" }), "message_template: does not make JSON"),
        (
            json!({ "message_template": "{\"a\":{payload:/a|x}}" }),
            "write null, a number, or \"x\" with quotes",
        ),
        (json!({ "batch_mode": "json_array", "body_prefix": "{" }), "body_prefix: does not make JSON"),
        (
            json!({ "message_template": "1", "body_prefix": "{idempotency_key}" }),
            "body_prefix: holds {idempotency_key}",
        ),
        (json!({ "template_format": "text" }), "template_format: has no effect without message_template"),
        (json!({ "compression_level": 3 }), "compression_level: has no effect"),
        (json!({ "compression": "gzip", "compression_level": 10 }), "compression_level: 10 is not"),
        (json!({ "compression": "gzip", "headers": { "Content-Encoding": "gzip" } }), "beside compression"),
    ] {
        let told = told(config);
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn a_secret_in_a_template_is_masked_where_the_endpoint_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "secret-in-a-template\n").unwrap();
    let endpoint = Endpoint::start(|request| Answer::status(403).body(request.body.clone()));
    let config = json!({
        "url": endpoint.url(),
        "message_template": format!("{{\"key\":\"${{file:{}}}\",\"n\":{{payload:/n}}}}", secret.display()),
        "verbose_logging": true,
    });
    assert_eq!(Sink::open(&config).consume(&Batch::numbered(1).from_stream("template secret")), 1);
    assert!(bodies(&endpoint.requests())[0].contains("secret-in-a-template"));
    let failed = failures("template secret").reasons;
    assert!(failed[&0].contains("\"key\":\"***\"") && failed[&0].contains("\"n\":0"), "{failed:?}");
    assert_eq!(logged("secret-in-a-template"), Vec::<String>::new());
}
