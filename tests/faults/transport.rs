//! Connections that break, close or fall silent.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use serde_json::json;

use super::{BODIES_OF_MANY, MODES, Run, numbers, padded, plain};
use crate::support::{
    endpoint::{Answer, Door, Endpoint},
    plugin::failures,
    random::dice,
};

#[test]
fn connections_reset_as_soon_as_they_are_made_are_made_again() {
    for mode in MODES {
        let endpoint = Endpoint::behind(
            |connection| if connection < 5 { Door::Reset } else { Door::Open },
            |_| Answer::status(200),
        );
        let mut run = Run::new("reset-door", mode, endpoint, json!({ "max_retries": 5 }));
        assert_eq!(run.send(20, plain), 0);
        run.delivered();
        assert_eq!(run.endpoint.connections(), 6, "{mode}");
    }
}

#[test]
fn a_body_cut_off_in_the_middle_is_sent_again() {
    for mode in MODES {
        let endpoint = Endpoint::behind(
            |connection| if connection < 3 { Door::ResetAfterHead } else { Door::Open },
            |_| Answer::status(200),
        );
        let mut run = Run::new("cut-body", mode, endpoint, json!({ "max_retries": 3 }));
        assert_eq!(run.send(3, |n| padded(n, 2_000_000)), 0);
        run.delivered();
    }
}

#[test]
fn an_answer_cut_off_in_its_head_is_asked_for_again_under_the_same_key() {
    for mode in MODES {
        let lost = || Answer::raw("HTTP/1.1 200 OK\r\ncontent-le").cut_after(27);
        let endpoint =
            Endpoint::start(move |request| if request.index < 4 { lost() } else { Answer::status(200) });
        let mut run = Run::new("cut-head", mode, endpoint, json!({ "max_retries": 4 }));
        assert_eq!(run.send(10, plain), 0);
        let settled = run.settled_at_least_once();
        assert_eq!(settled.failed.count, 0, "{mode}");
        let counts = settled.exchanges[..5].iter().map(|exchange| exchange.request.header("x-retry-count"));
        assert_eq!(counts.collect::<Vec<_>>(), [None, Some("1"), Some("2"), Some("3"), Some("4")], "{mode}");
    }
}

#[test]
fn what_happens_to_the_body_of_an_answer_changes_nothing_about_its_status() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            let status = [200, 503, 200, 404][request.index % 4];
            Answer::status(status).body("a long explanation").cut_after(6)
        });
        let mut run = Run::new("cut-answer", mode, endpoint, json!({ "max_batch_messages": 1 }));
        assert_eq!(run.send(9, plain), 1);
        let settled = run.settled();
        // 200; 503 and 200; 404; and so on.
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [2, 5, 8], "{mode}");
        assert!(
            settled.failed.reasons[&2].starts_with("rejected, status 404 after 1 attempt: a long"),
            "{mode}"
        );
    }
}

/// Takes the first request of each connection and hangs up on the second.
fn hanging_up_on_the_second() -> Endpoint {
    let seen: Mutex<BTreeSet<usize>> = Mutex::default();
    Endpoint::start(move |request| {
        let first = seen.lock().unwrap().insert(request.connection);
        if first { Answer::status(200).after(Duration::from_millis(1)) } else { Answer::hang_up() }
    })
}

#[test]
fn keepalive_connections_that_the_server_closes_fail_no_message_even_without_retries() {
    for mode in MODES {
        let more = json!({ "max_retries": 0, "max_batch_messages": 1 });
        let mut run = Run::new("closed-keepalive", mode, hanging_up_on_the_second(), more);
        assert_eq!(run.send(50, plain), 0);
        assert_eq!(run.delivered().taken, (0..50).collect::<Vec<_>>(), "{mode}");
    }
}

