//! `spool PATH export`: what is waiting, as lines of JSON.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Endpoint, Finished, Running, connector, plugin, program, start};

/// A folder with a connector file and its spool.
struct Spooled {
    _folder: tempfile::TempDir,
    spool: PathBuf,
    file: PathBuf,
}

/// One whose endpoint is this, and which tries again after an hour.
fn spooled(endpoint: &Endpoint, keys: &str) -> Spooled {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let keys = format!(
        "include_metadata = false\nclose_timeout = \"1s\"\n{keys}\n[plugin_config.spool]\npath = {}\n",
        json!(spool)
    );
    let file = connector(folder.path(), &endpoint.url(), &keys);
    Spooled { _folder: folder, spool, file }
}

fn away() -> Endpoint {
    Endpoint::start(|_, _| "503 Service Unavailable")
}

fn numbers(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({ "n": n })).collect()
}

fn lines(values: &[Value]) -> String {
    values.iter().map(Value::to_string).collect::<Vec<_>>().join("\n") + "\n"
}

fn parsed(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of(messages: &[Value], field: &str) -> Vec<Value> {
    messages.iter().map(|message| message[field].clone()).collect()
}

fn export(spool: &Path, arguments: &[&str]) -> Finished {
    start(program(&["spool"]).arg(spool).arg("export").args(arguments)).finish()
}

impl Spooled {
    fn export(&self, arguments: &[&str]) -> Finished {
        export(&self.spool, arguments)
    }

    /// Stores these lines, and keeps the connector running.
    fn store(&self, text: &[u8], arguments: &[&str]) -> Running {
        let mut command = program(&["run", "--json", "--input", "-", "--plugin"]);
        for (key, value) in [("MAX_RETRIES", "1000000"), ("RETRY_DELAY", "1h"), ("MAX_RETRY_DELAY", "1h")] {
            command.env(format!("IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_{key}"), value);
        }
        command.env("IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_RETRY_JITTER", "none");
        command.arg(plugin()).arg(&self.file).args(arguments).stdin(Stdio::piped());
        let mut running = start(&mut command);
        running.write(text);
        running.close_input();
        running.wait_for_stderr("all is in the spool");
        running
    }

    /// Stores these lines and ends the connector.
    fn left_behind(&self, text: &[u8], arguments: &[&str]) {
        let running = self.store(text, arguments);
        running.signal("INT");
        let ended = running.finish();
        assert!(ended.stderr.contains("stay in the spool"), "{ended:?}");
    }
}

#[test]
fn what_waits_is_exported_as_it_was_sent_beside_the_connector_and_without_it() {
    let endpoint = away();
    let spooled = spooled(&endpoint, "batch_mode = \"nd_json\"\n");
    let running = spooled.store(lines(&numbers(25)).as_bytes(), &[]);
    let beside = spooled.export(&[]);
    assert_eq!((beside.code, &*beside.stderr), (Some(0), ""), "{beside:?}");
    let messages = parsed(&beside);
    assert_eq!(of(&messages, "payload"), numbers(25));
    assert_eq!(of(&messages, "offset"), (0..25).map(Value::from).collect::<Vec<_>>());
    let first = &messages[0];
    for (field, value) in [
        ("stream", json!("s")),
        ("topic", json!("t")),
        ("partition", json!(0)),
        ("schema", json!("json")),
        ("payload_encoding", json!("json")),
    ] {
        assert_eq!(first[field], value, "{first}");
    }
    assert_eq!(first["id"].as_str().map(str::len), Some(32), "{first}");
    assert!(first["timestamp"].is_u64() && first["origin_timestamp"].is_u64() && first["checksum"].is_u64());
    assert!(first["reason"].is_null() && first["attempts"].is_null(), "it failed at nothing: {first}");
    running.signal("INT");
    running.finish();
    assert_eq!(spooled.export(&["--json"]).stdout, beside.stdout);

    // Nothing was taken out: the next run delivers all of it.
    let there = Endpoint::start(|_, _| "200 OK");
    let mut command = program(&["run", "--input", "/dev/null", "--plugin"]);
    command.env("IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_URL", there.url());
    let delivered = start(command.arg(plugin()).arg(&spooled.file)).finish();
    assert_eq!(delivered.code, Some(0), "{delivered:?}");
    assert_eq!(there.bodies().concat(), lines(&numbers(25)));
    let empty = spooled.export(&[]);
    assert_eq!((empty.code, &*empty.stdout, &*empty.stderr), (Some(0), "", ""), "{empty:?}");
}

#[test]
fn what_is_settled_of_a_batch_is_left_out() {
    let refused = |body: &str| body.contains("3}") || body.contains("8}");
    let endpoint =
        Endpoint::start(move |_, body| if refused(body) { "503 Service Unavailable" } else { "200 OK" });
    let spooled = spooled(&endpoint, "batch_mode = \"individual\"\nordering = \"none\"\n");
    let running = spooled.store(lines(&numbers(20)).as_bytes(), &[]);
    let begun = Instant::now();
    let waiting = || parsed(&spooled.export(&[]));
    while waiting().len() > 4 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", waiting());
        sleep(Duration::from_millis(20));
    }
    let expected = [3, 8, 13, 18].map(|n| json!({ "n": n }));
    assert_eq!(of(&waiting(), "payload"), expected);
    running.signal("INT");
    running.finish();
    assert_eq!(of(&waiting(), "payload"), expected);
}

