//! `[response]`: answers that say more than their status does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use iggy_connector_http_sink::{config::Config, dead_letter::Folder};
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, failures, logged},
    spooled,
};

/// Refused for good, and throttled at first.
const REFUSED: [u64; 3] = [1, 334, 667];
const THROTTLED: [u64; 5] = [0, 200, 300, 301, 999];

/// The keys for an endpoint that takes documents in bulk, beside the shipped defaults.
fn bulk(url: &str) -> Value {
    json!({
        "url": url, "batch_mode": "nd_json", "message_template": "{\"create\":{\"_id\":{payload:/n}}}\n{payload}", "retry_delay": "5ms",
        "success_status_codes": [200, 201, 409],
        "response": {
            "expect_pointer": "/errors", "expect_value": false, "items": "/items", "item_status": "/*/status",
            "item_reason": "/*/error/reason",
        },
    })
}

/// The documents of a request in bulk.
fn documents(request: &Request) -> Vec<u64> {
    let body = str::from_utf8(&request.body).unwrap();
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pairs = lines.chunks(2).map(|pair| {
        assert_eq!(pair[0]["create"]["_id"], pair[1]["n"]);
        pair[1]["n"].as_u64().unwrap()
    });
    pairs.collect()
}

/// An endpoint that takes documents in bulk, as strictly as Elasticsearch, and what it holds.
fn bulk_endpoint(
    throttles: impl Fn(u64, usize) -> bool + Send + Sync + 'static,
) -> (Endpoint, Arc<Mutex<BTreeSet<u64>>>) {
    let stored = Arc::<Mutex<BTreeSet<u64>>>::default();
    let held = stored.clone();
    let endpoint = Endpoint::start(move |request| {
        let mut stored = held.lock().unwrap();
        let item = |n: u64| {
            let (status, reason) = match n {
                n if REFUSED.contains(&(n % 1000)) => (400, Some(format!("document {n} has no \"date\""))),
                n if throttles(n, request.index) => (429, Some("queue is full".to_owned())),
                n if stored.insert(n) => (201, None),
                _ => (409, Some("exists".to_owned())),
            };
            json!({ "create": { "status": status, "error": reason.map(|reason| json!({ "reason": reason })) } })
        };
        let items: Vec<Value> = documents(request).into_iter().map(item).collect();
        let errors = items.iter().any(|item| item["create"]["status"] != 201);
        Answer::status(200).body(json!({ "errors": errors, "items": items }).to_string())
    });
    (endpoint, stored)
}

fn reasons(folder: &std::path::Path) -> BTreeMap<u64, (String, Option<u16>, String)> {
    let mut letters = BTreeMap::new();
    let add = |entry: iggy_connector_http_sink::dead_letter::Entry| {
        let record = entry.record.unwrap();
        letters.insert(record.offset, (record.reason, record.status, record.answer));
        true
    };
    Folder::open(&folder.join("dead-letters")).unwrap().for_each(add).unwrap();
    letters
}

#[test]
fn of_a_thousand_three_are_letters_five_go_again_alone_and_the_others_went_once() {
    for spool in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, stored) = bulk_endpoint(|n, index| index == 0 && THROTTLED.contains(&n));
        let mut config = with(
            bulk(&endpoint.url()),
            json!({ "dead_letter": { "path": folder.path().join("dead-letters") } }),
        );
        if spool {
            config["spool"] = json!({ "path": folder.path().join("spool") });
        }
        let sink = Sink::open(&config);
        assert_eq!(sink.consume(&spooled::numbered(0..1000)), 0);
        if spool {
            spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
        }
        drop(sink);
        let requests = endpoint.requests();
        assert_eq!(requests.len(), 2, "spool: {spool}");
        assert_eq!(documents(&requests[0]), (0..1000).collect::<Vec<_>>());
        assert_eq!(documents(&requests[1]), THROTTLED, "spool: {spool}");
        assert_ne!(requests[0].header("idempotency-key"), requests[1].header("idempotency-key"));
        assert_eq!(stored.lock().unwrap().len(), 997);
        let letters = reasons(folder.path());
        assert_eq!(letters.keys().copied().collect::<Vec<_>>(), REFUSED, "spool: {spool}");
        for (n, (reason, status, words)) in letters {
            assert_eq!(
                (&*reason, status, &*words),
                ("rejected", Some(400), &*format!("document {n} has no \"date\""))
            );
        }
    }
}

