//! The URL, the proxy and what else leads to the endpoint.

use std::time::Duration;

use serde_json::json;

use super::{accepted, assert_problem, problems, with};

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
