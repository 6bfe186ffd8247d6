//! With the real thing, where it is installed (on Debian the package `prometheus`): the rules are checked, and the metrics scraped.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::client::{address, shown};
use crate::support::{
    endpoint::Endpoint,
    plugin::{Batch, Sink},
    spooled::wait_until,
};

/// Whether a program is there; a line says so where it is not.
pub(crate) fn is_there(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

#[test]
fn the_rules_do_what_their_tests_say() {
    if is_there("promtool") {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status/alerts.yml");
        let tested = Command::new("promtool").args(["test", "rules"]).arg(rules).output().unwrap();
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    }
}

/// One that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Returns once it answers. Its configuration and what it keeps are in `folder`.
    pub(crate) fn start(folder: &Path, config: &str) -> Self {
        let address = free_address();
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let prometheus = Self { child: child.unwrap(), address };
        wait_until("Prometheus", || TcpStream::connect(address).is_ok());
        prometheus
    }

    /// What its API answers; null where it does not yet.
    pub(crate) fn ask(&self, path: &str) -> Value {
        let mut answer = String::new();
        // An answer of this version is not in chunks.
        let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
        let asked = TcpStream::connect(self.address).and_then(|mut stream| {
            stream.write_all(request.as_bytes())?;
            stream.read_to_string(&mut answer)
        });
        let body = asked.ok().and_then(|_| answer.split_once("\r\n\r\n"));
        body.and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_two_connectors_from_one_address() {
    if !is_there("prometheus") {
        return;
    }
    let endpoint = Endpoint::answering(200);
    let config = shown(&endpoint.url(), json!({ "status": { "address": free_address().to_string() } }));
    let sinks = [Sink::open(&config), Sink::open(&config)];
    for (sink, messages) in sinks.iter().zip([3, 5]) {
        assert_eq!(sink.consume(&Batch::numbered(messages).from_stream("scraped \"\\ \n")), 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let target = address(&sinks[0]);
    let prometheus = Prometheus::start(
        folder.path(),
        &format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n- job_name: sink\n  static_configs: [{{ targets: [\"{target}\"] }}]\n"
        ),
    );
    let mut last = Value::Null;
    wait_until("a scrape", || {
        let query = "/api/v1/query?query=http_sink_messages_total%7Boutcome%3D%22delivered%22%7D";
        last = prometheus.ask(query);
        let samples = last["data"]["result"].as_array().cloned().unwrap_or_default();
        let mut values: Vec<String> =
            samples.iter().map(|sample| sample["value"][1].as_str().unwrap_or_default().to_owned()).collect();
        values.sort();
        values == ["3", "5"] && samples.iter().all(|sample| sample["metric"]["stream"] == "scraped \"\\ \n")
    });
}
