//! Many messages that fail for one cause, in the log.

use std::collections::BTreeSet;

use iggy_connector_sdk::Schema;
use serde_json::json;

use crate::support::{
    config::config,
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, failures, logged},
};

/// The lines that name messages of a stream.
fn lines_of(stream: &str) -> Vec<String> {
    logged(&format!("stream {stream}, topic "))
}

#[test]
fn ten_thousand_failed_messages_of_one_cause_are_four_lines_and_each_is_named() {
    let endpoint = Endpoint::start(|_| Answer::status(403).body("no such key"));
    let sink = Sink::open(&config(&endpoint.url(), json!({ "batch_mode": "nd_json" })));
    let stream = "ten thousand of one cause";
    for first in (0..10_000).step_by(10) {
        let batch = Batch::of(Schema::Json, (first..first + 10).map(|n| format!("{{\"n\":{n}}}")));
        assert_eq!(sink.consume(&batch.from_offset(first).from_stream(stream)), 1);
    }
    assert_eq!(lines_of(stream).len(), 3);
    let of_sink = format!("connector with ID: {}: ", sink.id);
    assert_eq!(sink.close(), 0);
    let lines = lines_of(stream);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let of_sink = logged(&of_sink);
    assert!(!of_sink.iter().any(|line| line.contains("consume failed")), "{of_sink:#?}");
    let failed = failures(stream).reasons;
    assert_eq!(failed.keys().copied().collect::<BTreeSet<_>>(), (0..10_000).collect());
    assert!(failed.values().all(|why| why.starts_with("rejected, status 403 after 1 attempt: no such key")));
}

#[test]
fn ten_thousand_dead_letters_of_one_cause_are_four_lines() {
    let endpoint = Endpoint::answering(404);
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({ "batch_mode": "nd_json", "dead_letter": { "path": folder.path().join("letters") } });
    let sink = Sink::open(&config(&endpoint.url(), keys));
    let stream = "ten thousand letters";
    for first in (0..10_000).step_by(100) {
        assert_eq!(sink.consume(&Batch::numbered(100).from_offset(first).from_stream(stream)), 0);
    }
    assert_eq!(sink.close(), 0);
    let lines = lines_of(stream);
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("WARN ")), "{lines:#?}");
    assert!(
        lines[3].starts_with("WARN 9700 messages of ")
            && lines[3].contains("offsets 300-9999 moved to the dead letters")
    );
}

#[test]
fn letters_that_cannot_be_written_are_told_once() {
    let endpoint = Endpoint::answering(404);
    let folder = tempfile::tempdir().unwrap();
    let letters = folder.path().join("letters");
    let keys = json!({ "batch_mode": "nd_json", "dead_letter": { "path": letters, "max_bytes": 1_000_001 } });
    let sink = Sink::open(&config(&endpoint.url(), keys));
    let stream = "letters without room";
    let text = "x".repeat(60_000);
    for first in 0..40 {
        let batch = Batch::of(Schema::Text, [text.as_str()]).from_offset(first).from_stream(stream);
        let code = sink.consume(&batch);
        assert!(code == 0 || first > 5, "{code}");
    }
    assert_eq!(sink.close(), 0);
    let told = logged("max_bytes is 1000001");
    assert_eq!(
        told.iter().filter(|line| line.contains("dead letters cannot be written")).count(),
        1,
        "{told:?}"
    );
    let failed = failures(stream).reasons;
    assert!(failed.len() > 20 && lines_of(stream).len() <= 8, "{} {:#?}", failed.len(), lines_of(stream));
}
