//! Headers: their names, values and overrides.

use serde_json::json;

use super::{accepted, assert_problem, header, problems, with};

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
fn one_header_in_two_spellings_is_refused() {
    let found = problems(&with("headers", json!({ "X-Id": "1", "x-id": "2" })));
    assert!(found[0].1.contains("twice"), "{found:?}");
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
