//! Configurations as users write them: defaults, overrides, and every mistake told with its remedy.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use iggy_connector_http_sink::config::{
    BatchMode, Config, HealthCheckConfig, HealthCheckMethod, Jitter, Method, Problems, WhenFull,
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
fn every_mode_has_its_content_type() {
    assert_eq!(BatchMode::Individual.content_type(), "application/json");
    assert_eq!(BatchMode::NdJson.content_type(), "application/x-ndjson");
    assert_eq!(BatchMode::JsonArray.content_type(), "application/json");
    assert_eq!(BatchMode::Raw.content_type(), "application/octet-stream");
}

#[test]
fn a_missing_url_is_told() {
    for nothing in [json!(null), json!({}), json!({ "url": null })] {
        let found = problems(&nothing);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "plugin_config.url");
        assert!(found[0].1.contains("required"), "{found:?}");
    }
}

#[test]
fn only_http_and_https_urls_are_allowed() {
    accepted(&with("url", json!("http://localhost:1/")));
    accepted(&with("url", json!("https://[::1]/x?y=z")));
    assert_problem("url", json!("ftp://example.com/x"), &["\"ftp\"", "http and https"]);
    assert_problem("url", json!("file:///etc/passwd"), &["\"file\""]);
    assert_problem("url", json!(""), &["empty"]);
    assert_problem("url", json!("   "), &["empty"]);
    assert_problem("url", json!("not a url"), &["is not a URL"]);
    assert_problem("url", json!("/only/a/path"), &["is not a URL"]);
    assert_problem("url", json!(["http://localhost"]), &["a list", "quotes"]);
}

#[test]
fn a_password_in_a_wrong_url_is_not_repeated() {
    let found = problems(&with("url", json!("ftp://me:hunter2@example.com/")));
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
}

#[test]
fn a_url_that_only_a_browser_would_take_for_one_is_refused() {
    for url in ["http:me:hunter2@h", "http:/me:hunter2@h", "http:\\\\me:hunter2@h", "http:///me:hunter2@h"] {
        for key in [json!({ "url": url }), json!({ "url": "http://h", "dead_letter": { "url": url } })] {
            let found = problems(&key);
            assert!(found[0].1.contains("has no \"//\" and a host"), "{url}: {found:?}");
            assert!(!format!("{found:?}").contains("hunter2"), "{url}: {found:?}");
        }
    }
}

#[test]
fn digits_that_a_number_would_change_are_numbers_and_secrets_that_came_as_numbers_are_warned_about() {
    assert_eq!(accepted(&with("max_retries", json!("007"))).retry.max_retries, 7);
    let rate = accepted(&json!({ "url": "http://h", "rate_limit_requests_per_second": "1.50" }));
    assert_eq!(rate.rate_limit.requests_per_second, Some(1.5));
    let warned = |key: &str, value: Value| {
        let warnings = accepted(&with(key, value)).warnings;
        warnings.iter().any(|warning| warning.contains(key) && warning.contains("came as a number"))
    };
    assert!(warned("headers_authorization", json!(123_456)));
    assert!(warned("headers_x_api_key", json!(123_456)));
    assert!(!warned("headers_authorization", json!("0123456")));
    assert!(!warned("headers_x_id", json!(42)));
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
    assert!(accepted(&with("retry_status_codes", json!([]))).retry.status_codes.is_empty());
}

#[test]
fn wrong_names_and_values_of_headers_are_told_with_their_place() {
    let found = problems(&with(
        "headers",
        json!({ "bad name": "x", "X-Ok": "fine", "X-Bad": "line\nbreak", "X-List": [1] }),
    ));
    let places: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        places,
        ["plugin_config.headers.bad…", "plugin_config.headers.X-Bad", "plugin_config.headers.X-List"]
    );
    assert!(found[0].1.contains("RFC 9110"), "{found:?}");
    assert!(found[1].1.contains("control character"), "{found:?}");
}

#[test]
fn headers_that_frame_the_body_are_refused() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "connection",
        "UPGRADE",
        "TE",
        "Trailer",
        "expect",
        "Keep-Alive",
        "proxy-connection",
        "HTTP2-Settings",
    ] {
        let found = problems(&with("headers", json!({ name: "5" })));
        assert!(found[0].1.contains("set by the sink"), "{found:?}");
        for key in ["idempotency_header", "retry_count_header"] {
            assert_problem(key, json!(name), &["set by the sink", &name.to_ascii_lowercase()]);
        }
    }
    let found = problems(&with("headers", json!({ "Proxy-Authorization": "Basic x" })));
    assert!(found[0].1.contains("proxy.password"), "{found:?}");
}

