//! What the program shows: no secret, and nothing from outside that a terminal would act on.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use iggy_connector_http_sink::{config::Config, spool};
use serde_json::{Value, json};

use crate::shared::config_keys::{CANARY, ConfigKey, VARIABLE, all, hits, values};
use crate::support::{Finished, plugin, program, start};

/// A connector file with this `[plugin_config]`.
fn connector(path: &Path, plugin_config: &Value) {
    let file = json!({
        "type": "sink", "key": "test", "enabled": true, "version": 0, "name": "test", "path": plugin(),
        "streams": [{ "stream": "s", "topics": ["t"], "schema": "json", "batch_length": 10 }],
        "plugin_config": plugin_config,
    });
    fs::write(path, toml::to_string(&file).unwrap()).unwrap();
}

/// An endpoint that answers every request in this way, and the requests.
fn endpoint(status: &'static str, body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let kept = requests.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let mut request = vec![0; 65536];
            // Head and body are small, and come together or one after the other; the head is what counts.
            let length = stream.read(&mut request).unwrap_or_default();
            kept.lock().unwrap().push(String::from_utf8_lossy(&request[..length]).into_owned());
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
    (url, requests)
}

#[track_caller]
fn assert_hidden(what: &str, finished: &Finished) {
    let found = hits(&format!("{}\n{}", finished.stdout, finished.stderr));
    assert!(found.is_empty(), "{what}: {found:?}");
}

fn run(arguments: &[&str]) -> Finished {
    start(program(arguments).env(VARIABLE, CANARY).env("RUST_LOG", "trace")).finish()
}

#[test]
fn check_shows_no_secret_in_any_place() {
    let keys = all();
    let work: Vec<(&ConfigKey, Value)> = keys
        .iter()
        .flat_map(|key| values(key, "http://127.0.0.1:9/in").into_iter().map(move |value| (key, value)))
        // Neither TOML nor a variable can hold it.
        .filter(|(_, value)| !value.to_string().contains("\\u0000"))
        .collect();
    // Every one that is refused: of the others nothing is said.
    let half = work.len() / 2;
    thread::scope(|scope| {
        for (number, part) in [&work[..half], &work[half..]].into_iter().enumerate() {
            scope.spawn(move || {
                let folder = tempfile::tempdir().unwrap();
                for (key, value) in part {
                    let config = key.with(&json!({ "url": "http://127.0.0.1:9/in" }), value.clone());
                    if !key.can_be_secret || Config::from_json(&config).is_ok() {
                        continue;
                    }
                    let file = folder.path().join(format!("{number}.toml"));
                    connector(&file, &config);
                    let file = file.to_str().unwrap();
                    for arguments in [&["check", file][..], &["check", file, "--json"]] {
                        assert_hidden(&format!("{key:?}"), &run(arguments));
                    }
                }
            });
        }
    });
}

#[test]
fn a_secret_without_its_quotes_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    for line in [
        format!("headers = {{ Authorization = {CANARY} }}"),
        format!("headers = {{ Authorization = Bearer {CANARY} }}"),
        format!("headers = {{ Authorization = \"{CANARY} }}"),
        format!("headers = {{ Authorization: {CANARY} }}"),
        format!("headers.Authorization = '{CANARY}"),
        "headers.X-Pin = 739173917391739173739173917391739173".to_owned(),
        format!("headers = {CANARY}"),
        format!("url = http://user:{CANARY}@host/"),
    ] {
        connector(&file, &json!({ "timeout": "1s" }));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}\n{line}\n")).unwrap();
        let checked = run(&["check", file.to_str().unwrap()]);
        assert_ne!(checked.code, Some(0), "{line}");
        assert_hidden(&line, &checked);
        assert!(!checked.stdout.contains("739173917391739173"), "{}", checked.stdout);
    }
}

