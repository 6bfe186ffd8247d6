//! Secrets: where they come from, and that nothing repeats them.

use serde_json::{Value, json};

use super::{accepted, assert_problem, header, problems, with};

#[test]
fn a_password_in_a_wrong_url_is_not_repeated() {
    let found = problems(&with("url", json!("ftp://me:hunter2@example.com/")));
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
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
