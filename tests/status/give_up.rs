//! The head of a lane is given up, and the lane goes on.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::client::{TOKEN, address, ask, open, post, report};
use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, failures, logged},
    spooled::{self, SOON, letters, taken, wait_until},
};

/// An endpoint that never takes a message with one of these numbers.
fn without(stuck: &'static [u64]) -> Endpoint {
    Endpoint::start(move |request| {
        let is_stuck = spooled::numbers(request).iter().any(|n| stuck.contains(n));
        Answer::status(if is_stuck { 503 } else { 200 }).body("no <b>room</b>")
    })
}

/// With dead letters in this folder, and a spool where the words say so.
fn keys(folder: &Path, spool: bool, more: Value) -> Value {
    let mut keys = with(
        json!({ "include_metadata": false, "close_timeout": "1s", "dead_letter": { "path": folder.join("dead-letters") } }),
        more,
    );
    if spool {
        keys["spool"] = json!({ "path": folder.join("spool") });
    }
    keys
}

/// The heads of all lanes of a sink.
fn heads(sink: &Sink) -> Vec<Value> {
    let report = report(address(sink));
    let lanes = report["connectors"][0]["lanes"].as_array().cloned().unwrap_or_default();
    lanes.iter().flat_map(|lane| lane["heads"].as_array().cloned().unwrap_or_default()).collect()
}

/// The number of the head that begins with this offset, once there is one.
fn head_at(sink: &Sink, offset: u64) -> u64 {
    let mut found = None;
    wait_until("a head", || {
        found =
            heads(sink).iter().find(|head| head["first_offset"] == offset).map(|head| head["head"].clone());
        found.is_some()
    });
    found.and_then(|number| number.as_u64()).expect("a number")
}

fn give_up(sink: &Sink, head: u64) -> u16 {
    post(address(sink), &format!("/connectors/{}/heads/{head}/give_up", sink.id), &[]).status
}

/// Consumes `batch` beside what an operator does; returns what consume did.
fn beside(sink: &Sink, batch: &Batch, operator: impl FnOnce()) -> i32 {
    thread::scope(|scope| {
        let consume = scope.spawn(|| sink.consume(batch));
        operator();
        consume.join().unwrap()
    })
}

#[test]
fn a_head_that_is_given_up_is_a_dead_letter_and_its_lane_goes_on() {
    for spool in [false, true] {
        let (endpoint, folder) = (without(&[0]), tempfile::tempdir().unwrap());
        let sink = open(&endpoint.url(), keys(folder.path(), spool, json!({})));
        let stream = format!("given up, spool {spool}");
        let code = beside(&sink, &Batch::numbered(3).from_stream(&stream), || {
            let head = head_at(&sink, 0);
            let shown = heads(&sink)[0].clone();
            assert!(
                shown["why"].as_str().unwrap().contains("503 Service Unavailable: no <b>room</b>"),
                "{shown:#}"
            );
            assert!(shown["attempts"].as_u64() >= Some(1) && shown["next_attempt"].is_string(), "{shown:#}");
            // A first batch of several messages may be of several partitions.
            let partition = if spool { Value::Null } else { json!(1) };
            let lane = report(address(&sink))["connectors"][0]["lanes"][0].clone();
            assert_eq!(
                (&lane["stream"], &lane["messages"], &lane["partition"]),
                (&json!(stream), &json!(3), &partition)
            );
            let page = ask(address(&sink), "GET", "/", &[("authorization", &format!("Bearer {TOKEN}"))]).body;
            let action = format!("/connectors/{}/heads/{head}/give_up", sink.id);
            assert!(page.contains(&action) && page.contains("It goes to the dead letters."), "{page}");
            assert_eq!(give_up(&sink, head + 1000), 410);
            assert_eq!(give_up(&sink, head), 200);
            wait_until("the others", || taken(&endpoint) == [1, 2]);
            assert_eq!(give_up(&sink, head), 410);
        });
        assert_eq!(code, 0, "spool {spool}");
        wait_until("a letter", || letters(folder.path()) == [(0, "given_up".to_owned())]);
        let line =
            logged(&format!("gives up offset 0 of stream {stream}, topic topic, partition 1: attempt"));
        assert!(line.len() == 1 && line[0].starts_with("WARN connector "), "{line:?}");
        let put = logged(&format!(
            "1 message of stream {stream}, topic topic, partition 1, offsets 0 moved to the dead letters: given_up, status 503"
        ));
        assert_eq!(put.len(), 1, "{:?}", logged(&stream));
        wait_until("no lane", || report(address(&sink))["connectors"][0]["lanes"] == json!([]));
        let counted = report(address(&sink))["connectors"][0]["dead_letters"]["by_reason"].clone();
        assert_eq!(counted, json!({ "given_up": 1 }));
    }
}

#[test]
fn without_dead_letters_it_is_named_as_failed() {
    for spool in [false, true] {
        let (endpoint, folder) = (without(&[1]), tempfile::tempdir().unwrap());
        let mut keys = keys(folder.path(), spool, json!({}));
        keys.as_object_mut().unwrap().remove("dead_letter");
        let sink = open(&endpoint.url(), keys);
        let stream = format!("given up and lost, spool {spool}");
        let code = beside(&sink, &Batch::numbered(3).from_stream(&stream), || {
            let head = head_at(&sink, 1);
            let page = ask(address(&sink), "GET", "/", &[("authorization", &format!("Bearer {TOKEN}"))]).body;
            assert!(page.contains("it is lost, and the log names it."), "{page}");
            assert_eq!(give_up(&sink, head), 200);
            wait_until("the others", || taken(&endpoint) == [0, 2]);
        });
        assert_eq!(code == 0, spool);
        let failed = failures(&stream);
        assert_eq!(failed.count, 1);
        assert!(failed.reasons[&1].starts_with("given_up, status 503 after "), "{failed:?}");
    }
}

