//! Times in which nothing is to be sent: statuses that hold, pauses that the endpoint asks for, limits of rate.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use super::{MODES, Run, plain};
use crate::support::endpoint::{Answer, Endpoint, Exchange};

#[test]
fn a_held_status_is_waited_out_without_spending_retries() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| Answer::status(if request.index < 30 { 401 } else { 200 }));
        let more = json!({ "hold_status_codes": [401], "max_retries": 0 });
        let mut run = Run::new("held", mode, endpoint, more);
        assert_eq!(run.send(20, plain), 0);
        assert_eq!(run.delivered().taken, (0..20).collect::<Vec<_>>(), "{mode}");
    }
}

/// So many requests came after an answer was sent and before a pause from then on was over.
fn inside(exchanges: &[Exchange], paused: Instant, pause: Duration) -> usize {
    exchanges
        .iter()
        .filter(|exchange| exchange.request.at > paused && exchange.request.at < paused + pause)
        .count()
}

#[test]
fn no_lane_sends_during_a_pause_that_a_429_asked_for() {
    let endpoint = Endpoint::start(|request| {
        let answer = if request.index % 3 == 2 {
            Answer::status(429).header("Retry-After", "1")
        } else {
            Answer::status(200)
        };
        answer.after(Duration::from_millis(20))
    });
    let more = json!({ "concurrency": 8, "ordering": "none", "max_retries": 0 });
    let mut run = Run::new("pauses", "individual", endpoint, more);
    assert_eq!(run.send(24, plain), 0);
    let exchanges = run.delivered().exchanges;
    let busy: Vec<&Exchange> = exchanges.iter().filter(|exchange| exchange.status == Some(429)).collect();
    assert!(busy.len() >= 8, "{}", busy.len());
    for exchange in busy {
        // Those that were on their way, and what they gave way to until the sink read the answer. Were the
        // pause not kept, all that are left would be inside.
        let requests = inside(&exchanges, exchange.answered.unwrap(), Duration::from_secs(1));
        assert!(requests <= 10, "{requests} requests inside the pause");
    }
    // Each pause is one second, whoever asked for it.
    let took = exchanges.last().unwrap().request.at - exchanges[0].request.at;
    assert!(took >= Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_pause_until_a_date_keeps_every_lane() {
    let dates: Arc<Mutex<Vec<(Instant, SystemTime)>>> = Arc::default();
    let endpoint = Endpoint::start({
        let dates = dates.clone();
        move |request| {
            if request.index != 3 {
                return Answer::status(200).after(Duration::from_millis(5));
            }
            // Dates have whole seconds.
            let date = SystemTime::now() + Duration::from_secs(2);
            let date = httpdate::parse_http_date(&httpdate::fmt_http_date(date)).unwrap();
            dates.lock().unwrap().push((Instant::now(), date));
            Answer::status(503).header("Retry-After", &httpdate::fmt_http_date(date))
        }
    });
    let more = json!({ "concurrency": 4, "ordering": "none", "max_retries": 0 });
    let mut run = Run::new("dated-pause", "individual", endpoint, more);
    assert_eq!(run.send(100, plain), 0);
    let exchanges = run.delivered().exchanges;
    let (asked, date) = dates.lock().unwrap()[0];
    let over = SystemTime::now().duration_since(date).expect("the pause was waited out");
    let pause = asked.elapsed().saturating_sub(over);
    let requests = inside(&exchanges, asked, pause.saturating_sub(Duration::from_millis(10)));
    assert!(requests <= 20, "{requests} of 100 requests inside the pause");
}

/// How long it takes to send this many messages of 100 bytes under a limit.
fn time_limited(name: &str, mode: &str, limit: Value, batches: u64) -> Duration {
    let keys = json!({ "rate_limit": limit, "concurrency": 8, "ordering": "none" });
    let mut run = Run::new(name, mode, Endpoint::answering(200), keys);
    let began = Instant::now();
    for _ in 0..batches {
        assert_eq!(run.send(20 / batches, |n| format!("{:<100}", plain(n))), 0);
    }
    let took = began.elapsed();
    run.delivered();
    took
}

#[test]
fn rates_of_requests_messages_and_bytes_are_kept() {
    let took = time_limited("rate-requests", "individual", json!({ "requests_per_second": 50 }), 1);
    assert!(took >= Duration::from_millis(350), "{took:?}");
    let took = time_limited("rate-messages", "nd_json", json!({ "messages_per_second": 50 }), 5);
    // The last of five bodies of four messages waits for those before.
    assert!(took >= Duration::from_millis(4 * 80 - 30), "{took:?}");
    let took = time_limited("rate-bytes", "raw", json!({ "bytes_per_second": 5000 }), 1);
    assert!(took >= Duration::from_millis(350), "{took:?}");
}
