//! Messages that cannot be delivered: kept durably with the reason, and replayed once.

mod elsewhere;
mod replay;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{
    dead_letter::{Folder, Record},
    replay::Replay,
};
use iggy_connector_sdk::{HeaderKey, HeaderValue, Schema, encode_headers};
use serde_json::{Value, json};

use crate::support::{
    again::again,
    config::with,
    endpoint::{Answer, Endpoint, Request, refused_url},
    plugin::{Batch, Sink, logged},
};

const MODES: [&str; 4] = ["individual", "nd_json", "json_array", "raw"];

/// A configuration that keeps dead letters in this folder.
fn config(url: &str, folder: &Path, more: Value) -> Value {
    crate::support::config::config(url, with(json!({ "dead_letter": { "path": folder } }), more))
}

fn records(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    Folder::open(folder)
        .unwrap()
        .for_each(|entry| {
            records.push(entry.record.unwrap());
            true
        })
        .unwrap();
    records
}

fn replay(folder: &Path, config: &Value) -> Replay {
    Folder::open(folder).unwrap().replay(config, |_| true, |_| std::ops::ControlFlow::Continue(())).unwrap()
}

/// How often each `n` of [`Batch::numbered`] stands in bodies that were taken.
fn taken(requests: &[Request], refused: impl Fn(&Request) -> bool) -> BTreeMap<u64, usize> {
    let mut taken = BTreeMap::new();
    for request in requests.iter().filter(|request| !refused(request)) {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        for part in text.split("{\"n\":").skip(1) {
            *taken.entry(part.split('}').next().unwrap().parse().unwrap()).or_default() += 1;
        }
    }
    taken
}

fn holds(request: &Request, n: u64) -> bool {
    let needle = format!("{{\"n\":{n}}}");
    request.body.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn one_poison_message_of_500_is_a_dead_letter_and_499_are_delivered() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let poison = |request: &Request| holds(request, 321);
        let endpoint = Endpoint::start(move |request| {
            if poison(request) { Answer::status(400).body("n must not be 321") } else { Answer::status(200) }
        });
        let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({ "batch_mode": mode })));
        assert_eq!(sink.consume(&Batch::numbered(500)), 0, "{mode}");
        let expected: BTreeMap<u64, usize> = (0..500).filter(|n| *n != 321).map(|n| (n, 1)).collect();
        assert_eq!(taken(&endpoint.requests(), poison), expected, "{mode}");
        let records = records(folder.path());
        assert_eq!(records.len(), 1, "{mode}");
        let record = &records[0];
        assert_eq!(
            (record.reason.as_str(), record.status, record.attempts),
            ("rejected", Some(400), 1),
            "{mode}"
        );
        assert_eq!(record.answer, "n must not be 321");
        assert_eq!((record.stream.as_str(), record.topic.as_str(), record.partition), ("stream", "topic", 1));
        assert_eq!((record.offset, record.id.as_str()), (321, "00000000000000000000000000000142"));
        assert_eq!(record.url, endpoint.origin());
        assert_eq!(record.payload.get(), "{\"n\":321}");
    }
}

#[test]
fn a_record_is_a_line_of_json_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_| Answer::status(404).body("no such index"));
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    let mut batch = Batch::of(Schema::Text, ["line\nbreak"]);
    let headers = BTreeMap::from([(HeaderKey::try_from("k").unwrap(), HeaderValue::from(7_u8))]);
    batch.messages[0].headers = encode_headers(&headers);
    assert_eq!(sink.consume(&batch), 0);
    let text = std::fs::read_to_string(folder.path().join("dead-letters-000001.ndjson")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1);
    let record: Value = serde_json::from_str(lines[0]).unwrap();
    for (key, expected) in [
        ("reason", json!("rejected")),
        ("status", json!(404)),
        ("answer", json!("no such index")),
        ("attempts", json!(1)),
        ("url", json!(endpoint.origin())),
        ("stream", json!("stream")),
        ("topic", json!("topic")),
        ("partition", json!(1)),
        ("offset", json!(0)),
        ("id", json!("00000000000000000000000000000001")),
        ("headers", json!({ "k": "7" })),
        ("schema", json!("text")),
        ("payload_encoding", json!("text")),
        ("payload", json!("line\nbreak")),
    ] {
        assert_eq!(record[key], expected, "{key}");
    }
    assert!(record["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn undecodable_and_oversize_messages_are_dead_letters_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(
        &endpoint.url(),
        folder.path(),
        json!({ "batch_mode": "nd_json", "max_payload_size_bytes": 50 }),
    ));
    let long = format!("{{\"n\":\"{}\"}}", "x".repeat(60));
    let payloads = [&b"{\"n\":0}"[..], b"{\"n\":", long.as_bytes(), b"\xff", b"{\"n\":4}"];
    assert_eq!(sink.consume(&Batch::of(Schema::Json, payloads)), 0);
    assert_eq!(taken(&endpoint.requests(), |_| false), BTreeMap::from([(0, 1), (4, 1)]));
    let records = records(folder.path());
    let reasons: BTreeMap<u64, &str> =
        records.iter().map(|record| (record.offset, record.reason.as_str())).collect();
    assert_eq!(reasons, BTreeMap::from([(1, "undecodable"), (2, "too_large"), (3, "undecodable")]));
    for record in &records {
        assert_eq!(record.payload_bytes().unwrap(), payloads[usize::try_from(record.offset).unwrap()]);
    }
}

