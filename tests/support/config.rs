//! Configurations of sinks under test.

use serde_json::{Value, json};

/// A configuration whose retries do not make a test wait and whose breaker never opens, so that a test of one part sees that part
/// alone, with more keys, which replace those of the same name. What the parts do together begins from the shipped defaults:
/// `tests/combinations` and the simulation.
///
/// # Panics
/// `more` is no table.
pub fn config(url: &str, more: Value) -> Value {
    let impatient = json!({
        "url": url,
        "include_metadata": false,
        "retry_delay": "1ms",
        "max_retry_delay": "2ms",
        "circuit_breaker": { "failure_threshold": 0 },
    });
    with(impatient, more)
}

/// A configuration with more keys.
///
/// # Panics
/// One of them is no table.
pub fn with(mut config: Value, more: Value) -> Value {
    let more = more.as_object().expect("a table").clone();
    config.as_object_mut().expect("a table").extend(more);
    config
}
