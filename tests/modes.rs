//! What requests look like in each mode, through the built plugin.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::HttpSink;
use iggy_connector_sdk::{
    HeaderKey, HeaderValue, MessagesMetadata, Schema, Sink as _, TopicMetadata, encode_headers,
};
use serde_json::{Value, json};

use crate::support::{
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink},
};

/// Sends a batch through a sink with this configuration, and returns the requests.
fn sent(config: Value, batch: &Batch) -> Vec<Request> {
    let endpoint = Endpoint::answering(200);
    let mut config = config;
    config["url"] = json!(endpoint.url());
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(batch), 0);
    endpoint.requests()
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn individual_sends_an_envelope_a_request_in_order() {
    let requests = sent(json!({}), &Batch::numbered(3));
    assert_eq!(requests.len(), 3);
    for (offset, request) in requests.iter().enumerate() {
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(
            value(&request.body),
            json!({
                "metadata": {
                    "iggy_id": format!("{:032x}", offset + 1),
                    "iggy_offset": offset,
                    "iggy_timestamp": 1_760_000_000_000_000_u64 + offset as u64,
                    "iggy_stream": "stream",
                    "iggy_topic": "topic",
                    "iggy_partition_id": 1,
                },
                "payload": { "n": offset },
            })
        );
    }
}

#[test]
fn nd_json_sends_a_line_for_each_message() {
    let requests = sent(json!({ "batch_mode": "nd_json", "include_metadata": false }), &Batch::numbered(3));
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("content-type"), Some("application/x-ndjson"));
    assert_eq!(requests[0].body, b"{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
}