#[test]
fn overrides_show_no_secret_and_digits_arrive_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    connector(&file, &json!({ "url": "http://127.0.0.1:9/in" }));
    let broken = format!("{{\"Authorization\":\"{CANARY}\"");
    for (key, value) in [
        ("HEADERS", broken.as_str()),
        ("HEADERS", CANARY),
        ("DEAD_LETTER", CANARY),
        ("URL", CANARY),
        ("URL", "http:user:kanarienvogel-7391@h"),
        ("HEADERS_AUTHORIZATION", "${kanarienvogel-7391}"),
    ] {
        let name = format!("IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_{key}");
        let checked = start(program(&["check", file.to_str().unwrap()]).env(name, value)).finish();
        assert_ne!(checked.code, Some(0), "{key}={value}");
        assert_hidden(key, &checked);
    }
    let (url, requests) = endpoint("200 OK", "");
    connector(&file, &json!({ "url": url }));
    let input = folder.path().join("in.ndjson");
    fs::write(&input, "{\"n\":1}\n").unwrap();
    let arguments = ["run", file.to_str().unwrap(), "--input", input.to_str().unwrap()];
    let name = "IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_HEADERS_X_PIN";
    let ran = start(program(&arguments).env(name, "0123456")).finish();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(requests.lock().unwrap()[0].contains("x-pin: 0123456\r\n"), "{:?}", requests.lock().unwrap());
}

/// Stream, topic and answer want to write lines of their own, and to turn text around.
const HOSTILE: &str =
    "a\u{1b}[31m\u{202e}b\u{9b}2J\u{2028}c\u{7f}\u{2066}d\u{200b}\u{200d}e\u{2029}\nERROR forged";

/// Nothing that a terminal acts on.
#[track_caller]
fn assert_tame(what: &str, text: &str) {
    for hidden in HOSTILE.chars().filter(|c| !c.is_ascii_graphic() && !matches!(c, ' ' | '\n')) {
        assert!(!text.contains(hidden), "{what} shows {hidden:?}: {text:?}");
    }
    assert!(!text.lines().any(|line| line.starts_with("ERROR forged")), "{what}: {text}");
}

#[test]
fn text_from_outside_is_shown_tame_in_tables_logs_and_letters() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = endpoint("400 Bad Request", HOSTILE);
    let file = folder.path().join("c.toml");
    let letters = folder.path().join("letters");
    let config = json!({ "url": url, "dead_letter": { "path": letters } });
    connector(&file, &config);
    let text = fs::read_to_string(&file).unwrap();
    let hostile = toml::Value::from(HOSTILE).to_string();
    let text = text.replace("stream = \"s\"", &format!("stream = {hostile}"));
    fs::write(&file, text.replace("topics = [\"t\"]", &format!("topics = [{hostile}]"))).unwrap();
    let input = folder.path().join("in.ndjson");
    fs::write(&input, format!("{}\n", json!({ "said": HOSTILE }))).unwrap();
    let (file, letters) = (file.to_str().unwrap(), letters.to_str().unwrap());
    let input = input.to_str().unwrap();
    let spool = folder.path().join("spool");
    make_spool(&spool);
    for arguments in [
        &["run", file, "--input", input][..],
        &["dead-letters", letters, "list"],
        &["dead-letters", letters, "list", "--json"],
        &["dead-letters", letters, "show", "1:0"],
        &["dead-letters", letters, "replay", "--config", file],
        &["spool", spool.to_str().unwrap(), "status"],
        &["spool", spool.to_str().unwrap(), "status", "--json"],
    ] {
        let ran = run(arguments);
        let (stdout, stderr) = (&ran.stdout, &ran.stderr);
        assert!(ran.code.is_some_and(|code| code < 2), "{arguments:?}: {stdout}{stderr}");
        assert_tame(&format!("{arguments:?}"), &format!("{stdout}\n{stderr}"));
        // It is shown all the same; a replay gives numbers alone.
        let shows = arguments.contains(&"replay") || format!("{stdout}{stderr}").contains("202e");
        assert!(shows, "{arguments:?}: {stdout}{stderr}");
        if arguments.contains(&"--json") || arguments.contains(&"show") {
            let value: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
            assert!(value.to_string().contains('\u{202e}'), "the value is the same: {value}");
        }
    }
}

fn make_spool(path: &Path) {
    use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
    let options = spool::Options {
        path: path.to_owned(),
        max_bytes: 1 << 24,
        when_full: spool::WhenFull::Block,
        sync: spool::SyncMode::Batch,
        lanes: spool::LanesBy::Partition,
    };
    let (spool, _) = spool::Spool::open(&options).unwrap();
    let topic = TopicMetadata { stream: HOSTILE.to_owned(), topic: HOSTILE.to_owned() };
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
    let messages = [BorrowedMessage {
        id: 1,
        offset: 0,
        checksum: 0,
        timestamp: 0,
        origin_timestamp: 0,
        headers: b"",
        payload: b"{}",
    }];
    let runtime = iggy_connector_sdk::get_runtime();
    let accepted = spool.accept(&topic, &metadata, &messages, std::time::SystemTime::now());
    runtime.block_on(accepted).unwrap();
}
