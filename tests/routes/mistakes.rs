//! Routes that are wrong.

use super::*;

#[test]
fn mistakes_are_told_with_their_route() {
    let told = told(json!({
        "url": "http://a/", "timeuot": "1s", "retry_delay": "long", "concurrency": 1,
        "routes": [
            { "topic": "a", "url": "http://a/b", "concurrency": 2, "rate_limit": { "requests_per_second": 1 } },
            { "url": "http://b/", "spool": { "path": "x" }, "status": { "address": "127.0.0.1:0" }, "routes": [] },
            { "topic": "c", "timeuot": "2s", "headers": { "X Bad": "1" }, "retry_delay": "longer" },
            "d",
        ],
    }));
    for words in [
        "plugin_config.retry_delay: \"long\"",
        "plugin_config.timeuot: unknown key: did you mean `timeout`?",
        "plugin_config.routes[0].concurrency: differs from that of the connector",
        "plugin_config.routes[0].rate_limit: differs",
        "plugin_config.routes[1].topic: is not given, and stream neither",
        "plugin_config.routes[1].spool: applies to the whole connector",
        "plugin_config.routes[1].status: applies to the whole connector",
        "plugin_config.routes[1].routes: applies to the whole connector",
        "plugin_config.routes[2].timeuot: unknown key",
        "plugin_config.routes[2].headers.X…",
        "plugin_config.routes[2].retry_delay: \"longer\"",
        "plugin_config.routes[3]: is text, and not a table",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // What is wrong above is told there alone.
    assert!(told.starts_with("12 problems"), "{told}");
}

#[test]
fn routes_are_a_list_of_tables() {
    assert!(told(json!({ "routes": "x" })).contains("plugin_config.routes: is text, and no list of tables"));
    assert!(told(json!({ "routes": [] })).contains("plugin_config.url: is required"));
    assert!(
        told(json!({ "routes": [{ "topic": "a" }] })).contains("plugin_config.routes[0].url: is required")
    );
    // As the environment overrides it.
    let config = json!({ "routes": "[{\"topic\":\"a\",\"url\":\"http://a/\"}]" });
    let config = Config::from_json(&config).unwrap();
    assert!(config.route("s", "a").is_some() && config.route("s", "b").is_none());
    let config =
        json!({ "url": "http://a/", "routes": [{ "topic": "*" }, { "topic": "b", "url": "http://b/" }] });
    let warnings = Config::from_json(&config).unwrap().warnings;
    assert!(
        warnings.iter().any(|line| line.starts_with("routes[1] is never taken: routes[0]")),
        "{warnings:?}"
    );
}