#[test]
fn json_array_sends_one_array() {
    let requests =
        sent(json!({ "batch_mode": "json_array", "include_metadata": false }), &Batch::numbered(3));
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(requests[0].body, br#"[{"n":0},{"n":1},{"n":2}]"#);
}

#[test]
fn raw_sends_payloads_as_they_are() {
    let payloads = [&b"\x00\xff"[..], b"", b"plain"];
    let requests = sent(json!({ "batch_mode": "raw" }), &Batch::of(Schema::Raw, payloads));
    assert_eq!(requests.len(), 3);
    for (request, payload) in requests.iter().zip(payloads) {
        assert_eq!(request.header("content-type"), Some("application/octet-stream"));
        assert_eq!(request.body, payload);
    }
}

#[test]
fn the_method_is_the_configured_one() {
    for method in ["PUT", "PATCH", "DELETE"] {
        assert_eq!(sent(json!({ "method": method }), &Batch::numbered(1))[0].method, method);
    }
}

#[test]
fn configured_headers_are_sent_and_a_content_type_among_them_replaces_the_modes_own() {
    let config = json!({
        "batch_mode": "nd_json",
        "headers": { "X-Source": "iggy", "Content-Type": "application/json; charset=utf-8" },
        "headers_authorization": "Bearer t",
    });
    let request = &sent(config, &Batch::numbered(1))[0];
    assert_eq!(request.header("x-source"), Some("iggy"));
    assert_eq!(request.header("authorization"), Some("Bearer t"));
    let content_types: Vec<&str> = request
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(content_types, ["application/json; charset=utf-8"]);
}

#[test]
fn payload_bytes_pass_through_unchanged() {
    let payload = br#"{"b":1, "a":[ 1.0E+2,-0,12345678901234567890123],"a":"\u0041\ud800\/","":{}}"#;
    for mode in ["individual", "nd_json", "json_array"] {
        let body = &sent(json!({ "batch_mode": mode }), &Batch::of(Schema::Json, [payload]))[0].body;
        assert!(
            body.windows(payload.len()).any(|window| window == payload),
            "{mode}: {}",
            String::from_utf8_lossy(body)
        );
    }
}

#[test]
fn only_nd_json_touches_insignificant_line_breaks() {
    let pretty = "{\n  \"a\": 1,\r\n  \"b\": \"\\n\"\n}\n";
    for (mode, expected) in [
        ("individual", pretty.to_owned()),
        ("json_array", format!("[{pretty}]")),
        ("raw", pretty.to_owned()),
        ("nd_json", "{   \"a\": 1,    \"b\": \"\\n\" } \n".to_owned()),
    ] {
        let config = json!({ "batch_mode": mode, "include_metadata": false });
        let body = &sent(config, &Batch::of(Schema::Json, [pretty]))[0].body;
        assert_eq!(String::from_utf8_lossy(body), expected, "{mode}");
    }
}

#[test]
fn payloads_show_by_their_schema() {
    let base64 = json!({ "data": "AAH/", "iggy_payload_encoding": "base64" });
    for (schema, payload, expected) in [
        (Schema::Json, &br#"{"a":1}"#[..], json!({ "a": 1 })),
        (Schema::Text, "zażółć \"\n\u{1}".as_bytes(), json!("zażółć \"\n\u{1}")),
        (Schema::Raw, b"\x00\x01\xff", base64.clone()),
        (Schema::FlatBuffer, b"\x00\x01\xff", base64.clone()),
        (Schema::Avro, b"\x00\x01\xff", base64.clone()),
        (Schema::Proto, b"\x00\x01\xff", base64),
        (Schema::Proto, b"\x0a\x03a/b\x12\x02\x08\x01", json!({ "type_url": "a/b", "value": "CAE=" })),
    ] {
        let requests = sent(json!({ "include_metadata": false }), &Batch::of(schema, [payload]));
        assert_eq!(value(&requests[0].body), expected, "{schema}");
    }
}

#[test]
fn checksum_and_origin_timestamp_are_told_when_asked_for() {
    let plain = value(&sent(json!({}), &Batch::numbered(2))[1].body);
    assert_eq!(plain["metadata"].as_object().unwrap().len(), 6);
    let config = json!({ "include_checksum": true, "include_origin_timestamp": true });
    let told = value(&sent(config, &Batch::numbered(2))[1].body);
    assert_eq!(told["metadata"]["iggy_checksum"], 7);
    assert_eq!(told["metadata"]["iggy_origin_timestamp"], 1_759_999_999_000_001_u64);
}

#[test]
fn ids_are_32_hex_digits() {
    for (id, expected) in [
        (0, "00000000000000000000000000000000"),
        (u128::MAX, "ffffffffffffffffffffffffffffffff"),
        (0x0123_4567_89ab_cdef, "00000000000000000123456789abcdef"),
    ] {
        let mut batch = Batch::numbered(1);
        batch.messages[0].id = id;
        assert_eq!(value(&sent(json!({}), &batch)[0].body)["metadata"]["iggy_id"], expected);
    }
}

#[test]
fn headers_of_messages_are_text_and_raw_ones_base64() {
    let headers: BTreeMap<HeaderKey, HeaderValue> = [
        (HeaderKey::try_from("text").unwrap(), HeaderValue::try_from("a \"b\"").unwrap()),
        (HeaderKey::try_from("raw").unwrap(), HeaderValue::try_from(&b"\x00\xff"[..]).unwrap()),
        (HeaderKey::from(7_u32), HeaderValue::from(-1.5_f64)),
        (HeaderKey::try_from("yes").unwrap(), HeaderValue::from(true)),
    ]
    .into();
    let mut batch = Batch::numbered(1);
    batch.messages[0].headers = encode_headers(&headers);
    assert_eq!(
        value(&sent(json!({}), &batch)[0].body)["metadata"]["iggy_headers"],
        json!({
            "text": "a \"b\"",
            "raw": { "data": "AP8=", "iggy_header_encoding": "base64" },
            "7": "-1.5",
            "yes": "true",
        })
    );
    let without = value(&sent(json!({}), &Batch::numbered(1))[0].body);
    assert!(without["metadata"].get("iggy_headers").is_none());
}

#[test]
fn names_of_streams_and_topics_are_escaped() {
    let batch = Batch::numbered(1).from_stream("a\"b\\\n").from_topic("gęś");
    let metadata = &value(&sent(json!({}), &batch)[0].body)["metadata"];
    assert_eq!(metadata["iggy_stream"], "a\"b\\\n");
    assert_eq!(metadata["iggy_topic"], "gęś");
}

#[test]
fn an_empty_batch_sends_nothing() {
    for mode in ["individual", "nd_json", "json_array", "raw"] {
        assert!(sent(json!({ "batch_mode": mode }), &Batch::numbered(0)).is_empty(), "{mode}");
    }
}

#[test]
fn offsets_go_on_over_batches() {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&json!({ "url": endpoint.url(), "batch_mode": "nd_json" }));
    for first in [0, 10, 20] {
        assert_eq!(sink.consume(&Batch::numbered(10).from_offset(first)), 0);
    }
    let offsets: Vec<u64> = endpoint
        .requests()
        .iter()
        .flat_map(|request| {
            request
                .body
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(value)
                .collect::<Vec<_>>()
        })
        .map(|envelope| envelope["metadata"]["iggy_offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, (0..30).collect::<Vec<_>>());
}

#[test]
fn two_topics_at_once_go_through_one_connector() {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&json!({ "url": endpoint.url(), "batch_mode": "nd_json" }));
    std::thread::scope(|scope| {
        for topic in ["left", "right"] {
            let sink = &sink;
            scope.spawn(move || {
                for first in (0..100).step_by(10) {
                    assert_eq!(sink.consume(&Batch::numbered(10).from_topic(topic).from_offset(first)), 0);
                }
            });
        }
    });
    let mut offsets: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in endpoint.requests() {
        for line in request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let envelope = value(line);
            let topic = envelope["metadata"]["iggy_topic"].as_str().unwrap().to_owned();
            offsets.entry(topic).or_default().push(envelope["metadata"]["iggy_offset"].as_u64().unwrap());
        }
    }
    let all: Vec<u64> = (0..100).collect();
    assert_eq!(offsets, [("left".to_owned(), all.clone()), ("right".to_owned(), all)].into());
}

#[test]
fn secrets_in_a_url_are_sent_and_not_logged() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "t0p-s3cret").unwrap();
    let endpoint = Endpoint::answering(404);
    let url = format!(
        "{}/${{file:{}}}?key=quer1ed",
        endpoint.url().replace("//", "//me:passw0rd@"),
        file.path().display()
    );
    let sink = Sink::open(&json!({ "url": url, "verbose_logging": true, "max_retries": 0 }));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("secret-url")), 1);
    assert_eq!(endpoint.requests()[0].path, "/in/t0p-s3cret?key=quer1ed");
    assert_eq!(sink.close(), 0);
    assert!(!crate::support::plugin::logged(&format!("POST to {} in", endpoint.origin())).is_empty());
    for secret in ["t0p-s3cret", "quer1ed", "passw0rd"] {
        assert_eq!(crate::support::plugin::logged(secret), Vec::<String>::new());
    }
}

