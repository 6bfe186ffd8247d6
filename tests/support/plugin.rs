//! The built plugin, driven over its C ABI as the runtime drives it.
#![allow(unsafe_code)] // the log callback takes pointers

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use iggy_connector_sdk::{
    BorrowedMessage, MessagesMetadata, RawMessage, Schema, TopicMetadata, host::Plugin,
};
use serde_json::Value;

/// Everything that the plugin logged in this process, from all its sinks, as `LEVEL message`.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

extern "C" fn log(level: u8, _target: *const u8, _target_len: usize, message: *const u8, len: usize) {
    // SAFETY: the plugin passes a message of this length that lives during the call.
    let message = unsafe { std::slice::from_raw_parts(message, len) };
    let level = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].get(usize::from(level)).copied().unwrap_or("?");
    let line = format!("{level} {}", String::from_utf8_lossy(message));
    LOG.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

thread_local! {
    /// Where in the log the test of this thread began.
    static BEGAN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Has [`logged`] leave out, in this thread, what was logged before the first such call: an earlier test may have had an endpoint on
/// the same port.
pub fn log_begins() {
    if BEGAN.get().is_none() {
        BEGAN.set(Some(LOG.lock().unwrap_or_else(PoisonError::into_inner).len()));
    }
}

/// The lines of the log that hold `words`. Tests run side by side, so the words must be a test's own.
pub fn logged(words: &str) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log[BEGAN.get().unwrap_or(0)..].iter().filter(|line| line.contains(words)).cloned().collect()
}

/// The messages of a stream that were named as failed.
#[derive(Debug, Default)]
pub struct Failures {
    /// All of them.
    pub count: usize,
    /// Those whose offsets are listed, with the reason, the status and the words behind it.
    pub reasons: BTreeMap<u64, String>,
}

/// What the log says about failed messages of a stream, which must be a test's own.
///
/// # Panics
/// A message is named twice.
pub fn failures(stream: &str) -> Failures {
    let mut failures = Failures::default();
    let of_stream = format!("stream {stream}, topic ");
    for line in logged(&of_stream) {
        let Some((_, rest)) = line.strip_prefix("ERROR ").and_then(|line| line.split_once(" of stream "))
        else {
            continue;
        };
        let (places, rest) = rest.split_once(" failed").expect("it says what became of them");
        let (_, reason) = rest.split_once(": ").expect("a failure names its reason");
        for place in format!("stream {places}").split("; ").filter(|place| place.starts_with(&of_stream)) {
            let (_, offsets) = place.split_once(", offsets ").expect("a failure names its offsets");
            for range in offsets.split(", ") {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let [first, last] = [first, last].map(|offset| offset.parse::<u64>().expect("a number"));
                for offset in first..=last {
                    failures.count += 1;
                    let before = failures.reasons.insert(offset, reason.to_owned());
                    assert_eq!(before, None, "offset {offset} of {stream} failed twice");
                }
            }
        }
    }
    failures
}

/// The plugin that was built together with this test.
pub fn plugin() -> &'static Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows where it lies");
        let name = format!(
            "{}iggy_connector_http_sink{}",
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        );
        let path: PathBuf = test.with_file_name(name);
        Plugin::load(&path).unwrap_or_else(|why| panic!("the plugin was built beside this test: {why}"))
    })
}

/// An open sink; closed when dropped.
#[derive(Debug)]
pub struct Sink {
    pub id: u32,
    closed: bool,
}

impl Sink {
    /// # Panics
    /// The sink does not open.
    pub fn open(config: &Value) -> Self {
        Self::try_open(config).unwrap_or_else(|code| panic!("open returned {code} for {config}"))
    }

    /// # Errors
    /// What open returned.
    pub fn try_open(config: &Value) -> Result<Self, i32> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        log_begins();
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        match plugin().open(id, &config.to_string(), log) {
            0 => Ok(Self { id, closed: false }),
            code => Err(code),
        }
    }

    pub fn consume(&self, batch: &Batch) -> i32 {
        let messages: Vec<BorrowedMessage<'_>> = batch.messages.iter().map(RawMessage::borrowed).collect();
        let metadata = MessagesMetadata {
            partition_id: batch.partition_id,
            current_offset: messages.last().map_or(0, |message| message.offset),
            schema: batch.schema,
        };
        plugin().consume(self.id, &batch.topic, &metadata, &messages)
    }

    /// What close returned.
    pub fn close(mut self) -> i32 {
        self.closed = true;
        plugin().close(self.id)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if !self.closed {
            plugin().close(self.id);
        }
    }
}

/// What one consume call carries.
#[derive(Debug)]
pub struct Batch {
    pub topic: TopicMetadata,
    pub partition_id: u32,
    pub schema: Schema,
    pub messages: Vec<RawMessage>,
}

#[allow(clippy::wrong_self_convention)] // `from` says where the messages come from
impl Batch {
    /// Messages with these payloads, at offsets from 0 of stream `stream`, topic `topic`, partition 1.
    pub fn of<P: Into<Vec<u8>>>(schema: Schema, payloads: impl IntoIterator<Item = P>) -> Self {
        let messages = (0..)
            .zip(payloads)
            .map(|(offset, payload)| RawMessage {
                id: u128::from(offset) + 1,
                offset,
                checksum: offset * 7,
                timestamp: 1_760_000_000_000_000 + offset,
                origin_timestamp: 1_759_999_999_000_000 + offset,
                headers: Vec::new(),
                payload: payload.into(),
            })
            .collect();
        let topic = TopicMetadata { stream: "stream".to_owned(), topic: "topic".to_owned() };
        Self { topic, partition_id: 1, schema, messages }
    }

    /// JSON messages `{"n":0}`, `{"n":1}` and so on.
    pub fn numbered(count: u64) -> Self {
        Self::of(Schema::Json, (0..count).map(|n| format!("{{\"n\":{n}}}")))
    }

    pub fn from_stream(mut self, stream: &str) -> Self {
        stream.clone_into(&mut self.topic.stream);
        self
    }

    pub fn from_topic(mut self, topic: &str) -> Self {
        topic.clone_into(&mut self.topic.topic);
        self
    }

    pub fn from_offset(mut self, first: u64) -> Self {
        for (offset, message) in (first..).zip(&mut self.messages) {
            message.offset = offset;
        }
        self
    }
}