#[test]
fn the_same_holds_for_many_connections_side_by_side() {
    for mode in MODES {
        let more = json!({
            "max_retries": 0, "max_batch_messages": 1, "concurrency": 8, "ordering": "none",
        });
        let mut run = Run::new("closed-keepalives", mode, hanging_up_on_the_second(), more);
        assert_eq!(run.send(200, plain), 0, "{:?}", failures(&run.stream));
        run.delivered();
    }
}

#[test]
fn an_idle_connection_that_the_server_closed_does_not_cost_a_message_its_one_attempt() {
    let more = json!({ "max_retries": 0, "max_retry_duration": "0s" });
    let mut run = Run::new("late-keepalive", "individual", hanging_up_on_the_second(), more);
    assert_eq!(run.send(10, plain), 0, "{:?}", failures(&run.stream));
    run.delivered();
}

#[test]
fn connections_closed_after_each_answer_lose_nothing() {
    for mode in MODES {
        for said in [false, true] {
            let endpoint = Endpoint::start(move |_| {
                let answer = Answer::status(200).body("thanks");
                if said { answer.connection_close() } else { answer.closing() }
            });
            let more = json!({
                "max_retries": 0, "max_batch_messages": 1, "concurrency": 4, "ordering": "none",
            });
            let mut run = Run::new(&format!("closing-{said}"), mode, endpoint, more);
            assert_eq!(run.send(50, plain), 0, "{:?}", failures(&run.stream));
            run.delivered();
        }
    }
}

#[test]
fn requests_that_stall_are_given_up_and_sent_again() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            if request.header("x-retry-count").is_none() { Answer::stall() } else { Answer::status(200) }
        });
        let more = json!({ "timeout": "300ms", "max_retries": 1, "max_batch_messages": 2 });
        let mut run = Run::new("stalls", mode, endpoint, more);
        assert_eq!(run.send(4, plain), 0);
        let settled = run.delivered();
        let bodies = if BODIES_OF_MANY.contains(&mode) { 2 } else { 4 };
        assert_eq!(settled.exchanges.len(), 2 * bodies, "{mode}");
    }
}

#[test]
fn an_endpoint_that_always_stalls_fails_messages_by_name() {
    for mode in MODES {
        let more = json!({ "timeout": "100ms", "max_retries": 1 });
        let mut run = Run::new("all-stall", mode, Endpoint::start(|_| Answer::stall()), more);
        assert_eq!(run.send(3, plain), 1);
        let settled = run.settled();
        for reason in settled.failed.reasons.values() {
            assert!(reason.starts_with("retries_exhausted after 2 attempts: timeout"), "{mode}: {reason}");
        }
    }
}

#[test]
fn connections_that_are_accepted_and_never_read_are_given_up() {
    let endpoint = Endpoint::behind(
        |connection| if connection < 2 { Door::Stall } else { Door::Open },
        |_| Answer::status(200),
    );
    let mut run = Run::new("deaf", "nd_json", endpoint, json!({ "timeout": "2s", "max_retries": 2 }));
    // More than the buffers of the system hold, so that the body itself stalls.
    assert_eq!(run.send(10, |n| padded(n, 1_000_000)), 0);
    assert_eq!(run.delivered().exchanges.len(), 1);
}

#[test]
fn a_success_whose_body_never_ends_is_a_success_when_the_time_is_over() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(200).body("thanks a lot").stalling_after(3));
        let more = json!({ "timeout": "300ms", "max_retries": 0 });
        let mut run = Run::new("stalling-thanks", mode, endpoint, more);
        assert_eq!(run.send(3, plain), 0);
        run.delivered();
    }
}

#[test]
fn slow_answers_side_by_side_are_each_counted_once() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            Answer::status(200).after(Duration::from_millis(dice(1, numbers(&request.body)[0]) % 30))
        });
        let more = json!({ "concurrency": 16, "ordering": "none", "max_batch_messages": 2 });
        let mut run = Run::new("slow", mode, endpoint, more);
        assert_eq!(run.send(300, plain), 0);
        run.delivered();
        assert!(run.endpoint.max_in_flight() <= 16, "{mode}: {}", run.endpoint.max_in_flight());
    }
}
