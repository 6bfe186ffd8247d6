//! Through the built plugin to an endpoint on loopback, beside the limit: the same bodies, built before, posted by a
//! bare reqwest client on an executor of one thread, which is what the plugin has inside.
//!
//! ```sh
//! cargo bench --bench end_to_end
//! cargo bench --bench end_to_end -- single  # some of modes, urls, single
//! ```
//!
//! Both take turns, and each figure is the median of its runs, so that the ratio means something on a busy machine. After
//! that, many urls beside one, and what a call with a single message costs.
#![allow(clippy::unwrap_used)]

mod endpoint;
#[path = "../load/mod.rs"]
mod load;
mod single;
#[path = "../../tests/support/mod.rs"]
mod support;
mod urls;

use std::{
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use iggy_connector_sdk::{
    BorrowedMessage, MessagesMetadata, RawMessage, Schema, TopicMetadata,
    host::{encode_batch, encode_metadata, encode_topic},
};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use endpoint::Endpoint;
use support::plugin::{Batch, Sink, plugin};

const SIZE: usize = 1024;
const BATCH: usize = 1000;
const RUNS: usize = 7;

/// Messages a second through the plugin, until the last has arrived.
fn through_the_plugin(sink: &Sink, endpoint: &Endpoint, batches: &[Vec<u8>], each: usize) -> f64 {
    let topic = encode_topic(&TopicMetadata { stream: "stream".to_owned(), topic: "topic".to_owned() });
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
    let metadata = encode_metadata(&metadata);
    let messages = batches.len() * BATCH;
    let until = endpoint.answered.load(Relaxed) + messages / each;
    let began = Instant::now();
    for batch in batches {
        assert_eq!(plugin().consume_encoded(sink.id, &topic, &metadata, batch), 0);
    }
    while endpoint.answered.load(Relaxed) < until {
        thread::sleep(Duration::from_micros(100));
    }
    messages as f64 / began.elapsed().as_secs_f64()
}

/// Batches as they cross the ABI, of messages that were never there before: a spool would know them.
struct Source {
    payloads: Vec<Vec<u8>>,
    offset: u64,
}

impl Source {
    fn batches(&mut self, count: usize) -> Vec<Vec<u8>> {
        self.batches_of(BATCH, count)
    }

    fn batches_of(&mut self, each: usize, count: usize) -> Vec<Vec<u8>> {
        let batch = |number: usize| {
            let start = number * each % self.payloads.len();
            let batch =
                Batch::of(Schema::Json, self.payloads[start..start + each].to_vec()).from_offset(self.offset);
            self.offset += each as u64;
            let messages: Vec<BorrowedMessage<'_>> =
                batch.messages.iter().map(RawMessage::borrowed).collect();
            encode_batch(batch.schema, &messages)
        };
        (0..count).map(batch).collect()
    }
}

/// Messages a second by the bare client, with this many requests in flight.
fn by_the_bare_client(url: &str, bodies: &[Bytes], requests: usize, each: usize, at_once: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        let post = |body: Bytes| async {
            let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
            assert_eq!(request.send().await.unwrap().bytes().await.unwrap().len(), 0);
        };
        post(bodies[0].clone()).await;
        let began = Instant::now();
        let all = stream::iter(bodies.iter().cycle().take(requests)).map(|body| post(body.clone()));
        all.buffer_unordered(at_once).for_each(|()| async {}).await;
        (requests * each) as f64 / began.elapsed().as_secs_f64()
    })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let parts: [(&str, fn()); 3] = [("modes", modes), ("urls", urls::compare), ("single", single::compare)];
    for (name, measure) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure();
        }
    }
}

fn modes() {
    println!("{:<18} {:>9} {:>12} {:>12} {:>7}", "mode", "in flight", "plugin, /s", "bare, /s", "ratio");
    for (mode, at_once, spooled, batches) in [
        ("nd_json", 1, false, 160),
        ("nd_json", 1, true, 160),
        ("json_array", 1, false, 160),
        ("individual", 1, false, 10),
        ("individual", 1, true, 10),
        ("individual", 16, false, 20),
    ] {
        let each = if mode == "individual" { 1 } else { BATCH };
        let mut source = Source { payloads: load::payloads(2 * BATCH, SIZE), offset: 0 };
        let endpoint = Endpoint::start(2 * BATCH / each);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config: Value = json!({ "url": endpoint.url(), "batch_mode": mode, "concurrency": at_once });
        if at_once > 1 {
            config["ordering"] = "none".into();
        }
        if spooled {
            config["spool"] = json!({ "path": folder.path() });
            // What waits goes out together; these are the bodies that the bare client posts as well.
            config["max_batch_messages"] = each.into();
        }
        let sink = Sink::open(&config);
        through_the_plugin(&sink, &endpoint, &source.batches(2), each);
        let bodies = endpoint.kept.lock().unwrap().clone();
        assert_eq!(bodies.len(), 2 * BATCH / each);
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let batches = source.batches(batches);
            ours.push(through_the_plugin(&sink, &endpoint, &batches, each));
            let requests = batches.len() * BATCH / each;
            bare.push(by_the_bare_client(&endpoint.url(), &bodies, requests, each, at_once));
        }
        let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect());
        let (ours, bare) = (median(ours), median(bare));
        let mode = if spooled { format!("{mode}, spooled") } else { mode.to_owned() };
        println!("{mode:<18} {at_once:>9} {ours:>12.0} {bare:>12.0} {ratio:>7.2}");
    }
}
