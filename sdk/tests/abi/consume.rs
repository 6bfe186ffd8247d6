//! Batches: what arrives, and what comes back.

use std::collections::BTreeMap;
use std::thread;

use iggy_connector_sdk::host::encode_headers;
use iggy_connector_sdk::{BorrowedMessage, HeaderKey, HeaderValue, Schema};
use serde_json::json;

use crate::support::{
    Control, consume_text, log, logged, message, metadata, new_id, open_controlled, original, sink, topic,
};

fn consume_answered(control: &Control, id: u32, answer: &str) -> i32 {
    thread::scope(|scope| {
        let consume = scope.spawn(|| consume_text(original(), id, "x"));
        control.expect("consume").answer(answer);
        consume.join().unwrap()
    })
}

fn close_answered(control: &Control, id: u32) {
    thread::scope(|scope| {
        let close = scope.spawn(|| original().close(id));
        control.expect("close").answer("ok");
        assert_eq!(close.join().unwrap(), 0);
    });
}

#[test]
fn everything_of_a_batch_arrives() {
    let control = Control::new();
    let id = open_controlled(&control);
    let headers: BTreeMap<HeaderKey, HeaderValue> = BTreeMap::from([
        ("trace".parse().unwrap(), 42u32.into()),
        (7i8.into(), HeaderValue::try_from(vec![0, 255]).unwrap()),
    ]);
    let headers = encode_headers(&headers);
    let messages =
        [BorrowedMessage { headers: &headers, ..message(1, br#"{"a":[1,2]}"#) }, message(2, br#""text""#)];
    let facts = thread::scope(|scope| {
        let consume = scope.spawn(|| original().consume(id, &topic(), &metadata(Schema::Json), &messages));
        let facts = control.expect("consume").answer("ok");
        assert_eq!(consume.join().unwrap(), 0);
        facts
    });
    assert_eq!(
        facts,
        json!({
            "metadata": {
                "stream": "orders", "topic": "created", "partition": 3, "offset": 300, "schema": "json",
            },
            "messages": [
                {"id": (1u128 << 64).to_string(), "offset": 1, "payload": {"a": [1, 2]},
                 "headers": {"trace": "42", "7": "b\"\\0\\xff\""}},
                {"id": (1u128 << 65).to_string(), "offset": 2, "payload": "text", "headers": {}},
            ],
        })
    );
    close_answered(&control, id);
}

#[test]
fn empty_batch_is_a_batch() {
    let control = Control::new();
    let id = open_controlled(&control);
    thread::scope(|scope| {
        let consume = scope.spawn(|| original().consume(id, &topic(), &metadata(Schema::Avro), &[]));
        assert_eq!(control.expect("consume").answer("ok")["messages"], json!([]));
        assert_eq!(consume.join().unwrap(), 0);
    });
    close_answered(&control, id);
}

#[test]
fn undecodable_messages_do_not_hold_up_the_others() {
    let control = Control::new();
    let id = open_controlled(&control);
    let messages = [
        message(10, b"1"),
        message(11, b"{"),
        message(12, b"]"),
        BorrowedMessage { headers: b"\x01", ..message(13, b"3") },
        message(14, b"4"),
        message(20, b""),
    ];
    thread::scope(|scope| {
        let consume = scope.spawn(|| original().consume(id, &topic(), &metadata(Schema::Json), &messages));
        let facts = control.expect("consume").answer("ok");
        let offsets: Vec<_> = facts["messages"].as_array().unwrap().iter().map(|m| &m["offset"]).collect();
        assert_eq!(offsets, [10, 14]);
        // A host would send a failed batch again, with what was delivered, and never get past it.
        assert_eq!(consume.join().unwrap(), 0);
    });
    let facts = "stream: orders, topic: created, partition: 3, schema: json, offsets: 11-13, 20; the first: ";
    assert_eq!(logged(4, &["4 of 6 messages cannot be decoded and are left out", facts]).len(), 1);
    assert!(logged(4, &[&sink(id), "consume failed"]).is_empty());
    close_answered(&control, id);
}

#[test]
fn failures_and_panics_leave_the_sink_usable() {
    let control = Control::new();
    let id = open_controlled(&control);
    assert_eq!(consume_answered(&control, id, "disk full"), 1);
    let place = "stream: orders, topic: created, partition: 3, current offset: 300, messages: 1";
    assert_eq!(logged(4, &[&sink(id), "consume failed", place, "disk full"]).len(), 1);
    for _ in 0..3 {
        assert_eq!(consume_answered(&control, id, "panic"), -1);
    }
    assert_eq!(logged(4, &[&sink(id), "consume refused: panicked: as told, in consume"]).len(), 3);
    assert_eq!(consume_answered(&control, id, "ok"), 0);
    close_answered(&control, id);
}

#[test]
fn unknown_id_is_refused() {
    let id = new_id();
    assert_eq!(consume_text(original(), id, "x"), -1);
    assert_eq!(original().close(id), -1);
    assert_eq!(logged(4, &[&sink(id), "refused: it is not open"]).len(), 2);
}

#[test]
fn batches_of_one_sink_run_side_by_side() {
    let control = Control::new();
    let id = open_controlled(&control);
    thread::scope(|scope| {
        let consumes: Vec<_> = (0..8).map(|_| scope.spawn(|| consume_text(original(), id, "x"))).collect();
        // All are inside before the first is let go.
        let calls: Vec<_> = (0..8).map(|_| control.expect("consume")).collect();
        for call in calls {
            call.answer("ok");
        }
        for consume in consumes {
            assert_eq!(consume.join().unwrap(), 0);
        }
    });
    close_answered(&control, id);
}

#[test]
fn ids_are_apart() {
    let control = Control::new();
    let ids: Vec<u32> = (0..20).map(|_| open_controlled(&control)).collect();
    thread::scope(|scope| {
        let consumes: Vec<_> =
            ids.iter().map(|&id| (id, scope.spawn(move || consume_text(original(), id, "x")))).collect();
        let mut seen: Vec<u64> = (0..20)
            .map(|_| {
                let call = control.expect("consume");
                let id = call.id;
                call.answer(if id.is_multiple_of(2) { "ok" } else { "odd" });
                id
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, ids.iter().map(|&id| u64::from(id)).collect::<Vec<_>>());
        for (id, consume) in consumes {
            assert_eq!(consume.join().unwrap(), i32::from(!id.is_multiple_of(2)));
        }
    });
    for id in ids {
        close_answered(&control, id);
        assert_eq!(consume_text(original(), id, "x"), -1);
        assert_eq!(original().open(id, "null", log), 0);
        assert_eq!(original().close(id), 0);
    }
}
