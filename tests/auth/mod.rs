//! How requests prove who sends them, seen from the other end.

mod counterparts;
mod dead_letters;
mod mistakes;
mod oauth2;
mod rotation;
mod signatures;
mod token_endpoint;
mod transport;
mod wire;

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    config::{config, with},
    endpoint::{Endpoint, Request},
    plugin::{Batch, Sink},
};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

/// A configuration with this `[auth]`.
fn authenticated(url: &str, auth: Value, more: Value) -> Value {
    config(url, with(json!({ "auth": auth }), more))
}

/// Sends messages through a sink with this `[auth]`, and returns the request that brought them.
#[track_caller]
fn sent_with(auth: Value) -> Request {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&authenticated(&endpoint.url(), auth, json!({ "batch_mode": "nd_json" })));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    let [request] = endpoint.requests().try_into().unwrap();
    request
}

#[track_caller]
fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < SOON, "{what} does not come about");
        thread::sleep(Duration::from_millis(2));
    }
}
