//! What takes the requests: `WireMock` where there is one, else the scripted endpoint.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{free_port, http, json, wait_for};
use crate::shared::endpoint::Endpoint;

/// Says yes to every request, and remembers it.
#[derive(Debug)]
pub enum Receiver {
    Scripted(Endpoint),
    WireMock { child: Child, port: u16, _folder: TempDir },
}

/// A request as a receiver remembers it.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub path: String,
    /// With names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Receiver {
    pub fn start() -> Self {
        match std::env::var_os("WIREMOCK_JAR") {
            Some(jar) => Self::wire_mock(jar.into()),
            None => Self::Scripted(Endpoint::answering(200)),
        }
    }

    fn wire_mock(jar: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mappings = folder.path().join("mappings");
        fs::create_dir(&mappings).expect("the folder can be written");
        let mapping = r#"{"request":{"method":"ANY","urlPattern":"/.*"},"response":{"status":200}}"#;
        fs::write(mappings.join("all.json"), mapping).expect("the folder can be written");
        let port = free_port();
        let log = File::create(folder.path().join("wiremock.log")).expect("the folder can be written");
        let child = Command::new("java")
            .arg("-jar")
            .arg(jar)
            .args(["--port", &port.to_string(), "--bind-address", "127.0.0.1", "--root-dir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("WIREMOCK_JAR can be run with java");
        let receiver = Self::WireMock { child, port, _folder: folder };
        wait_for("WireMock", || http("GET", port, "/__admin/mappings"));
        receiver
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        let port = match self {
            Self::Scripted(endpoint) => endpoint.port(),
            Self::WireMock { port, .. } => *port,
        };
        format!("http://127.0.0.1:{port}{path}")
    }

    /// What came to a path, in order.
    pub fn received(&self, path: &str) -> Vec<Received> {
        let mut all = match self {
            Self::Scripted(endpoint) => scripted(endpoint),
            Self::WireMock { port, .. } => wire_mock(*port),
        };
        all.retain(|received| received.path == path);
        all
    }

    /// The same, once there are so many.
    #[track_caller]
    pub fn wait(&self, path: &str, count: usize) -> Vec<Received> {
        wait_for(&format!("{count} requests to {path}"), || {
            Some(self.received(path)).filter(|received| received.len() >= count)
        })
    }
}

fn scripted(endpoint: &Endpoint) -> Vec<Received> {
    let requests = endpoint.requests().into_iter();
    requests
        .map(|request| Received {
            method: request.method,
            path: request.path,
            headers: request.headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect(),
            body: String::from_utf8(request.body).expect("text"),
        })
        .collect()
}

fn wire_mock(port: u16) -> Vec<Received> {
    let journal = json(port, "/__admin/requests").expect("WireMock answers");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut requests: Vec<&Value> =
        journal["requests"].as_array().expect("a list").iter().map(|entry| &entry["request"]).collect();
    // The newest comes first.
    requests.reverse();
    requests.sort_by_key(|request| request["loggedDate"].as_u64());
    requests
        .into_iter()
        .map(|request| Received {
            method: text(&request["method"]),
            path: text(&request["url"]),
            headers: request["headers"]
                .as_object()
                .map(|headers| {
                    headers.iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect()
                })
                .unwrap_or_default(),
            body: text(&request["body"]),
        })
        .collect()
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Self::WireMock { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
