//! Configurations as users write them: defaults, overrides, and every mistake told with its remedy.

mod headers;
mod secrets;
mod spool;
mod transport;
mod values;

use std::{collections::BTreeSet, time::Duration};

use iggy_connector_http_sink::config::{
    BatchMode, Config, HealthCheckConfig, HealthCheckMethod, Jitter, Method, Problems,
};
use serde_json::{Value, json};

fn with(key: &str, value: Value) -> Value {
    let mut config = json!({ "url": "http://localhost/in" });
    config[key] = value;
    config
}

fn problems(json: &Value) -> Vec<(String, String)> {
    let problems = Config::from_json(json).expect_err("the configuration is wrong");
    problems.iter().map(|problem| (problem.path.clone(), problem.message.clone())).collect()
}

#[track_caller]
fn assert_problem(key: &str, value: Value, words: &[&str]) {
    // One item of a list is told by its place in it.
    let found = problems(&with(key.split('[').next().unwrap_or(key), value.clone()));
    assert_eq!(found.len(), 1, "{key} = {value}: {found:?}");
    assert_eq!(found[0].0, format!("plugin_config.{key}"));
    for word in words {
        assert!(found[0].1.contains(word), "{key} = {value}: {word:?} is not in {:?}", found[0].1);
    }
}

fn accepted(json: &Value) -> Config {
    Config::from_json(json).unwrap_or_else(|problems: Problems| panic!("{problems}"))
}

fn header(config: &Config, name: &str) -> Option<String> {
    config
        .endpoint
        .headers
        .iter()
        .find(|(header, _)| header == name)
        .map(|(_, value)| value.resolve().unwrap())
}

#[test]
fn a_url_is_all_that_is_needed() {
    let config = accepted(&json!({ "url": "https://example.com/ingest" }));
    assert_eq!(config.endpoint.method, Method::Post);
    assert!(config.endpoint.headers.is_empty());
    assert_eq!(config.body.mode, BatchMode::Individual);
    assert!(config.body.include_metadata);
    assert!(!config.body.include_checksum);
    assert!(!config.body.include_origin_timestamp);
    assert_eq!(config.body.max_bytes, 10_485_760);
    assert_eq!(config.body.max_messages, None);
    assert_eq!(config.success_status_codes, BTreeSet::from([200, 201, 202, 204]));
    assert_eq!(config.retry.max_retries, 3);
    assert_eq!(config.retry.delay, Duration::from_secs(1));
    assert_eq!(config.retry.multiplier, 2);
    assert_eq!(config.retry.max_delay, Duration::from_secs(30));
    assert_eq!(config.retry.jitter, Jitter::Full);
    assert_eq!(config.retry.max_duration, Duration::from_secs(300));
    assert_eq!(config.retry.max_retry_after, Duration::from_secs(300));
    for retried in [408, 425, 429, 500, 502, 503, 504, 507, 599] {
        assert!(config.retry.status_codes.contains(&retried), "{retried}");
    }
    for not_retried in [400, 404, 413, 501, 505] {
        assert!(!config.retry.status_codes.contains(&not_retried), "{not_retried}");
    }
    assert_eq!(config.client.timeout, Duration::from_secs(30));
    assert_eq!(config.client.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.client.max_connections, 10);
    assert_eq!(config.client.pool_idle_timeout, Duration::from_secs(90));
    assert_eq!(config.client.tcp_keepalive, Duration::from_secs(30));
    assert!(!config.client.follow_redirects);
    assert!(!config.client.accept_invalid_certs);
    assert_eq!(config.max_response_bytes, 65536);
    assert_eq!(config.health_check, None);
    assert_eq!(config.close_timeout, Duration::from_secs(10));
    assert!(!config.verbose_logging);
    assert!(config.warnings.is_empty());
}

