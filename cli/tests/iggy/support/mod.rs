//! A real server, the real runtime and real receivers for tests, and what is asked of them.
//!
//! `IGGY_SERVER` and `IGGY_CONNECTORS` name the executables; where one that a test needs is missing, the test says so
//! and passes. `WIREMOCK_JAR` names the receiver to use instead of the scripted endpoint where there is a choice.
#![allow(missing_docs, unreachable_pub)]

pub mod admin;
pub mod flow;
pub mod receiver;
pub mod runtime;
pub mod server;

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// Far beyond what anything here takes.
pub const TOO_LONG: Duration = Duration::from_secs(60);

/// The executable that this variable names; else says that the test is skipped.
pub fn executable(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    path
}

/// An executable of Iggy with none of the variables that are meant for tests: it takes exception to them.
pub fn command(executable: &Path) -> Command {
    let mut command = Command::new(executable);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("IGGY_") {
            command.env_remove(name);
        }
    }
    command
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Waits until there is something.
///
/// # Panics
/// There is nothing in time.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < TOO_LONG, "waited in vain for {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Sends a request without a body; the status and the body of the answer. `None` where nobody answers.
pub fn http(method: &str, port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(TOO_LONG)).ok()?;
    // Of this version an answer has no chunks.
    write!(stream, "{method} {path} HTTP/1.0\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
}

/// The same for JSON.
pub fn json(port: u16, path: &str) -> Option<serde_json::Value> {
    serde_json::from_str(&http("GET", port, path)?.1).ok()
}

/// A connector file in the making.
#[derive(Debug, Clone)]
pub struct Connector {
    pub key: String,
    pub stream: String,
    pub topics: Vec<String>,
    pub schema: &'static str,
    pub batch_length: usize,
    pub url: String,
    pub plugin: PathBuf,
    /// Lines of `[plugin_config]`.
    pub keys: String,
}

impl Connector {
    /// One for one topic, `t` of the stream `key`.
    pub fn new(key: &str, url: &str, plugin: &Path) -> Self {
        Self {
            key: key.to_owned(),
            stream: key.to_owned(),
            topics: vec!["t".to_owned()],
            schema: "json",
            batch_length: 100,
            url: url.to_owned(),
            plugin: plugin.to_owned(),
            keys: String::new(),
        }
    }

    /// With this line of `[plugin_config]` too.
    pub fn with(mut self, line: &str) -> Self {
        self.keys.push_str(line);
        self.keys.push('\n');
        self
    }

    /// Writes it as `KEY.toml`.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let mut text = String::new();
        let Self { key, stream, topics, schema, batch_length, url, plugin, keys } = self;
        write!(
            text,
            "type = \"sink\"\nkey = \"{key}\"\nenabled = true\nversion = 0\nname = \"{key}\"\npath = \"{}\"\n\n\
             [[streams]]\nstream = \"{stream}\"\ntopics = {topics:?}\nschema = \"{schema}\"\n\
             batch_length = {batch_length}\npoll_interval = \"5ms\"\n\n\
             [plugin_config]\nurl = \"{url}\"\nretry_delay = \"10ms\"\n{keys}",
            plugin.display()
        )
        .expect("text grows");
        let path = folder.join(format!("{key}.toml"));
        fs::write(&path, text).expect("the folder can be written");
        path
    }
}