#[test]
fn a_dead_endpoint_leaves_every_message_in_the_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::open(&config(
        &refused_url(),
        folder.path(),
        json!({ "max_retries": 1, "batch_mode": "nd_json" }),
    ));
    assert_eq!(sink.consume(&Batch::numbered(100)), 0);
    let records = records(folder.path());
    assert_eq!(records.len(), 100);
    assert!(records.iter().all(|record| record.reason == "retries_exhausted"
        && record.status.is_none()
        && record.attempts == 2));
    assert!(records[0].answer.to_lowercase().contains("refused"), "{}", records[0].answer);
}

#[test]
fn a_dead_endpoint_holds_a_batch_no_longer_than_the_deadline_while_the_breaker_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let more = json!({
        "max_retry_duration": "300ms",
        "circuit_breaker": { "failure_threshold": 5, "cool_down": "50ms" },
    });
    let sink = Sink::open(&config(&refused_url(), folder.path(), more));
    let began = Instant::now();
    assert_eq!(sink.consume(&Batch::numbered(200)), 0);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let records = records(folder.path());
    assert_eq!(records.len(), 200);
    let open = records.iter().filter(|record| record.reason == "circuit_open").count();
    assert!(open > 100, "{open} of 200 were not tried while the breaker was open");
}

#[test]
fn a_full_folder_makes_messages_fail_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::answering(404);
    let mut config = config(&endpoint.url(), folder.path(), json!({}));
    config["dead_letter"]["max_bytes"] = json!(700);
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("still-room")), 0);
    assert_eq!(sink.consume(&Batch::numbered(9).from_stream("no-room")), 1);
    assert_eq!(records(folder.path()).len(), 1);
    let errors = logged("stream no-room");
    assert!(
        errors.iter().any(|line| line.starts_with("ERROR 9 messages") && line.contains("offsets 0-8")),
        "{errors:?}"
    );
    assert!(
        logged("max_bytes is 700").iter().any(|line| line.starts_with("ERROR")),
        "{:?}",
        logged("max_bytes")
    );
}

#[test]
fn letters_that_cannot_be_written_make_messages_fail_and_lose_no_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::answering(404);
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    let in_the_way = folder.path().join("dead-letters-000001.ndjson");
    std::fs::create_dir(&in_the_way).unwrap();
    assert_eq!(sink.consume(&Batch::numbered(2).from_stream("unwritable")), 1);
    assert!(logged("stream unwritable").iter().any(|line| line.starts_with("ERROR 2 messages")));
    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(sink.consume(&Batch::numbered(3).from_stream("room-again")), 0);
    assert_eq!(records(folder.path()).len(), 3);
}

#[test]
fn marks_of_letters_that_are_gone_do_not_pass_for_marks_of_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let away = Arc::new(AtomicBool::new(true));
    let endpoint = Endpoint::start({
        let away = away.clone();
        move |_| Answer::status(if away.load(SeqCst) { 404 } else { 200 })
    });
    let config = config(&endpoint.url(), folder.path(), json!({}));
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    away.store(false, SeqCst);
    assert_eq!(replay(folder.path(), &config).delivered, 1);
    // By hand, and without the marks beside it.
    std::fs::remove_file(folder.path().join("dead-letters-000001.ndjson")).unwrap();
    away.store(true, SeqCst);
    assert_eq!(sink.consume(&Batch::numbered(1).from_offset(7)), 0);
    away.store(false, SeqCst);
    assert_eq!(replay(folder.path(), &config), Replay { delivered: 1, ..Replay::default() });
}

#[test]
fn a_failed_message_is_a_dead_letter_before_the_next_one_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let seen = Arc::new(AtomicUsize::new(0));
    let endpoint = Endpoint::start({
        let seen = seen.clone();
        move |request| {
            if holds(request, 0) {
                return Answer::status(404);
            }
            seen.store(records(&path).len(), SeqCst);
            Answer::status(200)
        }
    });
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    assert_eq!(seen.load(SeqCst), 1, "when the second arrived");
}

#[test]
fn a_folder_that_went_away_makes_messages_fail() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("letters");
    let endpoint = Endpoint::answering(404);
    let sink = Sink::open(&config(&endpoint.url(), &folder, json!({})));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("gone-folder")), 1);
    assert!(logged("stream gone-folder").iter().any(|line| line.starts_with("ERROR")));
}

#[test]
fn a_folder_that_cannot_be_used_fails_open() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(Sink::try_open(&config("http://localhost/", file.path(), json!({}))).unwrap_err(), 1);
    let folder = tempfile::tempdir().unwrap();
    let first = Sink::open(&config("http://localhost/", folder.path(), json!({})));
    assert_eq!(Sink::try_open(&config("http://localhost/", folder.path(), json!({}))).unwrap_err(), 1);
    assert!(logged(&folder.path().display().to_string()).iter().any(|line| line.contains("its own path")));
    drop(first);
    Sink::open(&config("http://localhost/", folder.path(), json!({})));
}

/// The child consumes, says so, and waits to be killed; what it said is then looked for.
#[cfg(unix)]
#[test]
fn dead_letters_survive_kill_9_right_after_consume_returned() {
    const FOLDER: &str = "DEAD_LETTERS_OF_THE_CHILD";
    let name = "dead_letters_survive_kill_9_right_after_consume_returned";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let sink = Sink::open(&config(&refused_url(), Path::new(&folder), json!({ "max_retries": 0 })));
        println!("\nconsumed {}", sink.consume(&Batch::numbered(50)));
        loop {
            std::thread::park();
        }
    }
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            again(module_path!(), name).env(FOLDER, folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find(|line| line.starts_with("consumed"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(said.as_deref(), Some("consumed 0"));
        let offsets: Vec<u64> = records(folder.path()).iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..50).collect::<Vec<_>>());
    }
}