#[test]
fn the_transport_is_configured() {
    let config = accepted(&json!({
        "url": "https://example.com/ingest",
        "response_header_timeout": "5s",
        "max_connection_age": "1h",
        "http2_prior_knowledge": true,
        "tls": { "min_version": "1.3" },
        "proxy": { "url": "http://proxy:3128", "no_proxy": "a, .b", "username": "u", "password": "hunter2" },
    }));
    assert_eq!(config.client.response_header_timeout, Duration::from_secs(5));
    assert_eq!(config.client.max_connection_age, Duration::from_hours(1));
    assert!(config.client.http2_prior_knowledge);
    assert_eq!(config.client.tls.min_version.to_string(), "1.3");
    assert_eq!(config.client.proxy.no_proxy, ["a", ".b"]);
    assert!(config.client.proxy.from_environment);
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    // As the runtime's environment overrides come in.
    let config = accepted(&json!({
        "url": "https://example.com/ingest",
        "tls_min_version": "1.3",
        "tls_danger_accept_invalid_certs": false,
        "proxy_url": "https://proxy",
        "proxy_no_proxy": ["a", "b, c"],
        "proxy_from_environment": false,
    }));
    assert_eq!(config.client.tls.min_version.to_string(), "1.3");
    assert_eq!(config.client.proxy.no_proxy, ["a", "b", "c"]);
    assert!(!config.client.proxy.from_environment);
}

#[test]
fn a_proxy_that_cannot_be_is_refused_without_its_password() {
    let proxies = [
        (json!({ "url": "socks5://u:hunter2@proxy" }), "url"),
        (json!({ "url": "hunter2 proxy" }), "url"),
        (json!({ "url": "http://proxy/hunter2" }), "url"),
        (json!({ "username": "hunter2" }), "username"),
        (json!({ "url": "http://proxy", "password": "hunter2" }), "username"),
        (json!({ "url": "http://u:hunter2@proxy", "username": "u" }), "username"),
        (json!({ "url": "http://proxy", "no_proxy": 1 }), "no_proxy"),
    ];
    for (proxy, key) in proxies {
        let found = problems(&with("proxy", proxy.clone()));
        assert_eq!(found.len(), 1, "{proxy}: {found:?}");
        assert_eq!(found[0].0, format!("plugin_config.proxy.{key}"), "{proxy}");
        assert!(!found[0].1.contains("hunter2"), "{found:?}");
    }
}

