//! Plugins, a socket that says what their sinks do, and the log they write.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use iggy_connector_sdk::host::Plugin;
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use serde_json::Value;

/// Far beyond what anything here takes; reached only by a hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(50);

static ORIGINAL: LazyLock<Plugin> = LazyLock::new(|| Plugin::load(&example("original_style_sink")).unwrap());
static BORROWING: LazyLock<Plugin> = LazyLock::new(|| Plugin::load(&example("borrowing_sink")).unwrap());

pub(crate) fn original() -> &'static Plugin {
    &ORIGINAL
}

pub(crate) fn borrowing() -> &'static Plugin {
    &BORROWING
}

/// The library of an example, without extension; cargo builds the examples with the tests, into the folder beside.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(format!("lib{name}"))
}

/// All tests share the plugins, so each takes ids of its own.
pub(crate) fn new_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The other end of the sinks' control socket.
pub(crate) struct Control {
    folder: tempfile::TempDir,
    calls: Mutex<Receiver<Call>>,
}

/// A call of a sink that waits for its answer.
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) facts: Value,
    stream: UnixStream,
}

impl Control {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("control")).unwrap();
        let (sender, calls) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let question: Value = serde_json::from_str(&line).unwrap();
                let call = Call {
                    id: question["id"].as_u64().unwrap(),
                    name: question["call"].as_str().unwrap().to_owned(),
                    facts: question["facts"].clone(),
                    stream,
                };
                if sender.send(call).is_err() {
                    return;
                }
            }
        });
        Self { folder, calls: Mutex::new(calls) }
    }

    /// A config that has the sink ask here, with more keys in the form `"key": value`.
    pub(crate) fn config(&self, more: &[&str]) -> String {
        let control = format!("\"control\": \"{}/control\"", self.folder.path().display());
        let keys: Vec<_> = std::iter::once(control.as_str()).chain(more.iter().copied()).collect();
        format!("{{{}}}", keys.join(", "))
    }

    /// The next call, which has to be this one.
    pub(crate) fn expect(&self, name: &str) -> Call {
        let call = self.calls.lock().unwrap().recv_timeout(LIMIT).unwrap();
        assert_eq!(call.name, name);
        call
    }

    pub(crate) fn none_waiting(&self) -> bool {
        self.calls.lock().unwrap().try_recv().is_err()
    }
}

impl Call {
    pub(crate) fn answer(mut self, answer: &str) -> Value {
        writeln!(self.stream, "{answer}").unwrap();
        self.facts
    }
}

/// Opens a sink that asks `control`, and lets its open through.
pub(crate) fn open_controlled(control: &Control) -> u32 {
    let id = new_id();
    thread::scope(|scope| {
        let open = scope.spawn(|| original().open(id, &control.config(&[]), log));
        control.expect("open").answer("ok");
        assert_eq!(open.join().unwrap(), 0);
    });
    id
}

pub(crate) fn topic() -> TopicMetadata {
    TopicMetadata { stream: "orders".into(), topic: "created".into() }
}

pub(crate) fn metadata(schema: Schema) -> MessagesMetadata {
    MessagesMetadata { partition_id: 3, current_offset: 300, schema }
}

pub(crate) fn message(offset: u64, payload: &[u8]) -> BorrowedMessage<'_> {
    BorrowedMessage {
        id: u128::from(offset) << 64,
        offset,
        checksum: 1,
        timestamp: 1_760_000_000_000_000,
        origin_timestamp: 1_760_000_000_000_000,
        headers: &[],
        payload,
    }
}

/// Hands over one text message.
pub(crate) fn consume_text(plugin: &Plugin, id: u32, text: &str) -> i32 {
    plugin.consume(id, &topic(), &metadata(Schema::Text), &[message(7, text.as_bytes())])
}

/// Spins until the id is free, and holds it then: the moment in which a close has begun.
pub(crate) fn reopen_when_free(plugin: &Plugin, id: u32, config: &str) {
    let start = Instant::now();
    while plugin.open(id, config, log) != 0 {
        assert!(start.elapsed() < LIMIT, "id {id} never became free");
        thread::yield_now();
    }
}

static LOG: Mutex<Vec<(u8, String, String)>> = Mutex::new(Vec::new());

#[allow(unsafe_code)]
pub(crate) extern "C" fn log(
    level: u8,
    target: *const u8,
    target_len: usize,
    message: *const u8,
    message_len: usize,
) {
    assert!(!target.is_null() && !message.is_null());
    // SAFETY: the plugin passes pointers with their lengths, never null.
    let (target, message) = unsafe {
        (std::slice::from_raw_parts(target, target_len), std::slice::from_raw_parts(message, message_len))
    };
    let text = |bytes| std::str::from_utf8(bytes).unwrap().to_owned();
    LOG.lock().unwrap().push((level, text(target), text(message)));
}

/// The lines of this level (0 TRACE to 4 ERROR) that have all these parts.
pub(crate) fn logged(level: u8, parts: &[&str]) -> Vec<String> {
    LOG.lock()
        .unwrap()
        .iter()
        .filter(|line| line.0 == level && parts.iter().all(|part| line.2.contains(part)))
        .map(|line| line.2.clone())
        .collect()
}

/// How the container's lines about an id begin.
pub(crate) fn sink(id: u32) -> String {
    format!("Sink connector with ID: {id}: ")
}
