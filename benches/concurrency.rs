//! Messages a second through the built plugin to an endpoint that takes 10 ms, in mode individual: with fixed
//! numbers of requests at once, and with the adaptive one.
//!
//! ```sh
//! cargo bench --bench concurrency
//! ```
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink},
};

const LATENCY: Duration = Duration::from_millis(10);
const BATCH: u64 = 1000;

/// Messages a second over `lasting`, after `warm_up`.
fn rate(concurrency: &Value, warm_up: Duration, lasting: Duration) -> f64 {
    let endpoint = Endpoint::start(|_| Answer::status(200).after(LATENCY));
    let sink = Sink::open(&json!({
        "url": endpoint.url(),
        "ordering": "none",
        "concurrency": concurrency,
        "max_connections": 256,
    }));
    let batch = Batch::numbered(BATCH);
    let began = Instant::now();
    let mut measured: Option<(Instant, u64)> = None;
    loop {
        assert_eq!(sink.consume(&batch), 0);
        match &mut measured {
            None if began.elapsed() >= warm_up => measured = Some((Instant::now(), 0)),
            None => {}
            Some((since, messages)) => {
                *messages += BATCH;
                if since.elapsed() >= lasting {
                    return *messages as f64 / since.elapsed().as_secs_f64();
                }
            }
        }
    }
}

fn main() {
    let second = Duration::from_secs(1);
    println!("requests at once    messages/s");
    let mut best: f64 = 0.0;
    for fixed in [1, 8, 16, 32, 64] {
        let rate = rate(&json!(fixed), second / 2, 3 * second);
        best = best.max(rate);
        println!("{fixed:<16}    {rate:>10.0}");
    }
    let adaptive = rate(&json!("adaptive"), 5 * second, 3 * second);
    println!("adaptive (5 s)      {adaptive:>10.0}    {:.0} % of the best", adaptive / best * 100.0);
}
