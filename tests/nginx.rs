//! Behind a real nginx that closes connections after a few requests and is reloaded all the time: nothing is lost, nothing
//! doubled, and nothing waits. Through the built plugin, with the shipped breaker and retries.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{
    nginx::{Nginx, Protocol},
    plugin::{Batch, Sink, failures, logged},
};

/// Messages of a run: `NGINX_MESSAGES`, or as many as take a few seconds in a debug build.
fn messages() -> u64 {
    std::env::var("NGINX_MESSAGES").map_or(4_000, |count| count.parse().expect("a number"))
}

/// Sends all messages to an nginx of its own, and says how many a second it took. `None` where there is no nginx.
fn rate(protocol: Protocol, requests_per_connection: u64, reloads: bool) -> Option<f64> {
    let mut nginx = Nginx::start(protocol, requests_per_connection)?;
    let count = messages();
    let stream = format!("nginx-{protocol:?}-{requests_per_connection}");
    let sink = Sink::open(&json!({
        "url": nginx.url(),
        "include_metadata": false,
        "tls_danger_accept_invalid_certs": true,
        "concurrency": 16,
        "ordering": "none",
    }));
    let done = AtomicBool::new(false);
    let took = thread::scope(|scope| {
        if reloads {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    thread::sleep(Duration::from_millis(400));
                    nginx.reload();
                }
            });
        }
        let began = Instant::now();
        let code = sink.consume(&Batch::numbered(count).from_stream(&stream));
        done.store(true, SeqCst);
        assert_eq!(code, 0, "{:?}", failures(&stream));
        began.elapsed()
    });
    assert_eq!(sink.close(), 0);
    nginx.quit();
    let taken = nginx.taken();
    let doubled: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).collect();
    assert_eq!(doubled, [], "{protocol:?}");
    assert_eq!(taken.len() as u64, count, "{protocol:?}");
    assert_eq!(logged(&format!("{} keeps failing", nginx.origin())), [""; 0], "the breaker opened");
    Some(count as f64 / took.as_secs_f64())
}

/// All is delivered once each, at no less than half of the rate of connections that live on.
fn compare(protocol: Protocol, requests_per_connection: u64) {
    // Two that measure at the same time measure each other.
    static QUIET: Mutex<()> = Mutex::new(());
    let _quiet = QUIET.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut alone, mut closed) = (0.0_f64, 0.0_f64);
    // Once more where the machine was busy with something else.
    for _ in 0..4 {
        let Some(rate_alone) = rate(protocol, 1_000_000, false) else { return };
        let rate_closed = rate(protocol, requests_per_connection, true).expect("nginx was there before");
        (alone, closed) = (alone.max(rate_alone), closed.max(rate_closed));
        if closed >= alone / 2.0 {
            break;
        }
    }
    println!(
        "{protocol:?}, {} messages: {alone:.0}/s over connections that live on, {closed:.0}/s over connections of \
         {requests_per_connection} requests and reloads: {:.2} of it",
        messages(),
        closed / alone
    );
    assert!(closed >= alone / 2.0, "{protocol:?}: {closed:.0}/s of {alone:.0}/s");
}

#[test]
fn http2_connections_that_nginx_closes_lose_double_and_delay_nothing() {
    compare(Protocol::Http2, 50);
}

#[test]
fn http1_connections_of_three_requests_lose_double_and_delay_nothing() {
    compare(Protocol::Http1, 3);
}
