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
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
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

use support::plugin::{Batch, Sink, plugin};

const SIZE: usize = 1024;
const BATCH: usize = 1000;
const RUNS: usize = 7;

/// An endpoint that answers every request with 200 and costs next to nothing: a blocking thread for each connection.
/// It keeps the bodies of the first so many requests.
struct Endpoint {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<Bytes>>>,
    answered: Arc<AtomicUsize>,
}

impl Endpoint {
    fn start(keep: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Vec<Bytes>>>::default();
        let answered = Arc::<AtomicUsize>::default();
        let (store, count) = (kept.clone(), answered.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (store, count) = (store.clone(), count.clone());
                // A connection ends when its client goes.
                thread::spawn(move || serve(stream.unwrap(), keep, &store, &count));
            }
        });
        Self { address, kept, answered }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

fn serve(mut stream: TcpStream, keep: usize, store: &Mutex<Vec<Bytes>>, count: &AtomicUsize) -> Option<()> {
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
        count.fetch_add(1, Relaxed);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

/// `None` when there is no more.
fn received(stream: &mut TcpStream, buffer: &mut [u8]) -> Option<usize> {
    stream.read(buffer).ok().filter(|received| *received > 0)
}

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
        let batch = |number: usize| {
            let start = number * BATCH % self.payloads.len();
            let batch = Batch::of(Schema::Json, self.payloads[start..start + BATCH].to_vec())
                .from_offset(self.offset);
            self.offset += BATCH as u64;
            let messages: Vec<BorrowedMessage<'_>> =
                batch.messages.iter().map(RawMessage::borrowed).collect();
            encode_batch(batch.schema, &messages)
        };
        (0..count).map(batch).collect()
    }
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
