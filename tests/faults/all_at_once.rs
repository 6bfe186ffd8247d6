//! Faults of every kind, all at once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::json;

use super::{MODES, Run, eventually, holds, numbers, padded, poisoned};
use crate::support::{
    endpoint::{Answer, Endpoint},
    random::dice,
};

#[test]
fn among_faults_of_every_kind_each_message_has_one_outcome() {
    for (seed, mode) in (0..).zip(MODES) {
        for (ordering, concurrency) in [("none", 8), ("partition", 1)] {
            let attempts: Arc<Mutex<HashMap<Vec<u8>, u64>>> = Arc::default();
            let lost = Arc::new(AtomicUsize::new(0));
            let endpoint = Endpoint::start({
                let lost = lost.clone();
                move |request| {
                    let attempt = {
                        let mut attempts = attempts.lock().unwrap();
                        let attempt = attempts.entry(request.body.clone()).or_default();
                        *attempt += 1;
                        *attempt
                    };
                    if request.body.len() > 1500 {
                        return Answer::status(413);
                    }
                    if holds(request, "poison") {
                        return Answer::status(422);
                    }
                    let ok = Answer::status(200).after(Duration::from_millis(dice(seed, attempt) % 4));
                    match dice(seed, numbers(&request.body)[0] * 1000 + attempt) % 12 {
                        0 => Answer::status(503),
                        1 => Answer::status(500).body("oops").cut_after(2),
                        2 => Answer::reset(),
                        3 => Answer::hang_up(),
                        4 => Answer::status(429).header("Retry-After", "0"),
                        5 => Answer::raw("garbage\r\n\r\n").closing(),
                        6 => {
                            lost.fetch_add(1, SeqCst);
                            Answer::raw("HTTP/1.1 200 O").cut_after(14)
                        }
                        7 => ok.closing(),
                        8 => ok.body("thanks").cut_after(1),
                        _ => ok,
                    }
                }
            });
            let more = json!({
                "ordering": ordering, "concurrency": concurrency, "max_retries": 20, "max_batch_messages": 40,
                "circuit_breaker": { "failure_threshold": 6, "cool_down": "2ms" },
            });
            let mut run = Run::new(&format!("soup-{ordering}"), mode, endpoint, more);
            for _ in 0..3 {
                run.send(100, |n| if n % 97 == 13 { poisoned(n, &[n]) } else { padded(n, 60) });
            }
            let settled = run.settled_at_least_once();
            assert_eq!(
                settled.failed.reasons.keys().copied().collect::<Vec<_>>(),
                [13, 110, 207],
                "{mode}: {:?}",
                settled.failed
            );
            let once: BTreeSet<u64> = settled.taken.iter().copied().collect();
            assert!(
                settled.taken.len() - once.len() <= 40 * lost.load(SeqCst),
                "{mode}: more twice than answers lost"
            );
            eventually("nothing is left on its way", || run.endpoint.in_flight() == 0);
        }
    }
}
