//! A process of its own that opens a sink and streams to it, and can be killed at any moment.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use iggy_connector_sdk::{HeaderKey, HeaderValue, RawMessage, Schema, TopicMetadata, encode_headers};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    again::{again, again_after},
    plugin::{Batch, Sink, logged},
    random::Random,
};

const JOB: &str = "IGGY_HTTP_SINK_TEST_JOB";
/// The test that does it.
const WORK: &str = "works";

/// What a worker does once its sink is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// That of the sink.
    pub config: Value,
    /// Topics, each streamed by a thread, with the offsets that they begin at.
    pub topics: BTreeMap<String, u64>,
    /// Where each of them ends.
    pub end: u64,
    /// The least and the most messages of a batch.
    pub batch: (u64, u64),
    /// From the start of one batch of a topic to that of the next, if consume is no slower.
    pub pace: Duration,
    /// A payload is `{"t":topic,"n":offset,"f":"…"}` with this many bytes of filling.
    pub filling: usize,
    /// How many keys the messages of a topic have, in a header `key`: their offsets modulo that. 0: no header.
    pub keys: u64,
    pub seed: u64,
}

/// Messages of a topic, everything about which follows from their offsets.
pub fn batch(topic: &str, offsets: std::ops::Range<u64>, filling: usize, keys: u64) -> Batch {
    let filling = "x".repeat(filling);
    let message = |offset: u64| RawMessage {
        id: u128::from(offset) + 1,
        offset,
        checksum: offset * 7,
        timestamp: 1_760_000_000_000_000 + offset,
        origin_timestamp: 1_759_999_999_000_000 + offset,
        headers: key_header(offset, keys),
        payload: format!("{{\"t\":\"{topic}\",\"n\":{offset},\"f\":\"{filling}\"}}").into_bytes(),
    };
    let topic = TopicMetadata { stream: "stream".to_owned(), topic: topic.to_owned() };
    Batch { topic, partition_id: 1, schema: Schema::Json, messages: offsets.map(message).collect() }
}

fn key_header(offset: u64, keys: u64) -> Vec<u8> {
    let Some(key) = offset.checked_rem(keys) else { return Vec::new() };
    let name = HeaderKey::try_from("key").expect("a name");
    encode_headers(&BTreeMap::from([(name, HeaderValue::from(key))]))
}

#[test]
#[ignore = "run by tests, in a process of its own"]
fn works() {
    work_if_asked();
}

/// Does the job and ends this process, if a [`Worker`] started it.
fn work_if_asked() {
    let Some(job) = env::var_os(JOB) else { return };
    let job: Job = serde_json::from_slice(job.as_encoded_bytes()).expect("a job");
    // A parent that goes away, however it does, closes this.
    let asked_to_close = thread::spawn(|| {
        let mut line = String::new();
        if io::stdin().read_line(&mut line).unwrap_or_default() == 0 {
            std::process::exit(1);
        }
    });
    let sink = Sink::open(&job.config);
    // Behind what the test harness wrote.
    say("\nopen");
    thread::scope(|scope| {
        for (topic, first) in &job.topics {
            let (job, sink) = (&job, &sink);
            scope.spawn(move || stream(job, sink, topic, *first));
        }
    });
    say("streamed");
    asked_to_close.join().expect("standard input can be read");
    let closed = sink.close();
    for line in logged("") {
        if line.starts_with("WARN") || line.starts_with("ERROR") {
            say(&format!("log {line}"));
        }
    }
    say(&format!("closed {closed}"));
    std::process::exit(closed);
}

fn stream(job: &Job, sink: &Sink, topic: &str, first: u64) {
    let mut random = Random(job.seed ^ u64::from(topic.as_bytes()[0]) << 32);
    let mut next = first;
    let mut due = Instant::now();
    while next < job.end {
        let end = job.end.min(next + random.between(job.batch.0, job.batch.1));
        let code = sink.consume(&batch(topic, next..end, job.filling, job.keys));
        if code != 0 {
            say(&format!("refused {topic} {next}: {code}: {:?}", logged("ERROR")));
            return;
        }
        next = end;
        say(&format!("next {topic} {next}"));
        due += job.pace;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    // A parent that is gone ends this process anyway.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Looks again and again.
///
/// # Panics
/// It is not so in time.
#[track_caller]
pub fn wait_until(timeout: Duration, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < timeout, "it did not come to that in {timeout:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A running worker; killed when dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    next: Arc<Mutex<BTreeMap<String, u64>>>,
    events: mpsc::Receiver<String>,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Worker {
    /// # Panics
    /// The system has no process to give.
    pub fn start(job: &Job) -> Self {
        Self::run(again(module_path!(), WORK), job)
    }

    /// The same with at most this many file descriptors.
    ///
    /// # Panics
    /// The system has no process to give.
    pub fn start_with_descriptors(descriptors: u32, job: &Job) -> Self {
        Self::run(again_after(&format!("ulimit -n {descriptors}"), module_path!(), WORK), job)
    }

    fn run(mut command: Command, job: &Job) -> Self {
        let mut child = command
            .env(JOB, serde_json::to_string(job).expect("a job is JSON"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (stdin, stdout) = (stdin.expect("it is piped"), stdout.expect("it is piped"));
        let next = Arc::new(Mutex::new(job.topics.clone()));
        let (told, events) = mpsc::channel();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let reader = thread::spawn({
            let (next, log) = (next.clone(), log.clone());
            move || {
                for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    let words: Vec<&str> = line.split(' ').collect();
                    if let ["next", topic, offset] = words[..] {
                        let offset = offset.parse().expect("an offset");
                        lock(&next).insert(topic.to_owned(), offset);
                    } else if let Some(line) = line.strip_prefix("log ") {
                        log.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
                    } else if ["open", "streamed", "closed", "refused"].contains(&words[0]) {
                        // Nobody may be left who wants to know.
                        let _ = told.send(line);
                    }
                }
            }
        });
        Self { child, stdin, next, events, log, reader: Some(reader) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The offsets before which everything was acknowledged.
    pub fn next(&self) -> BTreeMap<String, u64> {
        lock(&self.next).clone()
    }

    /// Waits until the worker says this.
    ///
    /// # Panics
    /// It says something else, or nothing in time.
    #[track_caller]
    pub fn expect(&self, line: &str, timeout: Duration) {
        let said = self.events.recv_timeout(timeout);
        assert_eq!(said.as_deref(), Ok(line), "waited for {timeout:?}");
    }

    /// Kills it, wherever it is. Returns the offsets before which everything was acknowledged.
    ///
    /// # Panics
    /// A message was refused.
    pub fn kill(mut self) -> BTreeMap<String, u64> {
        self.end();
        let refused: Vec<String> =
            self.events.try_iter().filter(|event| event.starts_with("refused")).collect();
        assert!(refused.is_empty(), "{refused:?}");
        self.next()
    }

    /// Asks it to close its sink, and waits until it has ended. Returns what it logged as warnings and errors.
    ///
    /// # Panics
    /// The close fails or takes too long.
    #[track_caller]
    pub fn close(mut self, timeout: Duration) -> Vec<String> {
        writeln!(self.stdin, "close").expect("it listens");
        self.expect("closed 0", timeout);
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            assert!(reader.join().is_ok() || thread::panicking(), "the worker wrote nonsense");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
