//! `VictoriaMetrics` and `InfluxDB`: points are counted by a query.

use std::{fs, process::Command};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use super::program::Program;
use crate::support::plugin::{Batch, Sink, failures};

const MESSAGES: u64 = 1000;

/// A message each second.
fn batch(schema: Schema, payloads: impl Iterator<Item = String>) -> Batch {
    let mut batch = Batch::of(schema, payloads);
    for (second, message) in (0..).zip(&mut batch.messages) {
        message.timestamp = 1_760_000_000_000_000 + second * 1_000_000;
    }
    batch
}

/// A number that a query finds.
fn number(answer: &(u16, String), pointer: &str) -> f64 {
    let value: Value = serde_json::from_str(&answer.1).unwrap_or_else(|why| panic!("{why}: {answer:?}"));
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.parse().unwrap(),
        Some(Value::Number(number)) => number.as_f64().unwrap(),
        other => panic!("{other:?} in {answer:?}"),
    }
}

#[test]
fn victoriametrics_counts_the_points_that_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let victoria = Program::start("apt-get install victoria-metrics", "/health", |port| {
        let mut command = Command::new("victoria-metrics");
        command.arg("-storageDataPath").arg(folder.path()).arg(format!("-httpListenAddr=127.0.0.1:{port}"));
        command.args(["-retentionPeriod=100y", "-search.latencyOffset=0s"]);
        command
    });
    let Some(victoria) = victoria else { return };
    let payload = |n: u64| if n == 500 { "{\"other\":1}".to_owned() } else { format!("{{\"value\":{n}.5}}") };
    // What separates the parts of a line can stand in a name.
    let batch =
        batch(Schema::Json, (0..MESSAGES).map(payload)).from_stream("a=b, c \\ \"d\"").from_topic("orders");
    let sink =
        Sink::open(&json!({ "url": format!("{}/write", victoria.origin()), "preset": "victoriametrics" }));
    assert_eq!(sink.consume(&batch), 1, "one has no value");
    let failed = failures("a=b, c \\ \"d\"").reasons;
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&500], "{failed:?}");
    victoria.ask("GET", "/internal/force_flush", "");
    let ask = |query: &str| {
        let answer = victoria.ask("GET", &format!("/api/v1/query?time=1760001000&query={query}"), "");
        number(&answer, "/data/result/0/value/1")
    };
    assert!((ask("count_over_time(orders_value%5B1h%5D)") - 999.0).abs() < 0.1);
    let sum: u32 = (0..1000).filter(|n| *n != 500).sum();
    assert!((ask("sum_over_time(orders_value%5B1h%5D)") - f64::from(sum) - 999.0 / 2.0).abs() < 0.1);
    let (_, series) = victoria.ask("GET", "/api/v1/series?match%5B%5D=orders_value&start=1759990000", "");
    let series: Value = serde_json::from_str(&series).unwrap();
    assert_eq!(
        (&series["data"][0]["stream"], &series["data"][0]["partition"]),
        (&json!("a=b, c \\ \"d\""), &json!("1"))
    );
}

#[test]
fn influxdb_counts_the_points_that_were_sent_and_those_sent_again_are_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let influx = Program::start("apt-get install influxdb", "/ping", |port| {
        let path = |name: &str| folder.path().join(name).display().to_string();
        let text = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:0\"\n[meta]\ndir = '{}'\n[data]\ndir = '{}'\nwal-dir = '{}'\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\n",
            path("meta"),
            path("data"),
            path("wal")
        );
        fs::write(folder.path().join("influxdb.conf"), text).unwrap();
        let mut command = Command::new("influxd");
        command.args(["run", "-config"]).arg(folder.path().join("influxdb.conf"));
        command
    });
    let Some(influx) = influx else { return };
    assert_eq!(influx.ask("POST", "/query?q=CREATE%20DATABASE%20shop", "").0, 200);
    let payload = |n: u64| format!("a \"quoted\" \\ text, no {n}=\u{fc}");
    let batch = || {
        batch(Schema::Text, (0..MESSAGES).map(payload))
            .from_stream("a=b\\ c,\\d")
            .from_topic("new orders, all=1")
    };
    let url = format!("{}/write?db=shop&precision=ns", influx.origin());
    let sink = Sink::open(&json!({ "url": url, "preset": "influxdb" }));
    for _ in 0..2 {
        assert_eq!(sink.consume(&batch()), 0);
    }
    let ask = |query: &str, pointer: &str| {
        let from = "%20FROM%20%22new%20orders,%20all%3D1%22";
        let answer = influx.ask("GET", &format!("/query?db=shop&q=SELECT%20{query}{from}"), "");
        let value: Value = serde_json::from_str(&answer.1).unwrap();
        value
            .pointer(&format!("/results/0/series/0/values/0/{pointer}"))
            .cloned()
            .unwrap_or_else(|| panic!("{answer:?}"))
    };
    assert_eq!(ask("count(payload)", "1"), json!(MESSAGES));
    assert_eq!(ask("sum(%22offset%22)", "1"), json!(499_500));
    assert_eq!(ask("last(payload)", "1"), json!(payload(999)));
}
