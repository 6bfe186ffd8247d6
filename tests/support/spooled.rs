//! A sink with a spool: its configuration, and what came of what it was given.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{dead_letter::Folder, spool};
use serde_json::{Value, json};

use super::{
    config::with,
    endpoint::{Endpoint, Exchange, Request},
    plugin::Batch,
};

/// Longer than anything here takes.
pub const SOON: Duration = Duration::from_secs(30);

/// A configuration with a spool and dead letters below this folder. A key that is null in `more` is left out.
pub fn config(url: &str, folder: &Path, more: Value) -> Value {
    let durable = json!({
        "max_retry_delay": "5ms",
        "close_timeout": "2s",
        "spool": { "path": folder.join("spool") },
        "dead_letter": { "path": folder.join("dead-letters") },
    });
    let mut config = super::config::config(url, with(durable, more));
    config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    config
}

pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < SOON, "{what} does not come about");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The `n` of each message in the requests that were taken, in the order they came.
pub fn taken(endpoint: &Endpoint) -> Vec<u64> {
    let taken = endpoint.exchanges().into_iter().filter(Exchange::is_success);
    taken.flat_map(|exchange| numbers(&exchange.request)).collect()
}

pub fn numbers(request: &Request) -> Vec<u64> {
    let body = String::from_utf8(request.body.clone()).unwrap();
    body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap()).collect()
}

pub fn held(folder: &Path) -> u64 {
    spool::status(&folder.join("spool")).unwrap().messages
}

pub fn letters(folder: &Path) -> Vec<(u64, String)> {
    let mut letters = Vec::new();
    let add = |entry: iggy_connector_http_sink::dead_letter::Entry| {
        let record = entry.record.unwrap();
        letters.push((record.offset, record.reason));
        true
    };
    Folder::open(&folder.join("dead-letters")).unwrap().for_each(add).unwrap();
    letters
}

/// Messages `{"n":…}` at these offsets.
pub fn numbered(offsets: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::numbered(offsets.end);
    batch.messages.drain(..usize::try_from(offsets.start).unwrap());
    batch
}