#[test]
fn what_is_not_delivered_when_an_export_ends_is_in_it() {
    const COUNT: usize = 300;
    let number = |line: &str| line[5..].split(',').next().unwrap().parse::<usize>().unwrap();
    let endpoint = Endpoint::start(|_, _| {
        sleep(Duration::from_millis(5));
        "200 OK"
    });
    let spooled = spooled(&endpoint, "batch_mode = \"individual\"\nordering = \"none\"\nconcurrency = 8\n");
    // Many segments, which are deleted one after the other.
    let text = fs::read_to_string(&spooled.file).unwrap().replace("batch_length = 10", "batch_length = 1");
    let small = "[plugin_config.spool]\nmax_bytes = \"64 MiB\"\n";
    fs::write(&spooled.file, text.replace("[plugin_config.spool]\n", small)).unwrap();
    let padding = "x".repeat(100_000);
    let lines: String =
        (0..COUNT).map(|n| json!({ "n": n, "padding": padding }).to_string() + "\n").collect();
    let running = spooled.store(lines.as_bytes(), &[]);
    let mut before = COUNT + 1;
    while before > 0 {
        let exported = spooled.export(&["--payloads"]);
        let delivered: HashSet<usize> = endpoint.bodies().iter().map(|body| number(body)).collect();
        assert_eq!((exported.code, &*exported.stderr), (Some(0), ""));
        let found: Vec<usize> = exported.stdout.lines().map(number).collect();
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        let missing = (0..COUNT).find(|n| !delivered.contains(n) && !found.contains(n));
        assert_eq!(missing, None, "{found:?}");
        assert!(found.len() <= before);
        before = found.len();
    }
    let ended = running.finish();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn what_cannot_be_read_at_all_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let of_a_later_release = [&b"IGGYSPL\n\x07\0\0\0"[..], &[0x0b, 0x5b, 0x7a, 0xdc]].concat();
    fs::write(folder.path().join("000000000001.log"), of_a_later_release).unwrap();
    let later = export(folder.path(), &[]);
    assert_eq!((later.code, &*later.stdout), (Some(1), ""), "{later:?}");
    assert!(later.stderr.contains("format version 7"), "{later:?}");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for wrong in [file, folder.path().join("none")] {
        let absent = export(&wrong, &[]);
        assert_eq!((absent.code, &*absent.stdout), (Some(1), ""), "{absent:?}");
        assert!(
            absent.stderr.contains(&format!("the spool {} cannot be read", wrong.display())),
            "{absent:?}"
        );
    }
}

#[test]
fn messages_are_selected() {
    let endpoint = away();
    let spooled = spooled(&endpoint, "");
    spooled.left_behind(lines(&numbers(12)).as_bytes(), &[]);
    let text = fs::read_to_string(&spooled.file).unwrap();
    fs::write(&spooled.file, text.replace("topics = [\"t\"]", "topics = [\"u\"]")).unwrap();
    spooled.left_behind(lines(&numbers(3)).as_bytes(), &[]);
    let count = |arguments: &[&str]| {
        let exported = spooled.export(arguments);
        assert_eq!(exported.code, Some(0), "{exported:?}");
        parsed(&exported).len()
    };
    assert_eq!(count(&[]), 15);
    assert_eq!(count(&["--topic", "t"]), 12);
    assert_eq!(count(&["--topic", "u", "--stream", "s", "--since", "1h"]), 3);
    assert_eq!(count(&["--topic", "u", "--limit", "2"]), 2);
    assert_eq!(of(&parsed(&spooled.export(&["--limit", "2"])), "offset"), [0, 1].map(Value::from));
    for nothing in [["--topic", "x"], ["--stream", "t"], ["--since", "2999-01-01T00:00:00Z"]] {
        let exported = spooled.export(&nothing);
        assert_eq!((exported.code, &*exported.stdout), (Some(0), ""), "{exported:?}");
        assert!(exported.stderr.contains("none of the 15 messages"), "{exported:?}");
    }
    for wrong in [["--limit", "0"], ["--since", "soon"]] {
        assert_eq!(spooled.export(&wrong).code, Some(2));
    }
    let mixed = spooled.export(&["--payloads"]);
    assert!(mixed.code == Some(0) && mixed.stderr.contains("--topic"), "{mixed:?}");
}

