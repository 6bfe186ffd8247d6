//! The configuration that a seed decides: the shipped defaults, but for what it says otherwise.

use serde_json::{Map, Value, json};

use super::random::Random;

/// Keys of a configuration as they are set.
struct Keys<'r>(Map<String, Value>, &'r mut Random);

/// A configuration; the messages may be large.
pub(super) fn config(random: &mut Random, large: bool) -> Value {
    let mut keys = Keys(Map::new(), random);
    keys.set("url", json!("http://endpoint.test/in"));
    keys.order();
    let spool = keys.durability();
    let breaker = keys.breaker();
    // Half a day of retries is many requests, and more so when they are large or come every few milliseconds.
    let short = if large || breaker {
        100
    } else if spool {
        99
    } else {
        25
    };
    keys.sometimes(short, "max_retry_duration", &[json!("3s"), json!("30s"), json!("2m"), json!("10m")]);
    keys.retries();
    keys.bodies();
    Value::Object(keys.0)
}

impl Keys<'_> {
    fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    /// Sets a key to one of these values with this chance of a hundred.
    fn sometimes(&mut self, chance: u64, key: &str, values: &[Value]) {
        if self.1.percent(chance) {
            let which = usize::try_from(self.1.between(0, values.len() as u64 - 1)).unwrap();
            self.set(key, values[which].clone());
        }
    }

    fn order(&mut self) {
        let mode =
            ["individual", "nd_json", "json_array", "raw"][usize::try_from(self.1.between(0, 3)).unwrap()];
        if mode != "individual" {
            self.set("batch_mode", json!(mode));
        }
        match self.1.between(0, 9) {
            0..=4 => {}
            5..=7 => {
                self.set("ordering", json!("key"));
                self.set("ordering_key", json!("{payload:/k}"));
            }
            _ => self.set("ordering", json!("none")),
        }
        match self.1.between(0, 9) {
            0..=3 => {}
            4..=7 => {
                let number = self.1.between(2, 8);
                self.set("concurrency", json!(number));
            }
            _ => self.set("concurrency", json!("adaptive")),
        }
    }

    /// Dead letters, and a spool. Returns whether there is one.
    fn durability(&mut self) -> bool {
        let letters = self.1.percent(65);
        if letters {
            let table = match self.1.between(0, 9) {
                0..=5 => json!({ "path": "letters" }),
                6 => json!({ "path": "letters", "max_bytes": self.1.between(500, 5_000) }),
                7 => json!({ "path": "letters", "segment_bytes": self.1.between(100, 2_000) }),
                _ => json!({ "url": "http://letters.test/in" }),
            };
            self.set("dead_letter", table);
        }
        let spool = self.1.percent(55);
        if spool {
            let mut table = json!({ "path": "spool" });
            if letters && self.1.percent(50) {
                table["max_bytes"] = json!("1 MiB");
                table["when_full"] = json!("dead_letter");
            } else if self.1.percent(20) {
                table["max_bytes"] = json!("1 MiB");
            }
            if self.1.percent(12) {
                table["sync"] = json!("100ms");
            }
            self.set("spool", table);
        }
        spool
    }

    /// Returns whether it is not the shipped one.
    fn breaker(&mut self) -> bool {
        let breaker = self.1.percent(25);
        if breaker {
            let cool_down = ["300ms", "1s", "5s", "30s"][usize::try_from(self.1.between(0, 3)).unwrap()];
            let threshold = [0, 1, 2, 5, 20][usize::try_from(self.1.between(0, 4)).unwrap()];
            self.set("circuit_breaker", json!({ "failure_threshold": threshold, "cool_down": cool_down }));
        }
        breaker
    }

    fn retries(&mut self) {
        self.sometimes(20, "max_retries", &[json!(0), json!(1), json!(6)]);
        self.sometimes(15, "retry_delay", &[json!("50ms"), json!("200ms"), json!("3s")]);
        self.sometimes(15, "retry_jitter", &[json!("none"), json!("bounded")]);
        self.sometimes(15, "max_batch_messages", &[json!(1), json!(2), json!(5)]);
        self.sometimes(10, "max_payload_size_bytes", &[json!(700), json!(2_000), json!("1 MiB")]);
        self.sometimes(15, "timeout", &[json!("11s"), json!("15s")]);
        self.sometimes(15, "close_timeout", &[json!("1s"), json!("3s"), json!("20s")]);
        self.sometimes(10, "hold_status_codes", &[json!([401, 403]), json!([403])]);
        self.sometimes(10, "isolate_status_codes", &[json!([]), json!([400, 409, 422])]);
        self.sometimes(10, "max_retry_after", &[json!("5s")]);
    }

    fn bodies(&mut self) {
        let rates = [json!({ "requests_per_second": 20 }), json!({ "messages_per_second": 40 })];
        self.sometimes(10, "rate_limit", &rates);
        self.sometimes(10, "include_metadata", &[json!(false)]);
        // Requests that depend on their messages: bodies of one url are written side by side, or end early.
        let headers = [
            json!({ "x-topic": "{topic}" }),
            json!({ "x-key": "{payload:/k|none}" }),
            json!({ "x-group": "{payload:/g|none}" }),
            json!({ "x-id": "{id}" }),
        ];
        self.sometimes(15, "headers", &headers);
    }
}