#[test]
fn every_key_can_be_overridden() {
    let config = accepted(&json!({
        "url": "https://example.com/ingest",
        "method": "PUT",
        "headers": { "X-Source": "iggy" },
        "batch_mode": "json_array",
        "include_metadata": false,
        "include_checksum": true,
        "include_origin_timestamp": true,
        "max_payload_size_bytes": "1 MiB",
        "max_batch_messages": 100,
        "success_status_codes": [200, 429],
        "max_retries": 7,
        "retry_delay": "10ms",
        "retry_backoff_multiplier": 3,
        "max_retry_delay": "1m 30s",
        "retry_jitter": "none",
        "max_retry_duration": "1h",
        "max_retry_after": "10s",
        "retry_status_codes": [418],
        "timeout": "5s",
        "connect_timeout": "500ms",
        "max_connections": 64,
        "pool_idle_timeout": "10s",
        "tcp_keepalive": "0s",
        "follow_redirects": true,
        "tls_danger_accept_invalid_certs": true,
        "max_response_bytes": 100,
        "health_check_enabled": true,
        "health_check_method": "OPTIONS",
        "health_check_required": false,
        "close_timeout": "3s",
        "verbose_logging": true,
    }));
    assert_eq!(config.endpoint.method, Method::Put);
    assert_eq!(header(&config, "x-source").as_deref(), Some("iggy"));
    assert_eq!(config.body.mode, BatchMode::JsonArray);
    assert!(!config.body.include_metadata);
    assert!(config.body.include_checksum);
    assert!(config.body.include_origin_timestamp);
    assert_eq!(config.body.max_bytes, 1024 * 1024);
    assert_eq!(config.body.max_messages.map(Into::into), Some(100_usize));
    assert_eq!(config.success_status_codes, BTreeSet::from([200, 429]));
    assert_eq!(config.retry.max_retries, 7);
    assert_eq!(config.retry.delay, Duration::from_millis(10));
    assert_eq!(config.retry.multiplier, 3);
    assert_eq!(config.retry.max_delay, Duration::from_secs(90));
    assert_eq!(config.retry.jitter, Jitter::None);
    assert_eq!(config.retry.max_duration, Duration::from_secs(3600));
    assert_eq!(config.retry.max_retry_after, Duration::from_secs(10));
    assert_eq!(config.retry.status_codes, BTreeSet::from([418]));
    assert_eq!(config.client.timeout, Duration::from_secs(5));
    assert_eq!(config.client.connect_timeout, Duration::from_millis(500));
    assert_eq!(config.client.max_connections, 64);
    assert_eq!(config.client.pool_idle_timeout, Duration::from_secs(10));
    assert_eq!(config.client.tcp_keepalive, Duration::ZERO);
    assert!(config.client.follow_redirects);
    assert!(config.client.accept_invalid_certs);
    assert_eq!(config.max_response_bytes, 100);
    let check = HealthCheckConfig { method: HealthCheckMethod::Options, required: false };
    assert_eq!(config.health_check, Some(check));
    assert_eq!(config.close_timeout, Duration::from_secs(3));
    assert!(config.verbose_logging);
    assert_eq!(config.warnings.len(), 1, "the certificates that go unchecked");
}

#[test]
fn every_mode_has_its_content_type() {
    assert_eq!(BatchMode::Individual.content_type(), "application/json");
    assert_eq!(BatchMode::NdJson.content_type(), "application/x-ndjson");
    assert_eq!(BatchMode::JsonArray.content_type(), "application/json");
    assert_eq!(BatchMode::Raw.content_type(), "application/octet-stream");
}

#[test]
fn what_takes_no_effect_is_told() {
    for (key, value, words) in [
        ("connect_timeout", json!("31s"), ["connect_timeout, 31s", "timeout, 30s"]),
        ("response_header_timeout", json!("31s"), ["response_header_timeout, 31s", "timeout, 30s"]),
        ("concurrency", json!(2), ["concurrency = 2", "ordering = \"partition\""]),
    ] {
        let config = accepted(&with(key, value));
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        for word in words {
            assert!(config.warnings[0].contains(word), "{:?}", config.warnings);
        }
    }
    let quick = accepted(&with("timeout", json!("5s")));
    assert_eq!((quick.client.connect_timeout, quick.warnings.len()), (Duration::from_secs(5), 0));
    for ordering in ["none", "partition"] {
        let config = json!({
            "url": "http://localhost", "concurrency": 8, "ordering": ordering,
            "spool": { "path": "/s" }, "dead_letter": { "path": "/d" },
        });
        assert!(accepted(&config).warnings.is_empty());
    }
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_known_one() {
    assert_problem("max_retires", json!(3), &["did you mean `max_retries`?"]);
    assert_problem("URL", json!("x"), &["did you mean `url`?"]);
    assert_problem("batchmode", json!("raw"), &["did you mean `batch_mode`?"]);
    assert_problem("header", json!({}), &["did you mean `headers`?"]);
    assert_problem("zzz", json!(1), &["unknown key"]);
}

#[test]
fn a_format_key_is_ignored() {
    accepted(&with("format", json!("json")));
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(&json!({
        "url": "gopher://x",
        "method": "GOT",
        "timeout": "never",
        "batch_mode": "nd-json",
        "max_retries": -3,
        "success_status_codes": [99],
        "retry_backoff_multiplier": 0,
        "headers": { "a b": "c" },
        "include_metadata": 1,
        "time_out": "3s",
    }));
    assert_eq!(found.len(), 10, "{found:#?}");
}
