//! Libraries that read what the presets of their formats send.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use iggy_connector_sdk::{HeaderKey, HeaderValue, Schema, encode_headers};
use serde_json::{Map, Value, json};

use super::program::{lines_of, python};
use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a library reads in the requests; `None` where it is not installed.
fn read(library: &str, requests: &[Request]) -> Option<Vec<Value>> {
    let described = |request: &Request| {
        let headers: Map<String, Value> =
            request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone().into())).collect();
        json!({ "headers": headers, "body": BASE64_STANDARD.encode(&request.body), "secret": SECRET })
            .to_string()
            + "\n"
    };
    let mut command = python("read.py");
    command.arg(library);
    let lines = lines_of(command, &requests.iter().map(described).collect::<String>())?;
    Some(lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Orders, the second of which has headers that name types.
fn batch() -> Batch {
    let mut batch = Batch::of(Schema::Json, ["{\"n\":1,\"text\":\"\\u00e4 \\\"b\\\"\"}", "{\"n\":2}"]);
    let header =
        |name: &str| (HeaderKey::try_from(name).unwrap(), HeaderValue::try_from("order.paid").unwrap());
    batch.messages[1].headers = encode_headers(&[header("type"), header("ce_type")].into());
    batch
}

fn sent(preset: &str, more: Value) -> Vec<Request> {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&with(json!({ "url": endpoint.url(), "preset": preset }), more));
    assert_eq!(sink.consume(&batch()), 0, "{preset}");
    endpoint.requests()
}

#[test]
fn standardwebhooks_verifies_and_reads_events() {
    let requests = sent("standard_webhooks", json!({ "auth": { "secrets": SECRET } }));
    let Some(read) = read("standardwebhooks", &requests) else { return };
    assert_eq!(
        read,
        [
            json!({ "type": "message", "timestamp": "2025-10-09T08:53:20.000000Z", "data": { "n": 1, "text": "ä \"b\"" } }),
            json!({ "type": "order.paid", "timestamp": "2025-10-09T08:53:20.000001Z", "data": { "n": 2 } }),
        ]
    );
}

#[test]
fn cloudevents_reads_the_same_events_in_all_three_modes() {
    let mut all = Vec::new();
    let json_type = json!({ "headers": { "Content-Type": "application/json" } });
    for (preset, more) in
        [("cloudevents", json!({})), ("cloudevents_binary", json_type), ("cloudevents_batch", json!({}))]
    {
        let requests = sent(preset, more);
        assert_eq!(requests.len(), if preset == "cloudevents_batch" { 1 } else { 2 });
        let Some(read) = read("cloudevents", &requests) else { return };
        let events: Vec<Value> = read
            .into_iter()
            .flat_map(|events| match events {
                Value::Array(events) => events,
                error => panic!("{preset}: {error}"),
            })
            .collect();
        all.push(events);
    }
    let event = &all[0][1];
    assert_eq!(
        (&event["type"], &event["source"], &event["subject"], &event["data"]),
        (&json!("order.paid"), &json!("iggy"), &json!("stream/topic/1"), &json!({ "n": 2 }))
    );
    assert_eq!((&all[0][0]["type"], &all[0][0]["data"]["text"]), (&json!("iggy.message"), &json!("ä \"b\"")));
    assert!((event["time"].as_f64().unwrap() - 1_760_000_000.000_001).abs() < 1e-6);
    assert!(all[0] == all[1] && all[0] == all[2], "{all:?}");
}

#[test]
fn the_protocol_buffers_of_opentelemetry_read_logs() {
    let Some(read) = read("otlp", &sent("otlp_logs", json!({}))) else { return };
    let resource = &read[0]["resourceLogs"][0];
    let attribute = |of: &Value, key: &str| {
        let all = of["attributes"].as_array().unwrap_or_else(|| panic!("{read:?}"));
        all.iter()
            .find(|attribute| attribute["key"] == key)
            .map(|attribute| attribute["value"].clone())
            .unwrap()
    };
    assert_eq!(attribute(&resource["resource"], "iggy.topic"), json!({ "stringValue": "topic" }));
    let records = resource["scopeLogs"][0]["logRecords"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["timeUnixNano"], "1760000000000000000");
    assert_eq!(records[0]["body"]["stringValue"], "{\"n\":1,\"text\":\"\\u00e4 \\\"b\\\"\"}");
    assert_eq!(attribute(&records[1], "iggy.offset"), json!({ "intValue": "1" }));
}

/// The spans that a collector was sent; `None` where the library that reads them is not installed.
fn spans(collector: &Endpoint) -> Option<Vec<Value>> {
    let read = read("traces", &collector.requests())?;
    assert!(read.iter().all(|request| request["known"] == true), "{read:?}");
    let service = &read[0]["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"];
    assert_eq!(service, "iggy-http-sink");
    let spans = |request: &Value| request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().cloned();
    Some(read.iter().filter_map(spans).flatten().collect())
}

