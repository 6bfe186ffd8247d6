//! What ends attempts before they succeed.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{MODES, PATIENCE, Run, breaker_opened, config, eventually, plain};
use crate::support::{
    endpoint::{Answer, Endpoint, refused_url},
    plugin::{Batch, Sink, failures, plugin},
};

#[test]
fn with_a_dead_endpoint_all_fails_by_name_when_the_deadline_is_over() {
    for mode in MODES {
        for threshold in [0, 5] {
            let stream = format!("dead-{threshold}-{mode}");
            let more = json!({
                "circuit_breaker": { "failure_threshold": threshold, "cool_down": "30s" },
                "max_retries": 1_000_000,
                "max_retry_duration": "300ms",
            });
            let sink = Sink::open(&config(&refused_url(), mode, more));
            let began = Instant::now();
            assert_eq!(sink.consume(&Batch::numbered(100).from_stream(&stream)), 1, "{stream}");
            assert!(began.elapsed() < Duration::from_secs(10), "{stream}: {:?}", began.elapsed());
            let failed = failures(&stream);
            assert_eq!((failed.count, failed.reasons.len()), (100, 100), "{stream}");
            let reason = &failed.reasons[&0];
            assert!(
                reason.starts_with("deadline_exceeded") || reason.starts_with("circuit_open"),
                "{reason}"
            );
            assert!(reason.contains("connect: "), "{reason}");
        }
    }
}

#[test]
fn a_status_held_for_good_ends_with_the_deadline() {
    for mode in MODES {
        let more = json!({ "hold_status_codes": [403], "max_retries": 0, "max_retry_duration": "200ms" });
        let mut run = Run::new("held-for-good", mode, Endpoint::answering(403), more);
        let began = Instant::now();
        assert_eq!(run.send(10, plain), 1);
        assert!(began.elapsed() < PATIENCE, "{mode}: {:?}", began.elapsed());
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.len(), 10, "{mode}");
        assert!(
            settled.failed.reasons[&9].starts_with("deadline_exceeded, status 403"),
            "{:?}",
            settled.failed
        );
    }
}

#[test]
fn a_pause_without_end_lets_each_message_fail_by_name() {
    for mode in MODES {
        let endpoint = Endpoint::start(|_| Answer::status(503).header("Retry-After", "3600"));
        let more = json!({ "max_retry_after": "2h", "max_retry_duration": "300ms", "max_batch_messages": 2 });
        let mut run = Run::new("endless-pause", mode, endpoint, more);
        let began = Instant::now();
        assert_eq!(run.send(8, plain), 1);
        assert!(began.elapsed() < PATIENCE, "{mode}: {:?}", began.elapsed());
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.len(), 8, "{mode}");
        // Each has its one attempt, and the one that was told to wait another one at its deadline.
        assert!(settled.exchanges.len() <= 9, "{mode}: {}", settled.exchanges.len());
    }
}

/// What the thread of a sink has computed so far.
#[cfg(target_os = "linux")]
fn computed(sink: &Sink) -> Duration {
    let name = format!("http-sink-{}", sink.id);
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let stat = std::fs::read_to_string(task.join("schedstat")).unwrap();
            return Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap());
        }
    }
    panic!("there is no thread {name}");
}

#[cfg(target_os = "linux")]
#[test]
fn messages_behind_a_pause_beyond_their_deadline_cost_nothing() {
    let endpoint = Endpoint::start(|_| Answer::status(503).header("Retry-After", "3600"));
    let more = json!({ "max_retry_after": "2h", "max_retry_duration": "2s" });
    let mut run = Run::new("idle-pause", "individual", endpoint, more);
    assert_eq!(run.send(5, plain), 1);
    let computed = computed(&run.sink);
    run.settled();
    assert!(computed < Duration::from_secs(1), "the thread was busy for {computed:?}");
}

#[test]
fn close_during_retries_settles_what_is_on_its_way() {
    for mode in MODES {
        let more = json!({
            "close_timeout": "100ms", "max_retries": 1_000_000, "retry_delay": "20ms", "max_retry_delay": "1h",
            "concurrency": 4, "ordering": "none", "max_batch_messages": 1,
        });
        let run = Run::new("closed-retries", mode, Endpoint::answering(503), more);
        let batch = Batch::numbered(20).from_stream(&run.stream);
        let code = thread::scope(|scope| {
            let consuming = scope.spawn(|| run.sink.consume(&batch));
            run.endpoint.wait_for_requests(6, PATIENCE);
            assert_eq!(plugin().close(run.sink.id), 0, "{mode}");
            consuming.join().unwrap()
        });
        assert_eq!(code, 1, "{mode}");
        let failed = failures(&run.stream);
        assert_eq!(failed.count, 20, "{mode}: {failed:?}");
        assert!(failed.reasons.values().all(|reason| reason.starts_with("closed")), "{mode}: {failed:?}");
    }
}

#[test]
fn close_lets_requests_on_their_way_finish_within_its_time() {
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(300)));
    let run = Run::new("closing-time", "nd_json", endpoint, json!({ "close_timeout": "30s" }));
    let batch = Batch::numbered(20).from_stream(&run.stream);
    thread::scope(|scope| {
        let consuming = scope.spawn(|| run.sink.consume(&batch));
        run.endpoint.wait_for_requests(1, PATIENCE);
        assert_eq!(plugin().close(run.sink.id), 0);
        assert_eq!(consuming.join().unwrap(), 0);
    });
    assert_eq!(failures(&run.stream).count, 0);
}

#[test]
fn close_ends_a_wait_for_the_breaker() {
    for mode in MODES {
        let more = json!({
            "circuit_breaker": { "failure_threshold": 1, "cool_down": "1m" }, "max_batch_messages": 1,
            "retry_delay": "1m", "max_retry_delay": "1m", "retry_jitter": "none", "ordering": "none",
        });
        let run = Run::new("closed-breaker", mode, Endpoint::answering(503), more);
        let batch = Batch::numbered(20).from_stream(&run.stream);
        let code = thread::scope(|scope| {
            let consuming = scope.spawn(|| run.sink.consume(&batch));
            eventually("the breaker opens", || breaker_opened(&run.endpoint) == 1);
            let began = Instant::now();
            assert_eq!(plugin().close(run.sink.id), 0, "{mode}");
            assert!(began.elapsed() < PATIENCE, "{mode}: {:?}", began.elapsed());
            consuming.join().unwrap()
        });
        assert_eq!((code, failures(&run.stream).count), (1, 20), "{mode}");
        // A few of the others, which had not failed, were probes at once.
        let requests = run.endpoint.requests().len();
        assert!((2..=7).contains(&requests), "{mode}: {requests}");
    }
}
