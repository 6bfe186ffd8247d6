//! Presets against endpoints that refuse whatever their public API reference refuses: every message is taken once, or is a dead
//! letter with the endpoint's own words. Through the built plugin, with the shipped defaults.

mod bulk;
mod datadog;
mod loki;
mod splunk_hec;
use std::{collections::BTreeMap, fmt::Display, path::Path};

use iggy_connector_http_sink::dead_letter::{Folder, Record};
use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink},
};

/// Why an endpoint refuses a request: the status and its words.
type Refused = (u16, String);

/// Refuses with 400 where something is not as it should be.
fn check(right: bool, why: impl Display) -> Result<(), Refused> {
    if right { Ok(()) } else { Err((400, why.to_string())) }
}

fn has_type(request: &Request, expected: &str) -> bool {
    let given = request.header("content-type").unwrap_or_default();
    given.split(';').next().is_some_and(|media_type| media_type.trim() == expected)
}

/// Sends messages with these payloads by a preset, and returns its dead letters by offset.
fn deliver(preset: &str, url: &str, more: Value, payloads: Vec<String>) -> BTreeMap<u64, Record> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead-letters");
    let config =
        json!({ "url": url, "preset": preset, "retry_delay": "5ms", "dead_letter": { "path": path } });
    let sink = Sink::open(&with(config, more));
    assert_eq!(sink.consume(&Batch::of(Schema::Json, payloads)), 0, "{preset}");
    drop(sink);
    letters(&path)
}

fn letters(path: &Path) -> BTreeMap<u64, Record> {
    let mut letters = BTreeMap::new();
    let add = |entry: iggy_connector_http_sink::dead_letter::Entry| {
        let record = entry.record.unwrap();
        letters.insert(record.offset, record);
        true
    };
    Folder::open(path).unwrap().for_each(add).unwrap();
    letters
}

/// An endpoint that checks each request: a refusal is its answer.
fn endpoint(checked: impl Fn(&Request) -> Result<Answer, Refused> + Send + Sync + 'static) -> Endpoint {
    Endpoint::start(move |request| match checked(request) {
        Ok(answer) => answer,
        Err((status, why)) => Answer::status(status).body(why),
    })
}