/// An id as JSON has it.
fn id(hex: u128, bytes: usize) -> String {
    BASE64_STANDARD.encode(&hex.to_be_bytes()[16 - bytes..])
}

#[test]
fn the_protocol_buffers_of_opentelemetry_read_the_spans_of_attempts() {
    let (endpoint, collector) = (
        Endpoint::start(|request| {
            if request.index == 0 { Answer::status(503).body("too much") } else { Answer::status(200) }
        }),
        Endpoint::answering(200),
    );
    let sink = Sink::open(&json!({
        "url": endpoint.url(),
        "retry_delay": "1ms",
        "tracing": { "otlp_endpoint": collector.origin() },
    }));
    let mut batch = Batch::of(Schema::Json, ["{\"n\":1}"]);
    let header =
        |name: &str, value: &str| (HeaderKey::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    batch.messages[0].headers =
        encode_headers(&[header("traceparent", parent), header("tracestate", "a=b")].into());
    assert_eq!(sink.consume(&batch), 0);
    assert_eq!(sink.close(), 0);
    let Some(spans) = spans(&collector) else { return };
    assert_eq!(spans.len(), 2, "{spans:?}");
    for (span, request) in spans.iter().zip(endpoint.requests()) {
        assert_eq!(span["traceId"], id(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 16), "{span}");
        assert_eq!(span["parentSpanId"], id(0x00f0_67aa_0ba9_02b7, 8), "{span}");
        assert_eq!(
            (&span["kind"], &span["traceState"]),
            (&json!("SPAN_KIND_CLIENT"), &json!("a=b")),
            "{span}"
        );
        let sent = request.header("traceparent").unwrap().split('-').nth(2).unwrap().to_owned();
        assert_eq!(span["spanId"], id(u128::from_str_radix(&sent, 16).unwrap(), 8), "{span}");
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{span}");
    }
    assert_eq!(
        spans[0]["status"],
        json!({ "code": "STATUS_CODE_ERROR", "message": "answered 503 Service Unavailable: too much" })
    );
    let attribute = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).map(|one| one["value"].clone())
    };
    assert_eq!(attribute(&spans[0], "http.response.status_code"), Some(json!({ "intValue": "503" })));
    assert_eq!(attribute(&spans[1], "http.request.resend_count"), Some(json!({ "intValue": "1" })));
    assert!(spans[1].get("status").is_none(), "{}", spans[1]);
}

#[test]
fn the_protocol_buffers_of_opentelemetry_read_the_links_of_a_request_of_several_messages() {
    // The request of all is refused, so that halves of it go on.
    let endpoint = Endpoint::start(|request| Answer::status(if request.index == 0 { 413 } else { 200 }));
    let collector = Endpoint::answering(200);
    let sink = Sink::open(&json!({
        "url": endpoint.url(), "batch_mode": "nd_json", "include_metadata": false,
        "tracing": { "otlp_endpoint": collector.origin() },
    }));
    let mut batch = Batch::of(Schema::Json, (0..300).map(|n| format!("\"{n:03}\"")));
    for (message, number) in batch.messages.iter_mut().zip(0_u64..) {
        // Two of one span, one that is not sampled, one without a trace.
        let (number, flags) = (if number == 1 { 0 } else { number }, u8::from(number != 2));
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{:016x}-{flags:02x}", number + 1);
        let mut headers = vec![("traceparent", parent)];
        if number == 4 {
            headers.push(("tracestate", "a=b".to_owned()));
        }
        let header = |(name, value): (&str, String)| {
            (HeaderKey::try_from(name).unwrap(), HeaderValue::try_from(&*value).unwrap())
        };
        if number != 3 {
            message.headers = encode_headers(&headers.into_iter().map(header).collect());
        }
    }
    assert_eq!(sink.consume(&batch), 0);
    assert_eq!(sink.close(), 0);
    let Some(spans) = spans(&collector) else { return };
    assert_eq!(spans.len(), 3, "{spans:?}");
    let of_span = |link: &Value| link["spanId"].as_str().unwrap().to_owned();
    let links = |span: &Value| -> Vec<Value> { span["links"].as_array().unwrap().clone() };
    // Of 300 messages, two have no link and two the same.
    let (whole, left) = (links(&spans[0]), links(&spans[1]));
    assert_eq!((whole.len(), &spans[0]["droppedLinksCount"]), (128, &json!(297 - 128)));
    let expected: Vec<String> = [0, 4].into_iter().chain(5..131).map(|number| id(number + 1, 8)).collect();
    assert_eq!(whole.iter().map(of_span).collect::<Vec<_>>(), expected);
    assert!(whole.iter().all(|link| link["traceId"] == id(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 16)));
    assert_eq!((&whole[1]["traceState"], &whole[1]["flags"]), (&json!("a=b"), &json!(1)));
    assert_eq!(left, whole, "the first half has 150 messages");
    let right = links(&spans[2]);
    assert_eq!((of_span(&right[0]), &spans[2]["droppedLinksCount"]), (id(151, 8), &json!(150 - 128)));
}