#[test]
fn a_lane_in_order_waits_for_what_goes_again() {
    for spool in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, _) = bulk_endpoint(|n, index| index < 3 && (n == 5 || n == 7 && index < 2));
        let mut config = with(bulk(&endpoint.url()), json!({ "max_batch_messages": 10 }));
        config["dead_letter"] = json!({ "path": folder.path().join("dead-letters") });
        if spool {
            config["spool"] = json!({ "path": folder.path().join("spool") });
        }
        let sink = Sink::open(&config);
        assert_eq!(sink.consume(&spooled::numbered(0..20)), 0);
        if spool {
            spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
        }
        let sent: Vec<Vec<u64>> = endpoint.requests().iter().map(documents).collect();
        let first: Vec<u64> = (0..10).collect();
        let rest: Vec<u64> = (10..20).collect();
        assert_eq!(sent, [first, vec![5, 7], vec![5, 7], vec![5], rest], "spool: {spool}");
    }
}

#[test]
fn throttled_items_go_again_when_the_answer_says() {
    for spool in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::start(|request| {
            let throttled = |n| request.index == 0 && n == 3;
            let items: Vec<Value> = documents(request)
                .into_iter()
                .map(|n| json!({ "create": { "status": if throttled(n) { 429 } else { 201 } } }))
                .collect();
            let answer =
                Answer::status(200).body(json!({ "errors": request.index == 0, "items": items }).to_string());
            if request.index == 0 { answer.header("Retry-After", "1") } else { answer }
        });
        let mut config = bulk(&endpoint.url());
        if spool {
            config["spool"] = json!({ "path": folder.path().join("spool") });
        }
        let sink = Sink::open(&config);
        let topics = ["first", "second"];
        for topic in topics {
            assert_eq!(sink.consume(&spooled::numbered(0..5).from_topic(topic)), 0);
        }
        if spool {
            spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
        }
        let requests = endpoint.requests();
        let again = requests.iter().position(|request| documents(request) == [3]);
        let again = again.unwrap_or_else(|| panic!("it went again alone, spool: {spool}"));
        let waited = requests[again].at - requests[0].at;
        assert!(waited >= Duration::from_millis(990), "{waited:?}, spool: {spool}");
        assert_eq!(requests.len(), 3, "spool: {spool}");
    }
}

#[test]
fn without_an_order_every_message_still_has_one_end() {
    for spool in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (endpoint, stored) = bulk_endpoint(|n, index| (n + index as u64).is_multiple_of(3));
        let mut config = with(
            bulk(&endpoint.url()),
            json!({ "max_batch_messages": 50, "ordering": "none", "concurrency": 4 }),
        );
        config["max_retries"] = json!(50);
        config["dead_letter"] = json!({ "path": folder.path().join("dead-letters") });
        if spool {
            config["spool"] = json!({ "path": folder.path().join("spool") });
        }
        let sink = Sink::open(&config);
        for first in [0, 1000] {
            assert_eq!(sink.consume(&spooled::numbered(first..first + 1000)), 0);
        }
        if spool {
            spooled::wait_until("delivery", || spooled::held(folder.path()) == 0);
        }
        drop(sink);
        assert_eq!((stored.lock().unwrap().len(), reasons(folder.path()).len()), (1994, 6), "spool: {spool}");
    }
}

#[test]
fn items_that_stay_throttled_fail_with_their_own_words_when_retries_are_spent() {
    let (endpoint, _) = bulk_endpoint(|n, _| n == 3);
    let sink =
        Sink::open(&with(bulk(&endpoint.url()), json!({ "max_retries": 2, "max_retry_delay": "5ms" })));
    assert_eq!(sink.consume(&spooled::numbered(0..5).from_stream("stays throttled")), 1);
    let sent: Vec<Vec<u64>> = endpoint.requests().iter().map(documents).collect();
    assert_eq!(sent, [vec![0, 1, 2, 3, 4], vec![3], vec![3]]);
    let failed = failures("stays throttled").reasons;
    assert_eq!(failed.len(), 2);
    let words = &failed[&3];
    assert!(words.contains("retries_exhausted, status 429 after 3 attempts: queue is full"), "{words}");
}

