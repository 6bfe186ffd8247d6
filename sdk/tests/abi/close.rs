//! Closing, idle and while batches are under way.

use std::thread;

use crate::support::{
    Control, borrowing, consume_text, log, logged, new_id, open_controlled, original, reopen_when_free, sink,
};

fn open_borrowing(control: &Control, more: &[&str]) -> u32 {
    let id = new_id();
    assert_eq!(borrowing().open(id, &control.config(more), log), 0);
    id
}

#[test]
fn outcomes_of_close() {
    for (answer, code, line) in [
        ("ok", 0, None),
        ("stuck", 0, Some("close failed: Init error: stuck")),
        ("panic", -1, Some("close panicked: as told, in close")),
    ] {
        let control = Control::new();
        let id = open_controlled(&control);
        thread::scope(|scope| {
            let close = scope.spawn(|| original().close(id));
            control.expect("close").answer(answer);
            assert_eq!(close.join().unwrap(), code);
        });
        assert_eq!(logged(4, &[&sink(id)]).len(), usize::from(line.is_some()));
        assert_eq!(logged(4, &[&sink(id), line.unwrap_or_default()]).len(), usize::from(line.is_some()));
        assert_eq!(consume_text(original(), id, "x"), -1);
        assert_eq!(original().close(id), -1);
        assert_eq!(original().open(id, "{}", log), 0);
        assert_eq!(original().close(id), 0);
    }
}

#[test]
fn panic_in_drop_ends_at_the_abi() {
    let id = new_id();
    assert_eq!(original().open(id, r#"{"panic_in_drop": true}"#, log), 0);
    assert_eq!(original().close(id), -1);
    assert_eq!(logged(4, &[&sink(id), "drop panicked: as told, in drop"]).len(), 1);
}

#[test]
fn close_waits_for_a_running_batch() {
    let control = Control::new();
    let id = open_controlled(&control);
    thread::scope(|scope| {
        let consume = scope.spawn(|| consume_text(original(), id, "slow"));
        let running = control.expect("consume");
        let close = scope.spawn(|| original().close(id));
        // Close has begun: the id takes another sink, while the batch of the old one still runs.
        reopen_when_free(original(), id, "{}");
        assert!(control.none_waiting() && !close.is_finished());
        running.answer("ok");
        assert_eq!(consume.join().unwrap(), 0);
        control.expect("close").answer("ok");
        assert_eq!(close.join().unwrap(), 0);
    });
    assert_eq!(consume_text(original(), id, "for the new one"), 0);
    assert_eq!(original().close(id), 0);
}

#[test]
fn begin_close_ends_running_batches() {
    let control = Control::new();
    let id = open_borrowing(&control, &["\"close_wait_ms\": 60000", "\"yields_to_close\": true"]);
    thread::scope(|scope| {
        let consume = scope.spawn(|| consume_text(borrowing(), id, "slow"));
        let unanswered = control.expect("consume");
        let close = scope.spawn(|| borrowing().close(id));
        assert_eq!(consume.join().unwrap(), 1);
        control.expect("close").answer("ok");
        assert_eq!(close.join().unwrap(), 0);
        drop(unanswered);
    });
}

#[test]
fn close_gives_up_and_the_last_batch_closes() {
    let control = Control::new();
    let id = open_borrowing(&control, &["\"close_wait_ms\": 1"]);
    thread::scope(|scope| {
        let first = scope.spawn(|| consume_text(borrowing(), id, "first"));
        let first_call = control.expect("consume");
        assert_eq!(first_call.facts["payloads"][0], "first");
        let second = scope.spawn(|| consume_text(borrowing(), id, "second"));
        let second_call = control.expect("consume");

        assert_eq!(borrowing().close(id), 0);
        assert_eq!(logged(4, &[&sink(id), "waited 1ms and 2 consume calls are still running"]).len(), 1);
        assert_eq!(consume_text(borrowing(), id, "late"), -1);
        assert_eq!(borrowing().close(id), -1);

        // The id is free while the old sink lives on.
        let other = Control::new();
        assert_eq!(borrowing().open(id, &other.config(&["\"close_wait_ms\": 0"]), log), 0);
        let third = scope.spawn(|| consume_text(borrowing(), id, "third"));
        other.expect("consume").answer("ok");
        assert_eq!(third.join().unwrap(), 0);

        first_call.answer("no");
        assert_eq!(first.join().unwrap(), 1);
        assert!(control.none_waiting());
        second_call.answer("ok");
        // On the thread of the second batch, before that returns.
        let closing = control.expect("close");
        assert!(!second.is_finished());
        closing.answer("too late");
        assert_eq!(second.join().unwrap(), 0);
        assert_eq!(logged(4, &[&sink(id), "close failed: Cannot store data: too late"]).len(), 1);

        let close = scope.spawn(|| borrowing().close(id));
        other.expect("close").answer("ok");
        assert_eq!(close.join().unwrap(), 0);
    });
}

#[test]
fn panics_of_the_last_batch_and_of_its_close_end_at_the_abi() {
    let control = Control::new();
    let id = open_borrowing(&control, &["\"close_wait_ms\": 0"]);
    thread::scope(|scope| {
        let consume = scope.spawn(|| consume_text(borrowing(), id, "x"));
        let call = control.expect("consume");
        assert_eq!(borrowing().close(id), 0);
        call.answer("panic");
        control.expect("close").answer("panic");
        assert_eq!(consume.join().unwrap(), -1);
    });
    assert_eq!(logged(4, &[&sink(id), "close panicked: as told, in close"]).len(), 1);
    assert_eq!(logged(4, &[&sink(id), "consume refused: panicked: as told, in consume"]).len(), 1);
}

#[test]
fn of_concurrent_closes_one_closes() {
    for _ in 0..50 {
        let id = new_id();
        assert_eq!(original().open(id, "{}", log), 0);
        let codes: Vec<i32> = thread::scope(|scope| {
            let closes: Vec<_> = (0..4).map(|_| scope.spawn(|| original().close(id))).collect();
            closes.into_iter().map(|close| close.join().unwrap()).collect()
        });
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == -1).count(), 3, "{codes:?}");
    }
}
