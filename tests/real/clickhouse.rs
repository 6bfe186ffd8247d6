//! The engine of `ClickHouse`, which takes the same body once by its deduplication token.

use std::{path::Path, thread, time::Duration};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use super::program::{Program, python};
use crate::support::{
    plugin::{Batch, Sink, failures},
    random::Random,
    spooled::held,
    worker::{Job, Worker, wait_until},
};

const ROWS: u64 = 100_000;
const TOPICS: [&str; 4] = ["a", "b", "c", "d"];
const KILLS: u64 = 10;

/// A server with an empty table that keeps deduplication tokens.
fn start(folder: &Path, more: &[&str]) -> Option<Program> {
    let clickhouse = Program::start("pip install chdb", "/?query=SELECT%201", |port| {
        let mut command = python("clickhouse.py");
        command.arg(port.to_string()).arg(folder.join("engine")).args(more);
        command
    })?;
    let table = "CREATE TABLE orders (t String, n UInt64) ENGINE = MergeTree ORDER BY (t, n) \
                 SETTINGS non_replicated_deduplication_window = 10000";
    for statement in ["CREATE DATABASE shop", &table.replace("orders", "shop.orders")] {
        let (status, words) = clickhouse.ask("POST", "/", statement);
        assert_eq!(status, 200, "{words}");
    }
    Some(clickhouse)
}

fn count(clickhouse: &Program, what: &str) -> u64 {
    let (status, answer) = clickhouse.ask("POST", "/", &format!("SELECT {what} FROM shop.orders"));
    assert_eq!(status, 200, "{answer}");
    answer.trim().parse().unwrap()
}

fn config(clickhouse: &Program, folder: &Path) -> Value {
    let url = format!(
        "{}/?query=INSERT INTO shop.orders FORMAT JSONEachRow&input_format_skip_unknown_fields=1",
        clickhouse.origin()
    );
    json!({
        "url": url,
        "preset": "clickhouse",
        "retry_delay": "5ms",
        "max_retry_delay": "50ms",
        "spool": { "path": folder.join("spool") },
        "dead_letter": { "path": folder.join("dead-letters") },
    })
}

#[test]
fn each_row_is_there_once_though_the_process_is_killed_ten_times_and_answers_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clickhouse) = start(folder.path(), &["loses"]) else { return };
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let seed = std::env::var("IGGY_HTTP_SINK_SEED")
        .map_or(u64::try_from(clock % u128::from(u64::MAX)).unwrap(), |seed| seed.parse().unwrap());
    println!("IGGY_HTTP_SINK_SEED={seed}");
    let mut random = Random(seed);
    let end = ROWS / TOPICS.len() as u64;
    let mut job = Job {
        config: config(&clickhouse, folder.path()),
        topics: TOPICS.map(|topic| (topic.to_owned(), 0)).into(),
        end,
        batch: (1, 500),
        // All of it is accepted in about three seconds.
        pace: Duration::from_millis(30),
        filling: 20,
        keys: 0,
        seed: 0,
    };
    for _ in 0..KILLS {
        job.seed = random.between(0, u64::MAX - 1);
        let worker = Worker::start(&job);
        thread::sleep(Duration::from_millis(random.between(50, 500)));
        for (topic, next) in worker.kill() {
            job.topics.insert(topic, next);
        }
    }
    let before = count(&clickhouse, "count()");
    assert!(before > 0, "the kills were in the midst of it");
    let worker = Worker::start(&job);
    worker.expect("open", Duration::from_secs(20));
    worker.expect("streamed", Duration::from_mins(1));
    wait_until(Duration::from_mins(1), || held(folder.path()) == 0);
    worker.close(Duration::from_secs(20));
    assert_eq!((count(&clickhouse, "count()"), count(&clickhouse, "uniqExact(t, n)")), (ROWS, ROWS));
    println!("{before} rows were there at the last kill");
}

#[test]
fn without_deduplication_rows_whose_answers_are_lost_are_there_twice() {
    // So that the test above shows something.
    let folder = tempfile::tempdir().unwrap();
    let Some(clickhouse) = start(folder.path(), &["loses"]) else { return };
    let mut config = config(&clickhouse, folder.path());
    config.as_object_mut().unwrap().remove("spool");
    config["url"] = (config["url"].as_str().unwrap().to_owned() + "&deduplicate_insert=disable").into();
    config["max_batch_messages"] = 10.into();
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&Batch::numbered(100)), 0);
    assert!(count(&clickhouse, "count()") > 100);
}

#[test]
fn equal_rows_of_different_messages_are_all_there_as_tokens_go_by_message() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clickhouse) = start(folder.path(), &["loses"]) else { return };
    let mut config = config(&clickhouse, folder.path());
    config.as_object_mut().unwrap().remove("spool");
    config["max_batch_messages"] = 10.into();
    let rows = |config: &Value| {
        let before = count(&clickhouse, "count()");
        let equal = Batch::of(Schema::Json, (0..100).map(|_| "{\"n\":7}".to_owned()));
        assert_eq!(Sink::open(config).consume(&equal), 0);
        count(&clickhouse, "count()") - before
    };
    assert_eq!(rows(&config), 100);
    // Without a token the engine compares blocks of rows, and takes one block of ten.
    config["url"] = (config["url"].as_str().unwrap().to_owned() + "&insert_deduplication_token=").into();
    assert_eq!(rows(&config), 10);
}

#[test]
fn a_row_that_the_engine_cannot_read_is_a_letter_with_its_words_and_the_others_are_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clickhouse) = start(folder.path(), &[]) else { return };
    let mut config = config(&clickhouse, folder.path());
    for key in ["spool", "dead_letter"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let payload = |n: u64| match n {
        17 | 300 => format!("{{\"n\":\"no number {n}\"}}"),
        n => format!("{{\"n\":{n}}}"),
    };
    let sink = Sink::open(&config);
    let batch = Batch::of(Schema::Json, (0..500).map(payload)).from_stream("cannot be read by ClickHouse");
    assert_eq!(sink.consume(&batch), 1);
    let failed = failures("cannot be read by ClickHouse").reasons;
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&17, &300]);
    assert!(failed.values().all(|words| words.contains("Cannot parse input")), "{failed:?}");
    assert_eq!((count(&clickhouse, "count()"), count(&clickhouse, "uniqExact(n)")), (498, 498));
}