#[test]
fn a_key_or_a_message_alone_is_given_up_and_the_others_wait_on() {
    let by_key = json!({ "ordering": "key", "ordering_key": "{payload:/k}" });
    for (ordering, spool) in [
        (by_key.clone(), true),
        (by_key, false),
        (json!({ "ordering": "none" }), true),
        (json!({ "ordering": "none" }), false),
    ] {
        let (endpoint, folder) = (without(&[0, 1]), tempfile::tempdir().unwrap());
        let sink = open(
            &endpoint.url(),
            keys(folder.path(), spool, with(json!({ "concurrency": 4 }), ordering.clone())),
        );
        // Two keys are stuck, with one message behind each of them.
        let mut batch = Batch::numbered(4);
        for (n, message) in batch.messages.iter_mut().enumerate() {
            message.payload = json!({ "n": n, "k": n % 2 }).to_string().into_bytes();
        }
        let is_by_key = ordering["ordering"] == "key";
        beside(&sink, &batch, || {
            let (first, second) = (head_at(&sink, 0), head_at(&sink, 1));
            if is_by_key {
                assert_eq!(taken(&endpoint), [] as [u64; 0]);
            }
            assert_eq!(give_up(&sink, first), 200);
            if is_by_key {
                wait_until("what was behind it", || taken(&endpoint) == [2]);
            } else {
                wait_until("the others", || taken(&endpoint).len() == 2);
            }
            wait_until("one head", || heads(&sink).len() == 1);
            assert_eq!(heads(&sink)[0]["head"], second);
            assert_eq!(give_up(&sink, second), 200);
            wait_until("all others", || taken(&endpoint).len() == 2);
        });
        let both = [0, 1].map(|offset| (offset, "given_up".to_owned()));
        wait_until("both letters", || {
            let mut letters = letters(folder.path());
            letters.sort();
            letters == both
        });
        assert_eq!(taken(&endpoint).len(), 2, "{ordering}, spool {spool}");
    }
}

#[test]
fn a_body_of_several_messages_is_given_up_as_one() {
    let (endpoint, folder) = (without(&[1]), tempfile::tempdir().unwrap());
    let more = json!({ "batch_mode": "nd_json", "max_batch_messages": 3 });
    let sink = open(&endpoint.url(), keys(folder.path(), true, more));
    assert_eq!(sink.consume(&Batch::numbered(6)), 0);
    let head = head_at(&sink, 0);
    let shown = heads(&sink)[0].clone();
    assert_eq!((&shown["last_offset"], &shown["messages"]), (&json!(2), &json!(3)), "{shown:#}");
    assert_eq!(give_up(&sink, head), 200);
    wait_until("the next body", || taken(&endpoint) == [3, 4, 5]);
    wait_until("letters", || letters(folder.path()).len() == 3);
}

/// An attempt that is on its way may still be taken; only where it fails there is no other.
#[test]
fn an_attempt_on_its_way_is_waited_for() {
    for (last, spool) in [(200, true), (503, true), (200, false), (503, false)] {
        let answer = Arc::new(AtomicBool::new(false));
        let may_answer = answer.clone();
        let endpoint = Endpoint::start(move |request| match request.index {
            0 => Answer::status(503),
            1 => {
                wait_until("leave to answer", || may_answer.load(SeqCst));
                Answer::status(last)
            }
            _ => Answer::status(200),
        });
        let folder = tempfile::tempdir().unwrap();
        let sink = open(&endpoint.url(), keys(folder.path(), spool, json!({ "retry_delay": "1ms" })));
        beside(&sink, &Batch::numbered(2), || {
            endpoint.wait_for_requests(2, SOON);
            assert_eq!(give_up(&sink, head_at(&sink, 0)), 200);
            assert_eq!(heads(&sink)[0]["given_up"], true);
            assert_eq!(letters(folder.path()), []);
            answer.store(true, SeqCst);
            let all: &[u64] = if last == 200 { &[0, 1] } else { &[1] };
            wait_until("the rest", || taken(&endpoint) == all);
        });
        assert_eq!(letters(folder.path()).len(), usize::from(last == 503), "{last}, spool {spool}");
    }
}

#[test]
fn a_thousand_stuck_lanes_make_a_page_that_is_small_and_soon_there() {
    let (endpoint, folder) = (without(&[0]), tempfile::tempdir().unwrap());
    let sink = open(&endpoint.url(), keys(folder.path(), true, json!({ "concurrency": 64 })));
    thread::scope(|scope| {
        for first in 0..20 {
            let sink = &sink;
            scope.spawn(move || {
                for partition_id in (first * 50)..(first * 50 + 50) {
                    assert_eq!(sink.consume(&Batch { partition_id, ..Batch::numbered(1) }), 0);
                }
            });
        }
    });
    let address = address(&sink);
    let bearer = format!("Bearer {TOKEN}");
    wait_until("a head", || !heads(&sink).is_empty());
    let lanes = report(address)["connectors"][0]["lanes"].as_array().map(Vec::len);
    assert_eq!(lanes, Some(1000));
    // Other tests have the machine, too: what counts is that it can be made so soon.
    wait_until("a page within 50 ms", || {
        let began = Instant::now();
        let page = ask(address, "GET", "/", &[("authorization", &bearer)]).body;
        let took = began.elapsed();
        assert!(page.len() < 100_000 && page.contains("more lanes"), "{}", page.len());
        took < Duration::from_millis(50)
    });
}
