//! What the path of a message takes from the allocator. Alone in its process: every allocation counts.
#![allow(unsafe_code)] // an allocator is

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use iggy_connector_http_sink::sink::{HttpSink, HttpSinkConfig};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, Sink, TopicMetadata, get_runtime};
use serde_json::json;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST_HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all of it is done by the system's allocator; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST_HELD.fetch_max(held, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// An endpoint that answers 200 and, once it has a connection, allocates nothing.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.expect("a connection")));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> Option<()> {
    const LENGTH: &[u8] = b"content-length: ";
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut filled = 0;
        let head = loop {
            filled += stream.read(&mut buffer[filled..]).ok().filter(|read| *read > 0)?;
            if let Some(end) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") {
                break end;
            }
        };
        let at = buffer[..head].windows(LENGTH.len()).position(|name| name == LENGTH)? + LENGTH.len();
        let digits = buffer[at..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
        let mut left = (head + 4 + length).saturating_sub(filled);
        while left > 0 {
            left -= stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

/// Allocations a request of a client that does nothing else.
fn allocations_of_the_client(url: &str) -> f64 {
    const REQUESTS: u32 = 50;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an executor");
    let post = || async {
        let answer = client.post(url).body("body").send().await.expect("an answer");
        answer.bytes().await.expect("its body");
    };
    executor.block_on(async {
        post().await;
        let before = ALLOCATIONS.load(Relaxed);
        for _ in 0..REQUESTS {
            post().await;
        }
        (ALLOCATIONS.load(Relaxed) - before) as f64 / f64::from(REQUESTS)
    })
}

#[test]
fn a_message_takes_no_allocation_of_its_own_and_a_batch_no_more_memory_than_twice_its_body() {
    const MOST: u32 = 4000;
    let payload = format!("{{\"text\":\"{}\"}}", "x".repeat(1000));
    let topic = TopicMetadata { stream: "stream".to_owned(), topic: "topic".to_owned() };
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
    // {"k": u32 42}, as it crosses the ABI.
    let headers = b"\x01\x01\x04aw==\x0a\x08KgAAAA==";
    let messages: Vec<BorrowedMessage<'_>> = (0..u64::from(MOST))
        .map(|offset| BorrowedMessage {
            id: u128::from(offset) + 1,
            offset,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers,
            payload: payload.as_bytes(),
        })
        .collect();
    let client = allocations_of_the_client(&format!("http://{}/", endpoint()));
    println!("the client alone: {client} allocations a request");
    for mode in ["nd_json", "json_array"] {
        let config = json!({ "url": format!("http://{}/", endpoint()), "batch_mode": mode });
        let mut sink = HttpSink::new(1, HttpSinkConfig::from(config));
        get_runtime().block_on(async {
            sink.open().await.expect("it opens");
            let before = HELD.load(Relaxed);
            MOST_HELD.store(before, Relaxed);
            let mut of_batch = Vec::new();
            for count in [MOST / 4, MOST] {
                let batch = &messages[..count as usize];
                for _ in 0..5 {
                    sink.consume_borrowed(&topic, metadata, batch).await.expect("they are delivered");
                }
                let steady = ALLOCATIONS.load(Relaxed);
                for _ in 0..20 {
                    sink.consume_borrowed(&topic, metadata, batch).await.expect("they are delivered");
                }
                of_batch.push((ALLOCATIONS.load(Relaxed) - steady) as f64 / 20.0);
            }
            println!("{mode}: {of_batch:?} allocations a batch, which is a request");
            let of_message = (of_batch[1] - of_batch[0]) / f64::from(MOST - MOST / 4);
            assert!(of_message < 0.002, "{mode}: {of_message} allocations a message");
            assert!(
                of_batch[0] - client < 50.0,
                "{mode}: {} allocations a batch beside the client's",
                of_batch[0]
            );
            // One body of a little over a kilobyte a message was under way.
            let more = MOST_HELD.load(Relaxed) - before;
            println!("{mode}: {more} bytes at most");
            assert!(more < 2 * 1250 * MOST as usize, "{mode}: {more} bytes at most");
            sink.close().await.expect("it closes");
        });
    }
}
