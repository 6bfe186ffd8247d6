//! Attempts as spans, and what the endpoint is told of them.

use std::{collections::BTreeSet, time::Duration};

use iggy_connector_sdk::{HeaderKey, HeaderValue, Schema, encode_headers};
use serde_json::json;

use crate::support::{
    config::{config, with},
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, logged},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A message with this `traceparent`.
fn traced(parent: &str) -> Batch {
    let mut batch = Batch::of(Schema::Json, ["{\"n\":1}"]);
    let header = (HeaderKey::try_from("traceparent").unwrap(), HeaderValue::try_from(parent).unwrap());
    batch.messages[0].headers = encode_headers(&[header].into());
    batch
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn holds(request: &Request, bytes: &[u8]) -> usize {
    request.body.windows(bytes.len()).filter(|window| *window == bytes).count()
}

/// The span that a request says it is of, if it is of this trace.
fn span_in(request: &Request, trace: &str) -> String {
    let parent = request.header("traceparent").unwrap();
    let (before, flags) = parent.rsplit_once('-').unwrap();
    assert!(before.starts_with(&format!("00-{trace}-")) && flags == "01", "{parent}");
    before.rsplit_once('-').unwrap().1.to_owned()
}

#[test]
fn each_attempt_is_a_span_of_the_messages_trace_and_is_passed_on() {
    let endpoint = Endpoint::start(|request| {
        if request.index == 0 { Answer::status(503).body("too much") } else { Answer::status(200) }
    });
    let collector = Endpoint::answering(200);
    let keys = json!({ "tracing": { "otlp_endpoint": collector.origin() } });
    let sink = Sink::open(&config(&endpoint.url(), keys));
    assert_eq!(sink.consume(&traced(&format!("00-{TRACE}-{PARENT}-01"))), 0);
    // Close sends what is left.
    assert_eq!(sink.close(), 0);
    let spans: BTreeSet<String> = endpoint.requests().iter().map(|request| span_in(request, TRACE)).collect();
    assert!(spans.len() == 2 && !spans.contains(PARENT), "{spans:?}");
    let taken = collector.requests();
    assert!(taken.iter().all(|request| request.path == "/v1/traces"), "{taken:?}");
    assert!(taken.iter().all(|request| request.header("content-type") == Some("application/x-protobuf")));
    let of_all = |what: &[u8]| taken.iter().map(|request| holds(request, what)).sum::<usize>();
    assert_eq!((of_all(&bytes(TRACE)), of_all(&bytes(PARENT))), (2, 2));
    assert!(spans.iter().all(|span| of_all(&bytes(span)) == 1), "{spans:?}");
    assert_eq!(of_all(b"answered 503 Service Unavailable: too much"), 1);
}

#[test]
fn a_trace_that_is_not_sampled_is_passed_on_as_it_came() {
    let (endpoint, collector) = (Endpoint::answering(200), Endpoint::answering(200));
    let keys = json!({ "tracing": { "otlp_endpoint": collector.origin() } });
    let sink = Sink::open(&config(&endpoint.url(), keys));
    let parent = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(sink.consume(&traced(&parent)), 0);
    assert_eq!(sink.close(), 0);
    assert_eq!(endpoint.requests()[0].header("traceparent"), Some(parent.as_str()));
    assert_eq!(collector.requests().len(), 0);
}

#[test]
fn requests_for_several_messages_begin_traces_of_their_own() {
    let (endpoint, collector) = (Endpoint::answering(200), Endpoint::answering(200));
    let keys = json!({ "batch_mode": "nd_json", "max_batch_messages": 2, "tracing": { "otlp_endpoint": collector.origin() } });
    let sink = Sink::open(&config(&endpoint.url(), keys.clone()));
    assert_eq!(sink.consume(&Batch::numbered(6)), 0);
    assert_eq!(sink.close(), 0);
    let parents: BTreeSet<String> =
        endpoint.requests().iter().map(|request| request.header("traceparent").unwrap().to_owned()).collect();
    assert_eq!(parents.len(), 3);
    // A header of the configuration is not touched.
    let own = format!("00-{TRACE}-{PARENT}-01");
    let sink = Sink::open(&config(&endpoint.url(), with(keys, json!({ "headers": { "traceparent": own } }))));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests()[3].header("traceparent"), Some(own.as_str()));
}

#[test]
fn a_collector_that_is_away_or_hangs_holds_up_nothing() {
    let hanging = Endpoint::start(|_| Answer::stall());
    let away = crate::support::endpoint::refused_url();
    for (collector, reason) in [(hanging.origin(), None), (away, Some("connect"))] {
        let endpoint = Endpoint::answering(200);
        let keys = json!({ "tracing": { "otlp_endpoint": collector } });
        let sink = Sink::open(&config(&endpoint.url(), keys));
        let began = std::time::Instant::now();
        assert_eq!(sink.consume(&Batch::numbered(100)), 0);
        assert_eq!(sink.close(), 0);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        if reason.is_some() {
            let lines = logged("tracing.otlp_endpoint ");
            assert!(lines.len() == 1 && lines[0].contains("100 spans are lost"), "{lines:?}");
        }
    }
}

#[test]
fn what_is_no_endpoint_does_not_open() {
    let keys = json!({ "tracing": { "otlp_endpoint": "localhost:4318" } });
    assert_ne!(Sink::try_open(&config("http://127.0.0.1:1/", keys)).unwrap_err(), 0);
    let said = logged("tracing.otlp_endpoint: ");
    assert!(said.iter().any(|line| line.contains("http://localhost:4318")), "{said:?}");
}
