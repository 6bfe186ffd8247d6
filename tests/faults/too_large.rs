//! Bodies that are too large for the endpoint.

use serde_json::json;

use super::{BODIES_OF_MANY, MODES, Run, padded};
use crate::support::endpoint::{Answer, Endpoint, Request};

/// Takes bodies of at most this many bytes.
fn at_most(limit: usize) -> impl Fn(&Request) -> Answer {
    move |request| Answer::status(if request.body.len() > limit { 413 } else { 200 })
}

#[test]
fn bodies_over_the_endpoints_limit_arrive_in_parts_and_soon_in_few_requests() {
    for mode in BODIES_OF_MANY {
        for size in [400, 1000, 3000] {
            let mut run =
                Run::new(&format!("limit-{size}"), mode, Endpoint::start(at_most(100_000)), json!({}));
            for _ in 0..6 {
                assert_eq!(run.send(500, |n| padded(n, size)), 0);
            }
            let learned = run.endpoint.requests().len();
            for _ in 0..6 {
                assert_eq!(run.send(500, |n| padded(n, size)), 0);
            }
            let settled = run.delivered();
            let bytes: usize = settled
                .exchanges
                .iter()
                .filter(|exchange| exchange.is_success())
                .map(|exchange| exchange.request.body.len())
                .sum();
            // The second half of what was sent.
            let least = 6 * (bytes / 12).div_ceil(100_000);
            let requests = settled.exchanges.len() - learned;
            assert!(
                requests * 10 < least * 13,
                "{mode}, {size}: {requests} requests, where {least} are the least"
            );
            assert!(learned < 6 * (least / 6) * 3, "{mode}, {size}: {learned} requests to learn");
        }
    }
}

#[test]
fn where_all_is_too_large_each_message_fails_alone_and_no_search_goes_on() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(413).body("not even one"));
        let mut run = Run::new("all-too-large", mode, endpoint, json!({}));
        assert_eq!(run.send(200, |n| padded(n, 100)), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.len(), 200, "{mode}");
        for reason in settled.failed.reasons.values() {
            assert!(
                reason.starts_with("too_large, status 413 after 1 attempt: not even one"),
                "{mode}: {reason}"
            );
        }
        // Each message once, and the way down to the first of them.
        let requests = settled.exchanges.len();
        assert!((200..=220).contains(&requests), "{mode}: {requests}");
    }
}

#[test]
fn a_message_too_large_even_alone_fails_and_those_around_it_arrive() {
    for mode in MODES {
        let mut run = Run::new("one-too-large", mode, Endpoint::start(at_most(2000)), json!({}));
        assert_eq!(run.send(60, |n| padded(n, if n == 31 { 5000 } else { 100 })), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [31], "{mode}");
        assert!(settled.failed.reasons[&31].starts_with("too_large, status 413"), "{mode}");
    }
}

#[test]
fn a_limit_that_sinks_midway_is_followed() {
    for mode in BODIES_OF_MANY {
        let endpoint =
            Endpoint::start(|request| at_most(if request.index < 20 { 50_000 } else { 5000 })(request));
        let mut run = Run::new("sinking-limit", mode, endpoint, json!({}));
        for _ in 0..8 {
            assert_eq!(run.send(200, |n| padded(n, 500)), 0);
        }
        let settled = run.delivered();
        assert_eq!(settled.taken, (0..1600).collect::<Vec<_>>(), "{mode}: in order");
        // 800 KB in 5 KB bodies are 160 at least.
        assert!(settled.exchanges.len() < 300, "{mode}: {}", settled.exchanges.len());
    }
}
