//! With the real thing, where it is installed (on Debian the package `prometheus`): the rules are checked, and the metrics scraped.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    client::{address, get, shown},
    support::{
        endpoint::Endpoint,
        plugin::{Batch, Sink},
        spooled::wait_until,
    },
};

/// Whether a program is there; a line says so where it is not.
fn is_there(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn each_alert_fires_when_its_cause_is_there_and_stops_when_it_is_mended() {
    if is_there("promtool") {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status/alerts.yml");
        let tested = Command::new("promtool").args(["test", "rules"]).arg(rules).output().unwrap();
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    }
}

/// Killed when dropped.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_scrapes_two_connectors_from_one_address() {
    if !is_there("prometheus") {
        return;
    }
    let endpoint = Endpoint::answering(200);
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = shown(&endpoint.url(), json!({ "status": { "address": port().to_string() } }));
    let sinks = [Sink::open(&config), Sink::open(&config)];
    for (sink, messages) in sinks.iter().zip([3, 5]) {
        assert_eq!(sink.consume(&Batch::numbered(messages).from_stream("scraped \"\\ \n")), 0);
    }
    let (folder, listens) = (tempfile::tempdir().unwrap(), port());
    let target = address(&sinks[0]);
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: sink\n  static_configs: [{{ targets: [\"{target}\"] }}]\n"
    );
    let file = folder.path().join("prometheus.yml");
    fs::write(&file, scrape).unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={listens}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _prometheus = Prometheus(child.unwrap());
    let mut last = Value::Null;
    wait_until("a scrape", || {
        if std::net::TcpStream::connect(listens).is_err() {
            return false;
        }
        let query = "/api/v1/query?query=http_sink_messages_total%7Boutcome%3D%22delivered%22%7D";
        last = serde_json::from_str(&get(listens, query).body).unwrap_or_default();
        let samples = last["data"]["result"].as_array().cloned().unwrap_or_default();
        let mut values: Vec<String> =
            samples.iter().map(|sample| sample["value"][1].as_str().unwrap_or_default().to_owned()).collect();
        values.sort();
        values == ["3", "5"] && samples.iter().all(|sample| sample["metric"]["stream"] == "scraped \"\\ \n")
    });
}
