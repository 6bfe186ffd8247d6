//! Through the built plugin to an endpoint on loopback, beside the limit: the same bodies, built before, posted by a
//! bare reqwest client on an executor of one thread, which is what the plugin has inside.
//!
//! ```sh
//! cargo bench --bench end_to_end
//! ```
//!
//! Both take turns, and each figure is the median of its runs, so that the ratio means something on a busy machine.
#![allow(clippy::unwrap_used)]

mod load;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use iggy_connector_sdk::{
    BorrowedMessage, MessagesMetadata, RawMessage, Schema, TopicMetadata,
    host::{encode_batch, encode_metadata, encode_topic},
};
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use support::plugin::{Batch, Sink, plugin};

const SIZE: usize = 1024;
const BATCH: usize = 1000;
const RUNS: usize = 7;

/// An endpoint that answers every request with 200 and costs next to nothing: a blocking thread for each connection.
/// It keeps the bodies of the first so many requests.
struct Endpoint {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<Bytes>>>,
}

impl Endpoint {
    fn start(keep: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Vec<Bytes>>>::default();
        let store = kept.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let store = store.clone();
                // A connection ends when its client goes.
                thread::spawn(move || serve(stream.unwrap(), keep, &store));
            }
        });
        Self { address, kept }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

fn serve(mut stream: TcpStream, keep: usize, store: &Mutex<Vec<Bytes>>) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut filled = 0;
    loop {
        let (head, length) = loop {
            if let Some(head) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
                let text = std::str::from_utf8(&buffer[..head]).unwrap().to_ascii_lowercase();
                let length = text.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().unwrap();
                break (head + 4, length);
            }
            filled += received(&mut stream, &mut buffer[filled..])?;
        };
        let mut body = Vec::new();
        let wanted = store.lock().unwrap().len() < keep;
        let mut left = length;
        let mut start = head;
        loop {
            let here = left.min(filled - start);
            if wanted {
                body.extend_from_slice(&buffer[start..start + here]);
            }
            left -= here;
            if left == 0 {
                buffer.copy_within(start + here..filled, 0);
                filled -= start + here;
                break;
            }
            (start, filled) = (0, received(&mut stream, &mut buffer)?);
        }
        if wanted {
            store.lock().unwrap().push(body.into());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

/// `None` when there is no more.
fn received(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<usize> {
    stream.read(buffer).ok().filter(|received| *received > 0)
}

/// Messages a second through the plugin.
fn through_the_plugin(sink: &Sink, batches: &[Vec<u8>], rounds: usize) -> f64 {
    let topic = encode_topic(&TopicMetadata { stream: "stream".to_owned(), topic: "topic".to_owned() });
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
    let metadata = encode_metadata(&metadata);
    let began = Instant::now();
    for _ in 0..rounds {
        for batch in batches {
            assert_eq!(plugin().consume_encoded(sink.id, &topic, &metadata, batch), 0);
        }
    }
    (rounds * batches.len() * BATCH) as f64 / began.elapsed().as_secs_f64()
}

/// A batch as it crosses the ABI.
fn encoded(payloads: &[Vec<u8>]) -> Vec<u8> {
    let batch = Batch::of(Schema::Json, payloads.to_vec());
    let messages: Vec<BorrowedMessage<'_>> = batch.messages.iter().map(RawMessage::borrowed).collect();
    encode_batch(batch.schema, &messages)
}

/// Messages a second by the bare client, so many requests at once.
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
    println!("{:<12} {:>9} {:>12} {:>12} {:>7}", "mode", "in flight", "plugin, /s", "bare, /s", "ratio");
    for (mode, at_once, batches, rounds) in
        [("nd_json", 1, 8, 20), ("json_array", 1, 8, 20), ("individual", 1, 2, 5), ("individual", 16, 2, 10)]
    {
        let in_batches = mode != "individual";
        let batches: Vec<Vec<u8>> =
            load::payloads(batches * BATCH, SIZE).chunks(BATCH).map(encoded).collect();
        let keep = if in_batches { batches.len() } else { batches.len() * BATCH };
        let endpoint = Endpoint::start(keep);
        let mut config: Value = json!({ "url": endpoint.url(), "batch_mode": mode, "concurrency": at_once });
        if at_once > 1 {
            config["ordering"] = "none".into();
        }
        let sink = Sink::open(&config);
        through_the_plugin(&sink, &batches, 1);
        let bodies = endpoint.kept.lock().unwrap().clone();
        assert_eq!(bodies.len(), keep);
        let each = if in_batches { BATCH } else { 1 };
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(through_the_plugin(&sink, &batches, rounds));
            bare.push(by_the_bare_client(&endpoint.url(), &bodies, rounds * bodies.len(), each, at_once));
        }
        let ratio = median(ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect());
        let (ours, bare) = (median(ours), median(bare));
        println!("{mode:<12} {at_once:>9} {ours:>12.0} {bare:>12.0} {ratio:>7.2}");
    }
}
