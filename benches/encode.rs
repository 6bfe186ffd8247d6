//! What encoding a message costs in each mode, beside a copy of the same bytes: orders as JSON, text and raw.
//!
//! ```sh
//! cargo bench --bench encode
//! ```
//!
//! The times depend on the machine; the ratio to the copy, and the instructions that callgrind counts
//! (`valgrind --tool=callgrind`), hardly do.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{
    batch::Batch,
    config::Config,
    encode::{Bodies, Buffers, Encoded},
    plan::Lane,
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use serde_json::json;

const BATCH: usize = 1000;
/// Each figure is the best of so many rounds: noise only ever adds.
const ROUNDS: usize = 30;

fn best(mut round: impl FnMut()) -> Duration {
    round();
    let timed = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        round();
        began.elapsed()
    });
    timed.min().unwrap_or_default()
}

fn encode(batch: &Batch<'_>, config: &Config, buffers: &Buffers) -> usize {
    let mut bodies = Bodies::of(batch, Lane::All(batch.messages.len()), &config.body, buffers);
    let mut bytes = 0;
    while let Some(encoded) = bodies.next_within(usize::MAX) {
        match encoded {
            Encoded::Body(body) => bytes += black_box(body).bytes.len(),
            Encoded::Refused(message, why) => panic!("message {message}: {why}"),
        }
    }
    bytes
}

fn main() {
    let orders: Vec<&[u8]> =
        include_bytes!("../fixtures/orders.ndjson").split(|byte| *byte == b'\n').take(BATCH).collect();
    let messages: Vec<BorrowedMessage<'_>> = (0..)
        .zip(&orders)
        .map(|(offset, payload)| BorrowedMessage {
            id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef + u128::from(offset),
            offset,
            checksum: offset,
            timestamp: 1_760_000_000_000_000,
            origin_timestamp: 1_760_000_000_000_000,
            headers: b"",
            payload,
        })
        .collect();
    let size: usize = orders.iter().map(|order| order.len()).sum();
    let topic = TopicMetadata { stream: "orders".to_owned(), topic: "created".to_owned() };

    let mut copy = Vec::with_capacity(size);
    let copied = best(|| {
        copy.clear();
        for order in &orders {
            copy.extend_from_slice(black_box(order));
        }
        black_box(&copy);
    });
    println!("{BATCH} orders of {} bytes on average", size / BATCH);
    println!("{:<12} {:<6} {:>12} {:>10} {:>12}", "mode", "schema", "ns/message", "GB/s", "copies");
    let line = |mode: &str, schema: &str, time: Duration| {
        let nanos = time.as_secs_f64() * 1e9;
        let per_message = nanos / BATCH as f64;
        let ratio = time.as_secs_f64() / copied.as_secs_f64();
        println!("{mode:<12} {schema:<6} {per_message:>12.0} {:>10.2} {ratio:>12.1}", size as f64 / nanos);
    };
    line("(copy)", "", copied);
    for mode in ["nd_json", "json_array", "individual", "raw"] {
        for schema in [Schema::Json, Schema::Text, Schema::Raw] {
            let config = Config::from_json(&json!({ "url": "http://localhost/", "batch_mode": mode }));
            let config = config.expect("a configuration");
            let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema };
            let buffers = Buffers::default();
            let time = best(|| {
                let batch = Batch::borrowed(&topic, &metadata, &messages);
                black_box(encode(&batch, &config, &buffers));
            });
            line(mode, &schema.to_string(), time);
        }
    }
}
