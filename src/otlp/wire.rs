//! Encodes spans for OTLP: protocol buffers of `opentelemetry.proto.collector.trace.v1`, version 1, as far as they are used
//! here.

use std::time::{SystemTime, UNIX_EPOCH};

use super::span::{Attribute, Span, Value};
use crate::request::TraceContext;

/// The kind of a span for an outgoing request, and the status code of a failed one.
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// `ExportTraceServiceRequest`: spans of the service with this name.
pub(super) fn request(service: &str, spans: &[Span]) -> Vec<u8> {
    let mut all = Vec::new();
    message(&mut all, 1, |resource_spans| {
        message(resource_spans, 1, |resource| {
            attribute(resource, 1, &("service.name", Value::Text(service.to_owned())));
        });
        message(resource_spans, 2, |scope_spans| {
            message(scope_spans, 1, |scope| {
                bytes(scope, 1, env!("CARGO_PKG_NAME").as_bytes());
                bytes(scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for one in spans {
                message(scope_spans, 2, |into| span(into, one));
            }
        });
    });
    all
}

fn span(into: &mut Vec<u8>, span: &Span) {
    bytes(into, 1, &span.trace);
    bytes(into, 2, &span.id);
    if let Some(state) = &span.state {
        bytes(into, 3, state.as_bytes());
    }
    if let Some(parent) = &span.parent {
        bytes(into, 4, parent);
    }
    bytes(into, 5, span.name.as_bytes());
    number(into, 6, CLIENT);
    time(into, 7, span.began);
    time(into, 8, span.ended);
    for one in &span.attributes {
        attribute(into, 9, one);
    }
    for TraceContext { trace, parent, state } in &span.links {
        message(into, 13, |link| {
            bytes(link, 1, trace);
            bytes(link, 2, &parent.unwrap_or_default());
            if let Some(state) = state {
                bytes(link, 3, state.as_bytes());
            }
            flags(link, 6);
        });
    }
    if span.links_left_out > 0 {
        number(into, 14, span.links_left_out.into());
    }
    if let Some(why) = &span.failure {
        message(into, 15, |status| {
            bytes(status, 2, why.as_bytes());
            number(status, 3, ERROR);
        });
    }
    flags(into, 16);
}

/// The trace is sampled (W3C Trace Context section 3.2.2.5).
fn flags(into: &mut Vec<u8>, field: u64) {
    tag(into, field, FIXED32);
    into.extend(1_u32.to_le_bytes());
}

fn attribute(into: &mut Vec<u8>, field: u64, (key, value): &Attribute) {
    message(into, field, |pair| {
        bytes(pair, 1, key.as_bytes());
        message(pair, 2, |any| match value {
            Value::Text(text) => bytes(any, 1, text.as_bytes()),
            Value::Number(value) => number(any, 3, *value),
        });
    });
}

fn tag(into: &mut Vec<u8>, field: u64, kind: u64) {
    varint(into, field << 3 | kind);
}

fn number(into: &mut Vec<u8>, field: u64, value: u64) {
    tag(into, field, VARINT);
    varint(into, value);
}

/// Nanoseconds since the Unix epoch.
fn time(into: &mut Vec<u8>, field: u64, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    tag(into, field, FIXED64);
    into.extend(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).to_le_bytes());
}

fn bytes(into: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    tag(into, field, LENGTH);
    varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

fn message(into: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(into, field, &inner);
}

/// Seven bits per byte, the lowest first.
fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    into.push(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_the_encoding_says() {
        let mut written = Vec::new();
        number(&mut written, 1, 150);
        bytes(&mut written, 2, b"testing");
        tag(&mut written, 16, FIXED32);
        // The examples of the specification of the encoding.
        assert_eq!(written, b"\x08\x96\x01\x12\x07testing\x85\x01");
    }
}
