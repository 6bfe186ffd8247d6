//! Presets: what they are, in the docs, and what they send.

use iggy_connector_http_sink::config::{Config, Preset};
use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink},
};

#[test]
fn the_docs_show_what_each_preset_stands_for() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/presets.md");
    let docs = std::fs::read_to_string(path).unwrap();
    let mut expected = docs.clone();
    for name in Preset::names() {
        let preset: Preset = name.parse().unwrap();
        let begin = format!("<!-- preset {name} -->\n");
        let (before, rest) =
            expected.split_once(&begin).unwrap_or_else(|| panic!("{name} is not in docs/presets.md"));
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        expected = format!("{before}{begin}```toml\n{}```\n<!-- end -->{after}", preset.to_toml());
        let table: toml::Table = toml::from_str(&preset.to_toml()).unwrap();
        let mut keys = serde_json::to_value(&table).unwrap();
        let tables = keys.as_object_mut().unwrap().remove("plugin_config").unwrap_or(json!({}));
        assert_eq!(with(keys, tables), Value::Object(preset.keys()), "{name}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    assert!(docs == expected, "docs/presets.md is out of date: run this test with UPDATE_DOCS=1");
}

/// What a preset sends to an endpoint that answers with this status and body.
fn sent(preset: &str, more: Value, answer: (u16, &'static str), batch: &Batch) -> Vec<Request> {
    let endpoint = Endpoint::start(move |_| Answer::status(answer.0).body(answer.1));
    let sink = Sink::open(&with(json!({ "url": endpoint.url(), "preset": preset }), more));
    assert_eq!(sink.consume(batch), 0, "{preset}");
    endpoint.requests()
}

fn text(request: &Request) -> String {
    String::from_utf8(request.body.clone()).unwrap()
}

fn value(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

#[test]
fn parameters_of_a_preset_join_the_query_of_the_url_however_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let added = "insert_deduplication_token=KEY&wait_end_of_query=1";
    // A URL, with what the file holds that it names, and the path and query that are asked for.
    for (url, held, asked) in [
        ("HELD", "ORIGIN/in?query=INSERT", format!("/in?query=INSERT&{added}")),
        ("HELD", "ORIGIN/in", format!("/in?{added}")),
        (
            "ORIGIN/in?HELD",
            "wait_end_of_query=0",
            "/in?wait_end_of_query=0&insert_deduplication_token=KEY".to_owned(),
        ),
        ("ORIGIN/in#top", "", format!("/in?{added}")),
        ("ORIGIN/in?query=INSERT#top?", "", format!("/in?query=INSERT&{added}")),
        ("ORIGIN/in#insert_deduplication_token=", "", format!("/in?{added}")),
        (
            "ORIGIN/in?my_insert_deduplication_token=1",
            "",
            format!("/in?my_insert_deduplication_token=1&{added}"),
        ),
        (
            "ORIGIN/in?insert%5Fdeduplication_token=1",
            "",
            "/in?insert%5Fdeduplication_token=1&wait_end_of_query=1".to_owned(),
        ),
        (
            "ORIGIN/in?wait_end_of_query",
            "",
            "/in?wait_end_of_query&insert_deduplication_token=KEY".to_owned(),
        ),
        ("ORIGIN/in?", "", format!("/in?{added}")),
        ("ORIGIN/in?a=1&", "", format!("/in?a=1&{added}")),
        ("ORIGIN/in ", "", format!("/in?{added}")),
        ("ORIGIN/{topic}/{header:x|a?b#c}", "", format!("/topic/a%3Fb%23c?{added}")),
        ("ORIGIN/{topic}#top", "", format!("/topic?{added}")),
    ] {
        let endpoint = Endpoint::answering(200);
        let origin = endpoint.url();
        let origin = origin.trim_end_matches("/in");
        let file = folder.path().join("secret");
        std::fs::write(&file, held.replace("ORIGIN", origin)).unwrap();
        let written = url.replace("ORIGIN", origin).replace("HELD", &format!("${{file:{}}}", file.display()));
        let sink = Sink::open(&json!({ "url": written, "preset": "clickhouse" }));
        assert_eq!(sink.consume(&Batch::numbered(1)), 0, "{url}");
        let request = &endpoint.requests()[0];
        let key = request.header("idempotency-key").unwrap();
        assert_eq!(request.path.replace(key, "KEY"), asked, "{url} with {held}");
    }
}

#[test]
fn a_fragment_in_a_secret_is_refused_where_the_preset_adds_to_the_query() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "http://localhost/in?hunter2#top").unwrap();
    let url = format!("${{file:{}}}", file.path().display());
    let why = Config::from_json(&json!({ "url": url, "preset": "clickhouse" })).unwrap_err().to_string();
    assert!(why.contains("plugin_config.url") && why.contains("\"#\""), "{why}");
    assert!(!why.contains("hunter2"), "{why}");
    assert!(Config::from_json(&json!({ "url": url })).is_ok());
}

