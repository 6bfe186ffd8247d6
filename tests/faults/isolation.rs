//! Messages that spoil a body.

use serde_json::json;

use super::{BODIES_OF_MANY, MODES, Run, holds, padded, poisoned};
use crate::support::endpoint::{Answer, Endpoint, Request};

/// Refuses with this status what holds a marked message.
fn refusing_poison(status: u16) -> impl Fn(&Request) -> Answer {
    move |request| {
        if holds(request, "poison") {
            Answer::status(status).body("{\"error\":\"mapper_parsing_exception\"}")
        } else {
            Answer::status(200)
        }
    }
}

#[test]
fn one_poison_in_500_fails_with_the_endpoints_words_and_the_others_arrive() {
    for mode in MODES {
        let mut run = Run::new("one-poison", mode, Endpoint::start(refusing_poison(400)), json!({}));
        assert_eq!(run.send(500, |n| poisoned(n, &[337])), 1);
        let settled = run.settled();
        assert_eq!(settled.taken.len(), 499, "{mode}");
        assert!(settled.taken.is_sorted(), "{mode}: {:?}", settled.taken);
        assert_eq!(
            settled.failed.reasons[&337],
            "rejected, status 400 after 1 attempt: {\"error\":\"mapper_parsing_exception\"}",
            "{mode}"
        );
        let bound = if BODIES_OF_MANY.contains(&mode) { 1 + 2 * 9 } else { 500 };
        assert!(settled.exchanges.len() <= bound, "{mode}: {}", settled.exchanges.len());
    }
}

#[test]
fn three_poisons_in_1000_fail_and_997_arrive() {
    for mode in MODES {
        let mut run = Run::new("three-poisons", mode, Endpoint::start(refusing_poison(422)), json!({}));
        assert_eq!(run.send(1000, |n| poisoned(n, &[0, 500, 999])), 1);
        let settled = run.settled();
        assert_eq!(settled.taken.len(), 997, "{mode}");
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [0, 500, 999], "{mode}");
        let bound = if BODIES_OF_MANY.contains(&mode) { 1 + 3 * 2 * 10 } else { 1000 };
        assert!(settled.exchanges.len() <= bound, "{mode}: {}", settled.exchanges.len());
    }
}

#[test]
fn where_every_message_is_poison_the_search_is_given_up() {
    for mode in MODES {
        let mut run = Run::new("all-poison", mode, Endpoint::start(refusing_poison(400)), json!({}));
        assert_eq!(run.send(200, |n| poisoned(n, &[n])), 1);
        let settled = run.settled();
        assert_eq!((settled.taken.len(), settled.failed.reasons.len()), (0, 200), "{mode}");
        // Over half of them alone, with the bodies above them, and the way down: no more than there are.
        assert!(settled.exchanges.len() <= 200 + 16, "{mode}: {}", settled.exchanges.len());
        let not_probed =
            settled.failed.reasons.values().filter(|reason| reason.starts_with("not_probed")).count();
        if BODIES_OF_MANY.contains(&mode) {
            assert!((90..100).contains(&not_probed), "{mode}: {not_probed}");
            assert!(settled.failed.reasons[&199].contains("mapper_parsing_exception"), "{mode}");
        } else {
            assert_eq!(not_probed, 0, "{mode}");
        }
    }
}

#[test]
fn a_body_of_up_to_64_messages_is_searched_to_the_end_however_many_are_bad() {
    for mode in MODES {
        for (messages, good) in [(3, 2), (3, 1), (64, 63), (64, 0)] {
            let name = format!("small-{messages}-{good}");
            let mut run = Run::new(&name, mode, Endpoint::start(refusing_poison(400)), json!({}));
            let bad: Vec<u64> = (0..messages).filter(|n| *n != good).collect();
            assert_eq!(run.send(messages, |n| poisoned(n, &bad)), 1);
            let settled = run.settled();
            assert_eq!(settled.taken, [good], "{mode}");
            assert!(settled.failed.reasons.values().all(|why| why.starts_with("rejected")), "{mode}");
        }
    }
}

#[test]
fn a_search_for_poison_outlasts_a_busy_endpoint() {
    for mode in MODES {
        let endpoint = Endpoint::start(|request| {
            if request.index % 2 == 0 { Answer::status(503) } else { refusing_poison(400)(request) }
        });
        let mut run = Run::new("busy-poison", mode, endpoint, json!({ "max_retries": 1 }));
        assert_eq!(run.send(64, |n| poisoned(n, &[5, 60])), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [5, 60], "{mode}");
        assert!(settled.failed.reasons[&5].starts_with("rejected, status 400 after 2 attempts"), "{mode}");
    }
}

#[test]
fn a_search_for_poison_goes_on_in_the_parts_of_a_body_that_was_too_large() {
    for mode in BODIES_OF_MANY {
        let endpoint = Endpoint::start(|request| {
            if request.body.len() > 3000 { Answer::status(413) } else { refusing_poison(400)(request) }
        });
        let mut run = Run::new("large-poison", mode, endpoint, json!({}));
        assert_eq!(run.send(300, |n| if n % 100 == 50 { poisoned(n, &[n]) } else { padded(n, 50) }), 1);
        let settled = run.settled();
        assert_eq!(settled.failed.reasons.keys().copied().collect::<Vec<_>>(), [50, 150, 250], "{mode}");
    }
}

#[test]
fn without_isolate_status_codes_a_refused_body_fails_whole_after_one_request() {
    for mode in BODIES_OF_MANY {
        let more = json!({ "isolate_status_codes": [] });
        let mut run = Run::new("no-isolation", mode, Endpoint::start(refusing_poison(400)), more);
        assert_eq!(run.send(100, |n| poisoned(n, &[50])), 1);
        let settled = run.settled();
        assert_eq!((settled.exchanges.len(), settled.failed.reasons.len()), (1, 100), "{mode}");
        assert!(settled.failed.reasons[&0].contains("mapper_parsing_exception"), "{mode}");
    }
}
