//! What a call of consume with one message costs, in processor time: here it is wakeups between threads that count.

use std::time::Duration;

use iggy_connector_sdk::{
    MessagesMetadata, Schema, TopicMetadata,
    host::{encode_metadata, encode_topic},
};
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use crate::{
    RUNS, SIZE, Source,
    endpoint::Endpoint,
    load, median,
    support::plugin::{Sink, plugin},
};

const CALLS: usize = 1000;

/// Prints a line for each mode.
pub(super) fn compare() {
    println!("\n{:<28} {:>12} {:>12} {:>7}", "one message a call", "plugin, µs", "bare, µs", "ratio");
    for mode in ["individual", "nd_json"] {
        let endpoint = Endpoint::start(0);
        let sink = Sink::open(&json!({ "url": endpoint.url(), "batch_mode": mode }));
        let mut source = Source { payloads: load::payloads(CALLS, SIZE), offset: 0 };
        calls(&sink, &source.batches_of(1, CALLS));
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let batches = source.batches_of(1, CALLS);
            ours.push(each(&endpoint, || calls(&sink, &batches)));
            bare.push(each(&endpoint, || posts(&endpoint.url(), &source.payloads)));
        }
        let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect());
        println!("{mode:<28} {:>12.1} {:>12.1} {ratio:>7.2}", median(ours), median(bare));
    }
}

/// The processor time of one of `CALLS` calls, in microseconds, without what it costs the endpoint.
fn each(endpoint: &Endpoint, all: impl FnOnce()) -> f64 {
    let before = endpoint.cpu_of_others();
    all();
    let taken: Duration = endpoint.cpu_of_others().saturating_sub(before);
    taken.as_secs_f64() * 1e6 / CALLS as f64
}

fn calls(sink: &Sink, batches: &[Vec<u8>]) {
    let topic = encode_topic(&TopicMetadata { stream: "stream".to_owned(), topic: "topic".to_owned() });
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
    let metadata = encode_metadata(&metadata);
    for batch in batches {
        assert_eq!(plugin().consume_encoded(sink.id, &topic, &metadata, batch), 0);
    }
}

/// The same number of requests by a bare client, one after the other.
fn posts(url: &str, payloads: &[Vec<u8>]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        for payload in payloads {
            let request = client.post(url).header(CONTENT_TYPE, "application/json").body(payload.clone());
            assert_eq!(request.send().await.unwrap().bytes().await.unwrap().len(), 0);
        }
    });
}