#[test]
fn halves_of_a_body_that_is_too_large_have_items_of_their_own() {
    let endpoint = Endpoint::start(|request| {
        let documents = documents(request);
        if documents.len() > 3 {
            return Answer::status(413);
        }
        let items: Vec<Value> = documents
            .iter()
            .map(|n| json!({ "create": { "status": if *n == 4 { 400 } else { 201 } } }))
            .collect();
        Answer::status(200).body(json!({ "errors": true, "items": items }).to_string())
    });
    let sink = Sink::open(&bulk(&endpoint.url()));
    assert_eq!(sink.consume(&spooled::numbered(0..12).from_stream("halves with items")), 1);
    assert_eq!(failures("halves with items").reasons.into_keys().collect::<Vec<_>>(), [4]);
}

#[test]
fn a_success_that_says_otherwise_is_none() {
    let endpoint = Endpoint::start(|request| {
        let bad = request.body.windows(5).any(|window| window == b"\"n\":3");
        Answer::status(200).body(if bad {
            "{\"ok\":false,\"error\":\"no_channel\"}"
        } else {
            "{\"ok\":true}"
        })
    });
    let config = json!({
        "url": endpoint.url(), "batch_mode": "nd_json", "response": { "expect_pointer": "/ok", "expect_value": true },
    });
    assert_eq!(Sink::open(&config).consume(&Batch::numbered(8).from_stream("says otherwise")), 1);
    let failed = failures("says otherwise").reasons;
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&3]);
    assert!(failed[&3].contains("rejected") && failed[&3].contains("no_channel"), "{failed:?}");
}

#[test]
fn an_answer_that_cannot_be_read_is_retried_where_something_is_expected() {
    let endpoint = Endpoint::sequence(vec![Answer::status(200).body("<html>"), Answer::status(200)]);
    let config = json!({
        "url": endpoint.url(), "retry_delay": "1ms", "max_retries": 1, "response": { "expect_pointer": "/ok", "expect_value": true },
    });
    assert_eq!(Sink::open(&config).consume(&Batch::numbered(1).from_stream("cannot be read")), 1);
    assert_eq!(endpoint.requests().len(), 2);
    let failed = failures("cannot be read").reasons;
    assert!(failed[&0].contains("retries_exhausted") && failed[&0].contains("not JSON"), "{failed:?}");
}

#[test]
fn an_answer_that_cannot_be_read_counts_as_delivered_where_nothing_is_expected() {
    let endpoint = Endpoint::start(|_| Answer::status(200).body("{\"items\":[]}"));
    let config =
        json!({ "url": endpoint.url(), "response": { "items": "/items", "item_status": "/status" } });
    assert_eq!(Sink::open(&config).consume(&Batch::numbered(2)), 0);
    let told = logged("does not say what became of each message");
    let own = told.iter().filter(|line| line.contains(&endpoint.port().to_string())).count();
    assert_eq!(own, 1, "{told:?}");
}

#[test]
fn wrong_tables_are_told() {
    let told = |response: Value| {
        Config::from_json(&json!({ "url": "http://localhost/", "response": response }))
            .unwrap_err()
            .to_string()
    };
    for (response, words) in [
        (json!({}), "response.expect_pointer: is not given"),
        (json!({ "expect_pointer": "/a" }), "response.expect_value: is not given beside expect_pointer"),
        (json!({ "items": "/items" }), "response.item_status: is not given beside items"),
        (json!({ "item_status": "/status" }), "response.items: is not given"),
        (
            json!({ "items": "items", "item_status": "/status" }),
            "response.items: \"items\" is no JSON pointer",
        ),
        (json!({ "expect": true }), "unknown key"),
    ] {
        let told = told(response);
        assert!(told.contains(words), "{words}: {told}");
    }
}