#[test]
fn each_preset_sends_what_its_endpoint_takes() {
    let batch = || Batch::of(Schema::Json, ["{\"value\": 1.5}", "{\"value\":2}"]);
    let none = || json!({});

    let bulk = sent("elasticsearch", none(), (200, "{\"errors\":false,\"items\":[]}"), &batch());
    assert_eq!((bulk.len(), bulk[0].header("content-type")), (1, Some("application/x-ndjson")));
    let lines: Vec<Value> = text(&bulk[0]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), lines[0]["create"]["_id"].as_str().unwrap().len(), &lines[3]["value"]),
        (4, 32, &json!(2))
    );

    let rows = sent("clickhouse", none(), (200, ""), &batch());
    let token = rows[0].header("idempotency-key").unwrap();
    assert_eq!(rows[0].path, format!("/in?insert_deduplication_token={token}&wait_end_of_query=1"));
    assert_eq!(text(&rows[0]), "{\"value\": 1.5}\n{\"value\":2}\n");

    let events = sent("splunk_hec", none(), (200, "{\"text\":\"Success\",\"code\":0}"), &batch());
    let event: Value = serde_json::from_str(text(&events[0]).lines().next().unwrap()).unwrap();
    assert_eq!((&event["event"]["value"], &event["source"]), (&json!(1.5), &json!("stream/topic")));

    let streams = sent("loki", none(), (204, ""), &batch());
    assert_eq!(
        value(&streams[0]),
        json!({ "streams": [{
            "stream": { "iggy_stream": "stream", "iggy_topic": "topic" },
            "values": [["1760000000000000000", "{\"value\": 1.5}"], ["1760000000000001000", "{\"value\":2}"]],
        }] })
    );

    let lines = sent("influxdb", none(), (204, ""), &batch());
    assert_eq!(
        text(&lines[0]).lines().next().unwrap(),
        "topic,stream=stream,partition=1 offset=0i,payload=\"{\\\"value\\\": 1.5}\" 1760000000000000000"
    );
    let lines = sent("victoriametrics", none(), (204, ""), &batch());
    assert_eq!(
        text(&lines[0]).lines().next().unwrap(),
        "topic,stream=stream,partition=1 value=1.5 1760000000000000000"
    );

    let logs = value(&sent("otlp_logs", none(), (200, "{}"), &batch())[0]);
    let records = &logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    assert_eq!(
        (records.as_array().unwrap().len(), &records[1]["body"]["stringValue"]),
        (2, &json!("{\"value\":2}"))
    );

    let one = || Batch::of(Schema::Text, ["hello \"you\""]);
    assert_eq!(value(&sent("slack", none(), (200, "ok"), &one())[0]), json!({ "text": "hello \"you\"" }));
    let mine = json!({ "message_template": "{\"text\":\"{topic}: {payload}\"}" });
    assert_eq!(
        value(&sent("slack", mine, (200, "ok"), &one())[0]),
        json!({ "text": "topic: hello \"you\"" })
    );

    let secrets = json!({ "auth": { "secrets": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" } });
    let webhook = &sent("standard_webhooks", secrets, (200, ""), &batch())[0];
    assert!(webhook.header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
    assert_eq!((&value(webhook)["data"]["value"], &value(webhook)["type"]), (&json!(1.5), &json!("message")));

    let logs = &sent("datadog", none(), (202, ""), &batch())[0];
    assert_eq!(logs.header("content-encoding"), Some("gzip"));
}

#[test]
fn cloudevents_come_in_all_three_modes() {
    let batch = Batch::numbered(2);
    let structured = sent("cloudevents", json!({}), (200, ""), &batch);
    assert_eq!(
        (structured.len(), structured[0].header("content-type")),
        (2, Some("application/cloudevents+json"))
    );
    let event = value(&structured[1]);
    assert_eq!(
        (&event["specversion"], &event["data"]["n"], &event["subject"]),
        (&json!("1.0"), &json!(1), &json!("stream/topic/1"))
    );

    let binary = sent(
        "cloudevents_binary",
        json!({ "headers": { "Content-Type": "application/json" } }),
        (200, ""),
        &batch,
    );
    assert_eq!((text(&binary[1]), binary[1].header("ce-id")), ("{\"n\":1}".to_owned(), event["id"].as_str()));
    assert_eq!(binary[1].header("content-type"), Some("application/json"));

    let events = sent("cloudevents_batch", json!({}), (200, ""), &batch);
    assert_eq!(
        (events.len(), events[0].header("content-type")),
        (1, Some("application/cloudevents-batch+json"))
    );
    assert_eq!(value(&events[0])[1], event);
}

#[test]
fn an_unknown_preset_is_told() {
    let config = json!({ "url": "http://localhost/", "preset": "elastic" });
    let told = iggy_connector_http_sink::config::Config::from_json(&config).unwrap_err().to_string();
    assert!(told.contains("preset") && told.contains("did you mean \"elasticsearch\"?"), "{told}");
}