#[test]
fn a_secret_in_a_file_is_read_again_when_the_file_changes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "first\n").unwrap();
    let endpoint = Endpoint::answering(200);
    let header = format!("Bearer ${{file:{}}}", file.path().display());
    let sink = Sink::open(&json!({ "url": endpoint.url(), "headers": { "Authorization": header } }));
    let sent_with = || {
        assert_eq!(sink.consume(&Batch::numbered(1)), 0);
        endpoint.requests().last().unwrap().header("authorization").unwrap().to_owned()
    };
    assert_eq!(sent_with(), "Bearer first");
    std::fs::write(file.path(), "the second\n").unwrap();
    // It is looked at once a second.
    let changed = Instant::now();
    while sent_with() != "Bearer the second" {
        assert!(changed.elapsed() < Duration::from_secs(10), "the change is never seen");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_file(file.path()).unwrap();
    let removed = Instant::now();
    while crate::support::plugin::logged(&file.path().display().to_string()).is_empty() {
        assert_eq!(sent_with(), "Bearer the second", "the last good secret stays in use");
        assert!(removed.elapsed() < Duration::from_secs(10), "nobody is told that the file is gone");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(sent_with(), "Bearer the second");
}

#[test]
fn a_bad_configuration_does_not_open_and_every_problem_of_it_is_told() {
    let wrong = json!({
        "url": "ftp://example.com",
        "method": "FETCH",
        "timeout": "x",
        "batch_mode": "nd-json",
        "max_retries": -1,
        "success_status_codes": [99],
        "retry_backoff_multiplier": 0,
        "headers": { "a b": "c" },
        "include_metadata": 1,
        "verbose_loging": true,
        "surely_unknown": 1,
    });
    assert_eq!(Sink::try_open(&wrong).unwrap_err(), 1);
    let told = crate::support::plugin::logged("surely_unknown").concat();
    assert!(told.contains("ERROR") && told.contains("11 problems"), "{told}");
    for key in wrong.as_object().unwrap().keys() {
        assert!(told.contains(&format!("plugin_config.{key}")), "{key}: {told}");
    }
    assert!(told.contains("did you mean `verbose_logging`?"), "{told}");
    assert_eq!(Sink::try_open(&Value::Null).unwrap_err(), 1, "no configuration at all");
}

#[test]
fn an_endpoint_that_answers_later_holds_no_other_connector_up() {
    let slow = Endpoint::start(|_| Answer::stall());
    let fast = Endpoint::answering(200);
    let stuck = Sink::open(&json!({ "url": slow.url(), "timeout": "1h", "close_timeout": "1ms" }));
    let free = Sink::open(&json!({ "url": fast.url() }));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stuck.consume(&Batch::numbered(1)));
        slow.wait_for_requests(1, std::time::Duration::from_secs(10));
        assert_eq!(free.consume(&Batch::numbered(10)), 0);
        assert!(!waiting.is_finished());
        crate::support::plugin::plugin().close(stuck.id);
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

#[tokio::test]
async fn consume_before_open_is_an_error() {
    let config = serde_json::from_value(json!({ "url": "http://localhost/" })).unwrap();
    let sink = HttpSink::new(1, config);
    let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
    let error = sink.consume(&topic, metadata, Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("before open"), "{error}");
}
