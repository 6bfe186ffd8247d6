//! What the parts do together, with the shipped defaults but for the keys that each test names, through the built plugin.

mod bodies;
mod close;
mod earlier_release;
mod order;
mod outages;
mod parked;
use std::{
    fs, thread,
    time::{Duration, Instant},
};

use iggy_connector_sdk::Schema;
use serde_json::Value;

use crate::support::{
    endpoint::{Endpoint, Request},
    plugin::Batch,
};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

/// The offset of the message in a body of `individual`.
fn offset_of(request: &Request) -> u64 {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["metadata"]["iggy_offset"].as_u64().unwrap()
}

/// Messages with these offsets and ids of their own, labelled with a partition.
fn messages(partition: u32, offsets: &[(u64, &str)]) -> Batch {
    let mut batch = Batch::of(Schema::Json, offsets.iter().map(|(_, payload)| *payload));
    batch.partition_id = partition;
    for (message, (offset, _)) in batch.messages.iter_mut().zip(offsets) {
        message.offset = *offset;
    }
    batch
}

/// What the endpoint took, in that order.
fn taken<T>(endpoint: &Endpoint, what: impl Fn(&Request) -> T) -> Vec<T> {
    let exchanges = endpoint.exchanges();
    exchanges
        .iter()
        .filter(|exchange| exchange.is_success())
        .map(|exchange| what(&exchange.request))
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The offsets of all dead letters in a folder, in their order.
fn letters(folder: &std::path::Path) -> Vec<u64> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].as_u64().unwrap())
        .collect()
}