#[test]
fn an_answer_is_read_up_to_64_mib() {
    assert_eq!(accepted(&with("max_response_bytes", json!("64 MiB"))).max_response_bytes, 64 << 20);
    assert_problem("max_response_bytes", json!((64 << 20) + 1), &["64 MiB", "67108865"]);
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
fn one_header_in_two_spellings_is_refused() {
    let found = problems(&with("headers", json!({ "X-Id": "1", "x-id": "2" })));
    assert!(found[0].1.contains("twice"), "{found:?}");
}

#[test]
fn a_credential_in_a_header_is_not_repeated() {
    let found =
        problems(&with("headers", json!({ "Authorization": "Bearer hunter2\n", "X": { "y": "hunter2" } })));
    assert_eq!(found.len(), 2);
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    let config = accepted(&with("headers", json!({ "Authorization": "Bearer ${env:CARGO_PKG_NAME}" })));
    assert!(format!("{config:?}").contains("${env:CARGO_PKG_NAME}"));
    assert!(!format!("{config:?}").contains(env!("CARGO_PKG_NAME")));
}

#[test]
fn what_a_secret_resolves_to_is_not_repeated_in_a_problem() {
    let secret = env!("CARGO_PKG_NAME");
    let reference = json!("${env:CARGO_PKG_NAME}");
    for key in
        ["url", "timeout", "method", "concurrency", "max_payload_size_bytes", "ordering", "max_retries"]
    {
        let found = problems(&with(key, reference.clone()));
        assert!(!format!("{found:?}").contains(secret), "{key}: {found:?}");
        assert_eq!(found[0].0, format!("plugin_config.{key}"));
    }
    let found = problems(&json!({ "url": "${env:CARGO_PKG_NAME}://x" }));
    assert!(!format!("{found:?}").contains(secret), "{found:?}");
    let found = problems(&with("headers", json!({ "Authorization": "Bearer hunter2 ${" })));
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
}

#[test]
fn environment_overrides_of_headers_arrive_as_flat_keys() {
    let config = accepted(&json!({
        "url": "http://localhost/",
        "headers": { "X-Api-Key": "from the file", "X_Odd": "kept" },
        "headers_authorization": "Bearer t",
        "headers_x_api_key": 12345,
        "headers_x_flag": true,
    }));
    assert_eq!(header(&config, "authorization").as_deref(), Some("Bearer t"));
    assert_eq!(header(&config, "x-api-key").as_deref(), Some("12345"));
    assert_eq!(header(&config, "x-flag").as_deref(), Some("true"));
    assert_eq!(header(&config, "x_odd").as_deref(), Some("kept"));
    assert_eq!(config.endpoint.headers.len(), 4);
}

#[test]
fn an_override_of_a_whole_table_arrives_as_a_string_of_json() {
    let config = accepted(&with("headers", json!("{\"X-A\": \"1\"}")));
    assert_eq!(header(&config, "x-a").as_deref(), Some("1"));
    assert_problem("headers", json!("X-A: 1"), &["not a table"]);
    assert_problem("headers", json!(3), &["not a table"]);
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
fn secrets_in_files_and_the_environment_are_put_in_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let reference = format!("${{file:{}}}", file.path().display());
    let config = accepted(&json!({
        "url": "http://localhost/${env:CARGO_PKG_NAME}",
        "headers": { "X-Token": reference },
    }));
    assert_eq!(
        config.endpoint.url.resolve().unwrap(),
        format!("http://localhost/{}", env!("CARGO_PKG_NAME"))
    );
    assert_eq!(header(&config, "x-token").as_deref(), Some("s3cret"));
}

#[test]
fn a_missing_secret_is_named() {
    assert_problem("url", json!("http://localhost/${env:SURELY_NOT_SET}"), &["SURELY_NOT_SET", "not set"]);
    assert_problem("timeout", json!("${file:/surely/not/there}"), &["/surely/not/there"]);
    let found = problems(&with("headers", json!({ "X": "${env:SURELY_NOT_SET}" })));
    assert!(found[0].0 == "plugin_config.headers.X" && found[0].1.contains("SURELY_NOT_SET"), "{found:?}");
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

#[test]
fn a_spool_has_defaults_of_its_own_and_waits_longer() {
    let config = accepted(&json!({ "url": "http://localhost/", "spool": { "path": "/spool" } }));
    let spool = config.spool.unwrap();
    assert_eq!((spool.path.as_path(), spool.max_bytes), (Path::new("/spool"), 1 << 30));
    assert_eq!((spool.when_full, spool.sync), (WhenFull::Block, None));
    assert_eq!((config.retry.max_retries, config.retry.max_duration), (u32::MAX, Duration::from_hours(12)));
    assert!(config.warnings.iter().any(|warning| warning.contains("[dead_letter]")), "{:?}", config.warnings);

    let config = accepted(&json!({
        "url": "http://localhost/", "max_retries": 2, "max_retry_duration": "1m", "dead_letter": { "path": "/dead" },
        "spool_path": "/spool", "spool_sync": "100ms", "spool_when_full": "dead_letter", "spool_max_bytes": "2 MiB",
    }));
    let spool = config.spool.unwrap();
    assert_eq!((spool.sync, spool.when_full), (Some(Duration::from_millis(100)), WhenFull::DeadLetter));
    assert_eq!((spool.max_bytes, config.warnings.len()), (2 << 20, 0));
    assert_eq!((config.retry.max_retries, config.retry.max_duration), (2, Duration::from_secs(60)));
}

#[test]
fn mistakes_in_a_spool_are_told_all_at_once() {
    let wrong = json!({ "max_bytes": "1 kB", "when_full": "blck", "sync": "sometimes", "fsync": true });
    let found: BTreeMap<String, String> =
        problems(&json!({ "url": "http://localhost/", "spool": wrong })).into_iter().collect();
    for (key, word) in [
        ("path", "is not given"),
        ("max_bytes", "1 MiB"),
        ("when_full", "block"),
        ("sync", "\"100ms\""),
        ("fsync", "sync"),
    ] {
        let told = &found[&format!("plugin_config.spool.{key}")];
        assert!(told.contains(word), "{key}: {told}");
    }
    let nowhere =
        json!({ "url": "http://localhost/", "spool": { "path": "/spool", "when_full": "dead_letter" } });
    let found = problems(&nowhere);
    assert!(found.len() == 1 && found[0].1.contains("[dead_letter]"), "{found:?}");
}