#[test]
fn exported_payloads_are_what_run_reads() {
    let endpoint = away();
    let spooled = spooled(&endpoint, "batch_mode = \"nd_json\"\n");
    let text = "{\"n\": 1.0E+2, \"a\":\"\\ud800\"}\n{\"n\":\"\u{9b}31m\"}\n[1,\t2]\n";
    spooled.left_behind(text.as_bytes(), &[]);
    let exported = spooled.export(&["--payloads"]);
    assert_eq!((exported.code, &*exported.stdout, &*exported.stderr), (Some(0), text, ""));
    let there = Endpoint::start(|_, _| "200 OK");
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), &there.url(), "batch_mode = \"nd_json\"\ninclude_metadata = false\n");
    let mut command = program(&["run", "--input", "-", "--plugin"]);
    let mut running = start(command.arg(plugin()).arg(file).stdin(Stdio::piped()));
    running.write(exported.stdout.as_bytes());
    let sent = running.finish();
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert_eq!(there.bodies().concat(), text);
}

#[test]
fn payloads_that_are_no_lines_are_left_out_and_named() {
    let endpoint = away();
    let spooled = spooled(&endpoint, "");
    spooled.left_behind(b"\xff\xfe\nplain\n\xfd\n", &["--format", "raw"]);
    let messages = parsed(&spooled.export(&[]));
    assert_eq!(of(&messages, "payload"), ["//4=", "plain", "/Q=="].map(Value::from));
    assert_eq!(of(&messages, "payload_encoding"), ["base64", "text", "base64"].map(Value::from));
    let lines = spooled.export(&["--payloads"]);
    assert_eq!((lines.code, &*lines.stdout), (Some(1), "plain\n"), "{lines:?}");
    for word in ["s/t/0@0 is no line of text", "without --payloads", "2 messages are left out"] {
        assert!(lines.stderr.contains(word), "{word}: {lines:?}");
    }
}

#[test]
fn damage_is_noted_and_the_rest_is_exported() {
    let endpoint = away();
    let spooled = spooled(&endpoint, "");
    spooled.left_behind(lines(&numbers(25)).as_bytes(), &[]);
    let segment = spooled.spool.join("000000000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(8).position(|window| window == b"{\"n\":12}").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let exported = spooled.export(&[]);
    assert_eq!(exported.code, Some(1), "{exported:?}");
    assert!(exported.stderr.contains("are damaged (record "), "{exported:?}");
    let left: Vec<Value> = numbers(25).into_iter().filter(|m| m["n"].as_u64().unwrap() / 10 != 1).collect();
    assert_eq!(of(&parsed(&exported), "payload"), left);
    assert_eq!(fs::read(&segment).unwrap(), bytes, "an export changes nothing");
}

#[test]
fn nobody_has_to_read_all_of_it() {
    let endpoint = away();
    let spooled = spooled(&endpoint, "");
    spooled.left_behind(lines(&numbers(25)).as_bytes(), &[]);
    let mut command = program(&["spool"]);
    command.arg(&spooled.spool).arg("export").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]), "{ended:?}");
}

#[test]
fn spools_of_earlier_releases_are_exported() {
    // Topic, partition and number of what is not settled: each payload says where it belongs.
    let first = [("orders", 1, 1), ("orders", 1, 3), ("orders", 2, 0), ("orders", 2, 1), ("orders", 2, 2)];
    let first =
        [&first[..], &[("orders", 1, 4), ("orders", 1, 5), ("clicks", 7, 10), ("clicks", 7, 11)]].concat();
    let second: Vec<_> = (4..10).map(|n| ("orders", 0, n)).collect();
    for (fixture, expected) in [("spool-v1", first), ("spool-v2", second)] {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(fixture);
        let segment = "000000000001.log";
        fs::copy(fixture.join(segment), folder.path().join(segment)).unwrap();
        let exported = export(folder.path(), &[]);
        assert_eq!((exported.code, &*exported.stderr), (Some(0), ""), "{exported:?}");
        let messages = parsed(&exported);
        let payload = |(topic, partition, n)| json!({ "topic": topic, "partition": partition, "n": n });
        assert_eq!(of(&messages, "payload"), expected.into_iter().map(payload).collect::<Vec<_>>());
        for message in messages {
            let of_payload = &message["payload"];
            let said = (&of_payload["topic"], &of_payload["partition"], &of_payload["n"]);
            assert_eq!((&message["topic"], &message["partition"], &message["offset"]), said);
        }
    }
}
