//! Choices, durations, numbers and status codes.

use std::collections::BTreeSet;

use iggy_connector_http_sink::config::BatchMode;
use serde_json::json;

use super::{accepted, assert_problem, problems, with};

#[test]
fn a_limit_of_zero_is_no_limit() {
    assert_eq!(accepted(&with("max_payload_size_bytes", json!(0))).body.max_bytes, usize::MAX);
    assert_eq!(accepted(&with("max_batch_messages", json!(0))).body.max_messages, None);
}

#[test]
fn both_spellings_of_nd_json_are_known() {
    for spelling in ["nd_json", "ndjson"] {
        assert_eq!(accepted(&with("batch_mode", json!(spelling))).body.mode, BatchMode::NdJson);
    }
}

#[test]
fn unknown_methods_and_modes_are_told_with_what_is_known() {
    assert_problem("method", json!("FETCH"), &["\"FETCH\"", "\"POST\", \"PUT\""]);
    assert_problem("method", json!("post"), &["did you mean \"POST\"?"]);
    assert_problem("method", json!(1), &["1 is not known"]);
    assert_problem("batch_mode", json!("jsonarray"), &["did you mean \"json_array\"?"]);
    assert_problem("method", json!("OPTIONS"), &["\"OPTIONS\""]);
    assert_problem("health_check_method", json!("TRACE"), &["\"TRACE\"", "\"HEAD\", \"OPTIONS\""]);
    assert_problem("health_check_required", json!("no"), &["\"no\" is neither true nor false"]);
    assert_problem("retry_jitter", json!("half"), &["\"full\", \"bounded\", \"none\""]);
}

#[test]
fn durations_need_a_unit_and_the_times_of_one_attempt_must_not_be_zero() {
    assert_problem("timeout", json!("soon"), &["\"soon\"", "30s"]);
    assert_problem("retry_delay", json!(5), &["no unit", "\"5s\""]);
    assert_problem("timeout", json!("0s"), &["above zero"]);
    assert_problem("connect_timeout", json!("0ms"), &["above zero"]);
    assert_problem("close_timeout", json!("0s"), &["above zero"]);
    assert_problem("max_retry_delay", json!(true), &["true is not a duration"]);
}

#[test]
fn numbers_must_be_whole_and_within_their_range() {
    assert_problem("max_retries", json!(-1), &["-1", "from 0 to"]);
    assert_problem("max_retries", json!("many"), &["\"many\""]);
    assert_problem("max_retries", json!(4_294_967_296_u64), &["4294967295"]);
    assert_problem("retry_backoff_multiplier", json!(0), &["0 is not", "from 1 to"]);
    assert_problem("max_payload_size_bytes", json!("big"), &["\"big\"", "MiB"]);
    assert_problem("max_connections", json!(1.5), &["1.5"]);
    assert_problem("include_metadata", json!("yes"), &["\"yes\"", "true nor false"]);
}

#[test]
fn a_first_wait_above_the_longest_is_told_and_not_swapped() {
    let mut config = with("retry_delay", json!("40s"));
    assert!(problems(&config)[0].1.contains("above max_retry_delay, 30s"));
    config["max_retry_delay"] = json!("40s");
    accepted(&config);
}

#[test]
fn status_codes_lie_between_200_and_599() {
    for wrong in [0, 99, 100, 199, 600, 70000] {
        assert_problem("success_status_codes[1]", json!([200, wrong]), &[&wrong.to_string(), "200 to 599"]);
    }
    assert_problem("success_status_codes", json!([]), &["at least one"]);
    assert_problem("success_status_codes", json!("200"), &["not a list"]);
    assert_problem("success_status_codes[0]", json!(["200"]), &["\"200\""]);
    accepted(&with("success_status_codes", json!([200, 599])));
    for wrong in ["204-202", "199-204", "200-600", "2xx", "200-", "-204", "+200-204"] {
        assert_problem("success_status_codes[0]", json!([wrong]), &[wrong, "\"202-204\""]);
    }
    let ranges = accepted(&with("success_status_codes", json!([200, "202-204", "208 - 208"])));
    assert_eq!(ranges.success_status_codes, BTreeSet::from([200, 202, 203, 204, 208]));
    assert!(accepted(&with("retry_status_codes", json!([]))).retry.status_codes.is_empty());
}
