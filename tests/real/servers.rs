//! nginx and `WireMock`: bodies and headers as others' servers see them.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use super::program::Program;
use crate::support::{
    nginx::{Nginx, Protocol},
    plugin::{Batch, Sink},
};

#[test]
fn nginx_sees_the_headers_of_a_preset_and_every_body_once() {
    // What is missing or different is answered with a status that fails.
    let conditions = "if ($http_ce_specversion != '1.0') { return 400; } if ($content_type != 'application/json') { return 415; }
        if ($http_ce_id !~ '^[0-9a-f]{32}$') { return 400; } if ($http_ce_subject != 'stream/topic/1') { return 400; }
        if ($http_idempotency_key != $http_ce_id) { return 400; } if ($http_x_empty !~ '^$') { return 400; }
        if ($http_x_text != 'a%20\"b\"') { return 400; } if ($request_uri != '/in/topic?id=%7B1%7D') { return 404; }";
    for protocol in [Protocol::Http1, Protocol::Https1, Protocol::Http2] {
        let Some(mut nginx) = Nginx::start_with(protocol, 1000, |_| conditions.to_owned()) else { return };
        let sink = Sink::open(&json!({
            "url": format!("{}/{{topic}}?id=%7B{{partition}}%7D", nginx.url()),
            "preset": "cloudevents_binary",
            "tls_danger_accept_invalid_certs": true,
            "headers": { "Content-Type": "application/json", "x-empty": "", "x-text": "a%20\"b\"" },
        }));
        let payloads: Vec<String> =
            (0..200).map(|n| format!("{{\"n\":{n},\"t\":\"\u{fc} {}\"}}", "x".repeat(n))).collect();
        assert_eq!(sink.consume(&Batch::of(Schema::Json, payloads.clone())), 0, "{protocol:?}");
        assert_eq!(sink.close(), 0);
        nginx.quit();
        let expected: BTreeMap<String, usize> = payloads.into_iter().map(|payload| (payload, 1)).collect();
        assert!(nginx.taken() == expected, "{protocol:?}");
    }
}

/// The archive in the npm package `wiremock`.
fn wiremock_jar() -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("NODE_PATH")?).join("wiremock/build");
    let files = fs::read_dir(folder).ok()?;
    files
        .filter_map(Result::ok)
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|end| end == "jar"))
}

fn wiremock() -> Option<Program> {
    let Some(jar) = wiremock_jar() else {
        println!("SKIPPED: WireMock is not in NODE_PATH (npm install wiremock)");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    Program::start("apt-get install default-jre-headless", "/__admin/health", |port| {
        let mut command = Command::new("java");
        command.arg("-jar").arg(jar).args(["--bind-address", "127.0.0.1", "--disable-banner", "--port"]);
        command.arg(port.to_string()).arg("--root-dir").arg(folder.path());
        command
    })
}

/// Adds a stub, and returns its number of requests later.
fn stub(wiremock: &Program, request: &Value, response: &Value) {
    let mapping = json!({ "request": request, "response": response }).to_string();
    let (status, words) = wiremock.ask("POST", "/__admin/mappings", &mapping);
    assert_eq!(status, 201, "{words}");
}

fn count(wiremock: &Program, request: &Value) -> u64 {
    let (_, answer) = wiremock.ask("POST", "/__admin/requests/count", &request.to_string());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["count"].as_u64().unwrap()
}

#[test]
fn wiremock_matches_compressed_documents_by_their_json_and_templated_urls() {
    let Some(wiremock) = wiremock() else { return };
    let logs = json!({
        "method": "POST",
        "urlPath": "/api/v2/logs",
        "queryParameters": { "topic": { "equalTo": "a b&c/d" } },
        "headers": {
            "Content-Type": { "equalTo": "application/json" },
            "Content-Encoding": { "equalTo": "gzip" },
            "DD-API-KEY": { "equalTo": "key" },
            "Idempotency-Key": { "matches": "[0-9a-f]{32}" },
        },
        "bodyPatterns": [
            { "matchesJsonPath": { "expression": "$.length()", "equalTo": "3" } },
            { "matchesJsonPath": { "expression": "$[2].message", "equalToJson": { "n": 2 } } },
            { "matchesJsonPath": { "expression": "$[0].service", "equalTo": "stream" } },
        ],
    });
    stub(&wiremock, &logs, &json!({ "status": 202, "body": "{}" }));
    let sink = Sink::open(&json!({
        "url": format!("{}/api/v2/logs?topic={{topic}}", wiremock.origin()),
        "preset": "datadog",
        "headers": { "DD-API-KEY": "key" },
    }));
    assert_eq!(sink.consume(&Batch::numbered(3).from_topic("a b&c/d")), 0);
    assert_eq!(count(&wiremock, &logs), 1);
    assert_eq!(count(&wiremock, &json!({})), 1, "and nothing else");
}
