//! What `[status]` costs: instructions a message with it and without, and those of a scrape of `/metrics` and of the page.
//!
//! ```sh
//! cargo bench --bench status  # needs valgrind
//! ```
//!
//! The whole process is counted, with the endpoint that answers; each figure is the difference between two runs, of which one
//! does twice as much, so that it has no start-up in it.

mod load;

use std::{
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use iggy_connector_http_sink::sink::{HttpSink, HttpSinkConfig};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, Sink, TopicMetadata, get_runtime};
use serde_json::json;

/// Messages in a batch, and their bytes.
const MESSAGES: usize = 100;
const SIZE: usize = 1024;
/// Batches, and scrapes, of the smaller of two runs.
const BATCHES: u64 = 20;
const SCRAPES: u64 = 20;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, what, mode, status, count] = &arguments[..] {
        run(what, mode, status == "on", count.parse().expect("a count"));
        return;
    }
    println!("{:<12} {:>14} {:>14} {:>8}", "a message", "without", "with status", "more");
    for mode in ["individual", "nd_json"] {
        let [off, on] = ["off", "on"].map(|status| each("deliver", mode, status, BATCHES) / MESSAGES as f64);
        println!("{mode:<12} {off:>14.0} {on:>14.0} {:>7.2}%", (on / off - 1.0) * 100.0);
    }
    for what in ["/metrics", "/"] {
        println!("{what:<12} {:>14.0} a request", each(what, "individual", "on", SCRAPES));
    }
}

/// The instructions of one of `count`.
fn each(what: &str, mode: &str, status: &str, count: u64) -> f64 {
    let [once, twice] =
        [count, 2 * count].map(|count| instructions(&[what, mode, status, &count.to_string()]));
    twice.saturating_sub(once) as f64 / count as f64
}

fn instructions(arguments: &[&str]) -> u64 {
    let this = env::current_exe().expect("a program knows where it lies");
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(arguments)
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&valgrind.stderr);
    assert!(valgrind.status.success(), "{arguments:?}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).expect("callgrind says how many there were")
}

/// What is counted: so many batches, or so many requests for a path of the status server after a few batches.
fn run(what: &str, mode: &str, status: bool, count: u64) {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let mut config = json!({ "url": format!("http://{}/", endpoint()), "batch_mode": mode });
    if status {
        config["status"] = json!({ "address": address.to_string() });
    }
    let runtime = get_runtime();
    let mut sink = HttpSink::new(1, HttpSinkConfig::from(config));
    runtime.block_on(sink.open()).expect("it opens");
    let payloads = load::payloads(MESSAGES, SIZE);
    let batches = if what == "deliver" { count } else { 2 };
    for batch in 0..batches {
        runtime.block_on(consume(&sink, &payloads, batch * MESSAGES as u64));
    }
    if what != "deliver" {
        (0..count).for_each(|_| scrape(address, what));
    }
    runtime.block_on(sink.close()).expect("it closes");
}

async fn consume(sink: &HttpSink, payloads: &[Vec<u8>], first: u64) {
    let topic = TopicMetadata { stream: "stream".to_owned(), topic: "topic".to_owned() };
    let messages: Vec<BorrowedMessage<'_>> = (first..)
        .zip(payloads)
        .map(|(offset, payload)| BorrowedMessage {
            id: u128::from(offset),
            offset,
            checksum: 0,
            timestamp: offset,
            origin_timestamp: offset,
            headers: b"",
            payload,
        })
        .collect();
    let current_offset = messages.last().map_or(0, |message| message.offset);
    let metadata = MessagesMetadata { partition_id: 1, current_offset, schema: Schema::Json };
    sink.consume_borrowed(&topic, metadata, &messages).await.expect("all are delivered");
}

fn scrape(address: SocketAddr, path: &str) {
    let mut stream = TcpStream::connect(address).expect("the status server listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// An endpoint that answers 200, without looking at what it gets but for its length.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || while serve(&mut stream).is_some() {});
        }
    });
    address
}

/// One request; `None` once the client has gone.
fn serve(stream: &mut TcpStream) -> Option<()> {
    const LENGTH: &[u8] = b"content-length: ";
    let mut buffer = Vec::with_capacity(256 * 1024);
    let mut chunk = vec![0; 64 * 1024];
    let (head, length) = loop {
        let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&chunk[..read]);
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let at = buffer[..end].windows(LENGTH.len()).position(|bytes| bytes.eq_ignore_ascii_case(LENGTH))?;
        let digits = buffer[at + LENGTH.len()..end].iter().take_while(|byte| byte.is_ascii_digit());
        break (end + 4, digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')));
    };
    let mut left = (head + length).saturating_sub(buffer.len());
    while left > 0 {
        left -= stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}
