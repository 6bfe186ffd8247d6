//! Whatever the endpoint answers, by a script that a seed writes.

use super::*;

/// A random endpoint: a script that is gone through by request, a limit of bytes, and bad messages.
#[derive(Debug)]
struct Script {
    steps: Vec<Step>,
    limit: usize,
    poison_one_in: u64,
    mode: &'static str,
    ordering: &'static str,
    concurrency: u64,
    lanes: u64,
    messages: u64,
    body_messages: u64,
    max_retries: u64,
    breaker: u64,
}

impl Script {
    fn random(seed: u64) -> Self {
        let throw = |n: u64, sides: u64| dice(seed, n) % sides;
        let steps = (0..3 + throw(0, 30))
            .map(|n| match throw(100 + n, 12) {
                0 | 1 => Step::Fail(503),
                2 => Step::Fail(500),
                3 => Step::Throttle,
                4 => Step::Reset,
                5 => Step::HangUp,
                6 => Step::TakeAndClose,
                _ => Step::Take,
            })
            .collect();
        Self {
            steps,
            limit: [usize::MAX, 400, 120, 40][usize::try_from(throw(1, 4)).unwrap()],
            poison_one_in: [u64::MAX, 40, 7, 1][usize::try_from(throw(2, 4)).unwrap()],
            mode: ["individual", "nd_json", "json_array", "raw"][usize::try_from(throw(3, 4)).unwrap()],
            ordering: ["partition", "key", "none"][usize::try_from(throw(4, 3)).unwrap()],
            concurrency: [1, 2, 8][usize::try_from(throw(5, 3)).unwrap()],
            lanes: 1 + throw(6, 6),
            messages: 1 + throw(7, 60),
            body_messages: [0, 1, 5][usize::try_from(throw(8, 3)).unwrap()],
            max_retries: [0, 1, 20][usize::try_from(throw(9, 3)).unwrap()],
            breaker: [0, 1, 3][usize::try_from(throw(10, 3)).unwrap()],
        }
    }

    fn is_poison(&self, seed: u64, n: u64) -> bool {
        self.poison_one_in != u64::MAX && dice(seed, 50_000 + n).is_multiple_of(self.poison_one_in)
    }

    fn answer(&self, request: &Request) -> Answer {
        if request.body.len() > self.limit {
            return Answer::status(413);
        }
        if String::from_utf8_lossy(&request.body).contains("poison") {
            return Answer::status(400).body("poison");
        }
        match self.steps[request.index % self.steps.len()] {
            Step::Take => Answer::status(200),
            Step::TakeAndClose => Answer::status(200).closing(),
            Step::Fail(status) => Answer::status(status),
            Step::Throttle => Answer::status(429).header("Retry-After", "0"),
            Step::Reset => Answer::reset(),
            Step::HangUp => Answer::hang_up(),
        }
    }

    /// Two batches of messages that go round the lanes.
    fn check(self, seed: u64) {
        let script = Arc::new(self);
        let endpoint = Endpoint::start({
            let script = script.clone();
            move |request| script.answer(request)
        });
        let mut more = json!({
            "batch_mode": script.mode,
            "ordering": script.ordering,
            "concurrency": script.concurrency,
            "max_batch_messages": script.body_messages,
            "max_retries": script.max_retries,
            "circuit_breaker": { "failure_threshold": script.breaker, "cool_down": "1ms" },
            "retry_delay": "1ms",
            "max_retry_delay": "1ms",
        });
        if script.ordering == "key" {
            more["ordering_key"] = json!("{payload:/key}");
        }
        let sink = Sink::open(&config(&endpoint.url(), more));
        let stream = format!("script-{seed}");
        let mut failing = false;
        for call in 0..2 {
            let numbers = call * script.messages..(call + 1) * script.messages;
            let payloads = numbers.map(|n| {
                let poison = if script.is_poison(seed, n) { ",\"poison\":1" } else { "" };
                format!("{{\"key\":{},\"n\":{n}{poison}}}", n % script.lanes)
            });
            let batch = Batch::of(Schema::Json, payloads).from_offset(call * script.messages);
            failing |= sink.consume(&batch.from_stream(&stream)) != 0;
        }

        let total = 2 * script.messages;
        let failed = failures(&stream);
        let lanes = taken(&endpoint);
        let mut outcomes: Vec<u64> = lanes.values().flatten().copied().collect();
        outcomes.sort_unstable();
        assert!(outcomes.is_sorted_by(|one, next| one < next), "taken twice: {script:?}");
        assert_eq!(outcomes.len() + failed.count, usize::try_from(total).unwrap(), "{script:?}: {failed:?}");
        assert!(failed.reasons.keys().all(|n| outcomes.binary_search(n).is_err()), "{script:?}: {failed:?}");
        assert_eq!(failing, failed.count > 0, "{script:?}");
        for &n in &outcomes {
            assert!(!script.is_poison(seed, n), "{script:?}");
        }
        if script.ordering == "none" {
            return;
        }
        for lane in lanes.values() {
            assert!(lane.is_sorted(), "{lane:?} of {script:?}");
        }
        if script.ordering == "partition" {
            let mut exchanges = endpoint.exchanges();
            exchanges.retain(crate::support::endpoint::Exchange::is_success);
            let order: Vec<u64> = exchanges
                .iter()
                .flat_map(|exchange| messages(&exchange.request.body))
                .map(|(_, n)| n)
                .collect();
            assert!(order.is_sorted(), "{order:?} of {script:?}");
            assert_eq!(endpoint.max_in_flight().max(1), 1, "{script:?}");
        }
    }
}

#[test]
fn whatever_the_endpoint_answers_lanes_are_in_order_and_each_message_has_one_outcome() {
    let seed = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let seed @ ..75 = seed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                    Script::random(seed).check(seed);
                }
            });
        }
    });
}
