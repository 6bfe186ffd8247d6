//! Opening: configs, failures, ids.

use std::ptr;
use std::sync::Barrier;
use std::thread;

use crate::support::{Control, consume_text, log, logged, new_id, open_controlled, original, sink};

#[test]
fn config_can_be_null_or_missing() {
    let id = new_id();
    for config in ["null", "{}", ""] {
        assert_eq!(original().open(id, config, log), 0, "{config:?}");
        assert_eq!(original().close(id), 0);
    }
}

#[test]
#[allow(unsafe_code)]
fn config_pointer_can_be_null_without_a_length() {
    let id = new_id();
    // SAFETY: a null pointer is allowed with any length.
    unsafe {
        assert_eq!(original().open_raw(id, ptr::null(), 1, log), -1);
        assert_eq!(original().open_raw(id, ptr::null(), 0, log), 0);
    }
    assert_eq!(original().close(id), 0);
}

#[test]
#[allow(unsafe_code)]
fn bad_configs_are_refused_with_the_reason() {
    let id = new_id();
    let cases = [
        (&b"{"[..], "EOF while parsing"),
        (b"{} {}", "trailing characters"),
        (b"\xff\xfe", "invalid utf-8"),
        (br#"{"control": 7}"#, "invalid type: integer `7`"),
        (br#"{"panic_in_new": true}"#, "panicked: as told, in new"),
    ];
    for (config, reason) in cases {
        // SAFETY: pointer and length are of one slice.
        assert_eq!(unsafe { original().open_raw(id, config.as_ptr(), config.len(), log) }, -1);
        assert_eq!(logged(4, &[&sink(id), "open refused: ", reason]).len(), 1, "{reason}");
        assert_eq!(consume_text(original(), id, "x"), -1);
        assert_eq!(original().close(id), -1);
    }
    let deep = "[".repeat(100_000);
    assert_eq!(original().open(id, &deep, log), -1);
    assert_eq!(original().open(id, "{}", log), 0);
    assert_eq!(original().close(id), 0);
}

#[test]
fn failed_open_leaves_nothing_behind() {
    let control = Control::new();
    let id = new_id();
    for (answer, code, line) in [
        ("no luck", 1, "open failed: Init error: no luck"),
        ("panic", -1, "open refused: panicked: as told, in open"),
    ] {
        thread::scope(|scope| {
            let open = scope.spawn(|| original().open(id, &control.config(&[]), log));
            control.expect("open").answer(answer);
            assert_eq!(open.join().unwrap(), code);
        });
        assert_eq!(logged(4, &[&sink(id), line]).len(), 1);
        assert_eq!(consume_text(original(), id, "x"), -1);
        assert_eq!(original().close(id), -1);
    }
    thread::scope(|scope| {
        let open = scope.spawn(|| original().open(id, &control.config(&["\"panic_in_drop\": true"]), log));
        control.expect("open").answer("no luck");
        assert_eq!(open.join().unwrap(), -1);
    });
    assert_eq!(logged(4, &[&sink(id), "panicked: as told, in drop"]).len(), 1);
    assert_eq!(original().open(id, "{}", log), 0);
    assert_eq!(original().close(id), 0);
}

#[test]
fn second_open_is_refused_and_does_no_harm() {
    let control = Control::new();
    let id = open_controlled(&control);
    assert_eq!(original().open(id, &control.config(&[]), log), -1);
    assert_eq!(logged(4, &[&sink(id), "open refused: the id is in use"]).len(), 1);
    thread::scope(|scope| {
        let consume = scope.spawn(|| consume_text(original(), id, "still here"));
        control.expect("consume").answer("ok");
        assert_eq!(consume.join().unwrap(), 0);
        let close = scope.spawn(|| original().close(id));
        control.expect("close").answer("ok");
        assert_eq!(close.join().unwrap(), 0);
    });
}

#[test]
fn while_opening_the_id_is_taken_but_not_open() {
    let control = Control::new();
    let id = new_id();
    thread::scope(|scope| {
        let open = scope.spawn(|| original().open(id, &control.config(&[]), log));
        let call = control.expect("open");
        assert_eq!(original().open(id, "{}", log), -1);
        assert_eq!(consume_text(original(), id, "early"), -1);
        assert_eq!(original().close(id), -1);
        call.answer("ok");
        assert_eq!(open.join().unwrap(), 0);
        let close = scope.spawn(|| original().close(id));
        control.expect("close").answer("ok");
        assert_eq!(close.join().unwrap(), 0);
    });
}

#[test]
fn of_concurrent_opens_one_wins() {
    for _ in 0..50 {
        let id = new_id();
        let barrier = Barrier::new(4);
        let codes: Vec<i32> = thread::scope(|scope| {
            let opens: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        original().open(id, "{}", log)
                    })
                })
                .collect();
            opens.into_iter().map(|open| open.join().unwrap()).collect()
        });
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == -1).count(), 3, "{codes:?}");
        assert_eq!(original().close(id), 0);
    }
}
