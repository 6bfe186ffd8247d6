//! `run --input`: what becomes of each line, however a run ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![cfg(unix)]

#[allow(dead_code, missing_docs, unreachable_pub)]
#[path = "../../tests/support"]
mod recording {
    pub mod endpoint;
}
#[expect(dead_code, reason = "not every test file needs all of it")]
mod support;

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use recording::endpoint::{Answer, Endpoint};
use serde_json::{Value, json};

use support::{Finished, connector, plugin, program, start};

/// Far beyond what anything here takes.
const TOO_LONG: Duration = Duration::from_secs(60);

fn numbers(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect::<Vec<_>>().concat()
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|why| panic!("{why}: {finished:?}"))
}

/// `run` with the connector file in `folder`.
fn run(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = program(&["run", "--json", "--plugin"]);
    command.arg(plugin()).arg(folder.join("connector.toml")).args(arguments);
    command
}

/// A folder with a connector file for lines of JSON as they are, and `lines` as its input.
fn folder(url: &str, keys: &str, lines: &[u8]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    connector(folder.path(), url, &format!("batch_mode = \"nd_json\"\ninclude_metadata = false\n{keys}"));
    let input = folder.path().join("in put.ndjson");
    fs::write(&input, lines).unwrap();
    (folder, input.to_str().unwrap().to_owned())
}

/// The keys of the requests, by their bodies.
fn keys(endpoint: &Endpoint) -> Vec<(String, String)> {
    let requests = endpoint.requests();
    let body = |body: &[u8]| String::from_utf8_lossy(body).trim().to_owned();
    requests.iter().map(|r| (body(&r.body), r.header("idempotency-key").unwrap().to_owned())).collect()
}

/// Pseudo-random numbers of a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// How often each number of the input was taken by the endpoint.
fn taken(endpoint: &Endpoint) -> HashMap<u64, usize> {
    let mut taken = HashMap::new();
    for exchange in endpoint.exchanges().iter().filter(|exchange| exchange.is_success()) {
        for line in exchange.request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let value: Value = serde_json::from_slice(line).unwrap();
            *taken.entry(value["n"].as_u64().unwrap()).or_default() += 1;
        }
    }
    taken
}

/// Ends a run in a random way; returns what it said on stdout, if it said anything.
fn end_at_random(command: &mut Command, chance: &mut Chance) -> (Option<i32>, String) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let errors = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || std::io::read_to_string(errors).unwrap());
    // The result of a run whose stdout nobody reads is on stderr.
    let output = child.stdout.take().filter(|_| chance.below(4) > 0);
    let signal = |name: &str| {
        let kill = Command::new("kill")
            .args(["-s", name])
            .arg(child.id().to_string())
            .stderr(Stdio::null())
            .status();
        kill.unwrap();
    };
    sleep(Duration::from_millis(chance.below(400)));
    match chance.below(5) {
        0 => signal("INT"),
        1 => signal("TERM"),
        2 => signal("HUP"),
        _ => {
            // As GNU timeout does.
            signal("TERM");
            sleep(Duration::from_millis(chance.below(6)));
            signal("TERM");
        }
    }
    let said = output.map(|output| std::io::read_to_string(output).unwrap());
    let code = child.wait().unwrap().code();
    let errors = errors.join().unwrap();
    let on_stderr = || errors.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default().to_owned();
    let said = said.unwrap_or_else(on_stderr);
    // GNU timeout hides behind a code of its own that the run was ended before it had begun.
    let code = code.filter(|code| *code < 124 || !said.is_empty() || errors.contains("stopping: "));
    assert!(code.is_none() || !said.is_empty(), "the result is lost: {code:?} {errors}");
    (code, said)
}

/// A run that a signal ends at a random moment, then the command that it names, until all is done; how often it was ended.
fn ended_again_and_again(seed: u64) -> usize {
    const LINES: usize = 400;
    let mut chance = Chance(seed);
    let faults = 5 + chance.below(10);
    // One request in so many is refused for now, and is not sent again before the run is ended.
    let endpoint = Endpoint::start(move |request| {
        Answer::status(if request.index as u64 % faults == faults - 1 { 503 } else { 200 })
    });
    let order = ["", "concurrency = 4\nordering = \"none\"\n"][usize::from(seed % 2 == 1)];
    let wait = "max_retry_delay = \"1h\"\nmax_retry_duration = \"2h\"\nclose_timeout = \"20s\"\n";
    let mode = ["", "max_batch_messages = 3\n"][usize::from(seed / 2 % 2 == 1)];
    let (folder, input) = folder(&endpoint.url(), &format!("{order}{wait}{mode}"), numbers(LINES).as_bytes());
    let file = folder.path().join("connector.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("retry_delay = \"1ms\"", "retry_delay = \"1h\"")
            .replace("max_retries = 1", "max_retries = 5"),
    )
    .unwrap();

    let mut command = run(folder.path(), &["--input", &input]);
    let mut next = String::new();
    let mut ended = 0;
    for round in 0.. {
        assert!(round < 400, "it does not come to an end: {next}");
        let (code, said) = end_at_random(&mut command, &mut chance);
        if code.is_none() {
            // It was ended before it had begun.
            command = again(&command);
            continue;
        }
        let result: Value = serde_json::from_str(&said).unwrap_or_else(|why| panic!("{why}: {said}"));
        if result["complete"] == true {
            assert_eq!(result["failed"], 0, "{result}");
            break;
        }
        let resume = result["resume"].as_str();
        resume.unwrap_or_else(|| panic!("nothing to go on with: {result}")).clone_into(&mut next);
        ended += 1;
        command = Command::new("sh");
        // As it is typed, as GNU timeout runs it, or without a stdin.
        let how = ["exec NEXT", "exec timeout 0.2s NEXT", "exec NEXT <&-"];
        command.args(["-c", &how[usize::try_from(chance.below(3)).unwrap()].replace("NEXT", &next)]);
    }
    let taken = taken(&endpoint);
    let wrong: Vec<_> =
        (0..LINES as u64).filter(|n| taken.get(n) != Some(&1)).map(|n| (n, taken.get(&n))).collect();
    assert!(wrong.is_empty(), "seed {seed}: not taken once: {wrong:?}");
    ended
}

fn again(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args());
    again
}

#[test]
fn however_often_a_run_is_ended_no_line_is_lost_or_doubled() {
    let wanted = std::env::var("IGGY_HTTP_SINK_INTERRUPTIONS").map_or(80, |wanted| wanted.parse().unwrap());
    let (mut seed, mut ended) = (0, 0);
    while ended < wanted {
        seed += 1;
        ended += ended_again_and_again(seed);
    }
    println!("{ended} runs were ended, of {seed} inputs");
}

#[test]
fn an_endpoint_that_refuses_everybody_stops_the_run_at_once() {
    let endpoint = Endpoint::answering(401);
    let (folder, input) = folder(&endpoint.url(), "", numbers(3000).as_bytes());
    let finished = start(&mut run(folder.path(), &["--input", &input])).finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(endpoint.requests().len(), 1);
    let result = json(&finished);
    assert_eq!(
        (&result["delivered"], &result["failed"], &result["resume_at_line"]),
        (&json!(0), &json!(10), &json!(1))
    );
    assert!(result["messages_per_second"].as_f64().unwrap() < 1.0, "{result}");
    assert!(
        finished.stderr.contains("--start-line 1") && finished.stdout.contains("--keep-going"),
        "{finished:?}"
    );
    assert!(result["failed_lines"][0]["why"].as_str().unwrap().contains("401"), "{result}");

    let finished = start(&mut run(folder.path(), &["--input", &input, "--keep-going"])).finish();
    assert_eq!((finished.code, &json(&finished)["failed"]), (Some(1), &json!(3000)));
    assert_eq!(endpoint.requests().len(), 301);
    assert!(finished.stderr.contains("to send the failed lines again"), "{finished:?}");
}

#[test]
fn dead_letters_and_deliveries_are_told_apart() {
    let endpoint = Endpoint::start(|request| {
        let refused = request.body.windows(5).any(|text| text == b"\"n\":5");
        Answer::status(if refused { 422 } else { 200 })
    });
    let (folder, input) = folder(&endpoint.url(), "", numbers(20).as_bytes());
    let file = folder.path().join("connector.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("{text}\n[plugin_config.dead_letter]\npath = {}\n", json!(folder.path().join("letters"))),
    )
    .unwrap();
    let finished = start(&mut run(folder.path(), &["--input", &input])).finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let result = json(&finished);
    let counts =
        ["messages", "delivered", "dead_lettered", "failed"].map(|key| result[key].as_u64().unwrap());
    assert_eq!(counts, [20, 19, 1, 0]);
}

#[test]
fn a_result_that_nobody_reads_on_stdout_is_on_stderr() {
    let endpoint = Endpoint::answering(200);
    let (folder, input) = folder(&endpoint.url(), "", numbers(20).as_bytes());
    let mut command = run(folder.path(), &["--input", &input]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.contains("\"delivered\":20"), "{errors}");
}

#[test]
fn stdin_can_be_closed_and_a_hangup_be_ignored() {
    let endpoint = Endpoint::answering(200);
    let (folder, _) = folder(&endpoint.url(), "", b"");
    let with_shell = |script: &str| {
        let inner = run(folder.path(), &["--input", "-"]);
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command
    };
    let finished = start(&mut with_shell("exec \"$@\" <&-")).finish();
    assert_eq!((finished.code, &json(&finished)["messages"]), (Some(0), &json!(0)), "{finished:?}");

    let mut running = start(with_shell("trap '' HUP; exec \"$@\"").stdin(Stdio::piped()));
    running.write(numbers(10).as_bytes());
    endpoint.wait_for_requests(1, TOO_LONG);
    running.signal("HUP");
    running.write(numbers(10).as_bytes());
    endpoint.wait_for_requests(2, TOO_LONG);
    running.signal("INT");
    let finished = running.finish_with_open_input();
    assert_eq!((finished.code, &json(&finished)["delivered"]), (Some(1), &json!(20)), "{finished:?}");
}

#[test]
fn a_signal_before_the_connector_is_open_ends_with_a_result() {
    // The health check of open is never answered.
    let endpoint = Endpoint::start(|_| Answer::stall());
    let keys = "health_check_enabled = true\ntimeout = \"1h\"\n";
    let (folder, input) = folder(&endpoint.url(), keys, b"{}\n");
    let running = start(&mut run(folder.path(), &["--input", &input, "--start-line", "1"]));
    endpoint.wait_for_requests(1, TOO_LONG);
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!((finished.code, &json(&finished)["resume_at_line"]), (Some(1), &json!(1)), "{finished:?}");
}

#[test]
fn it_is_said_why_nothing_gets_through() {
    let endpoint = Endpoint::answering(503);
    let keys = "close_timeout = \"100ms\"\nmax_retry_duration = \"1h\"\nhold_status_codes = [503]\nretry_status_codes = [429]\n";
    let (folder, input) = folder(&endpoint.url(), keys, numbers(10).as_bytes());
    let running = start(&mut run(folder.path(), &["--input", &input]));
    running.wait_for_stderr("keeps failing: answered 503");
    running.signal("INT");
    let finished = running.finish();
    assert!(
        finished.stderr.contains(" since 20") && finished.stderr.contains("holds 10 messages"),
        "{finished:?}"
    );
}

#[test]
fn keys_of_a_file_follow_the_file_and_the_line() {
    let endpoint = Endpoint::answering(200);
    let (folder, input) =
        folder(&endpoint.url(), "max_batch_messages = 1\n", b"{\"a\":1}\n\n{\"a\":1}\n{\"b\":1}\n");
    let sent = |arguments: &[&str]| {
        let before = endpoint.requests().len();
        let finished = start(&mut run(folder.path(), arguments)).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        keys(&endpoint).split_off(before)
    };
    let whole = sent(&["--input", &input]);
    assert_eq!(whole.len(), 3);
    assert_ne!(whole[0].1, whole[1].1, "equal lines are two messages");
    assert_eq!(sent(&["--input", &input]), whole, "the same file again");
    assert_eq!(sent(&["--input", &input, "--start-line", "3"]), whole[1..]);
    assert_eq!(sent(&["--input", &input, "--lines", "1-2,4"]), [whole[0].clone(), whole[2].clone()]);
    assert_eq!(sent(&["--input", &input, "--limit", "1"]), whole[..1]);
    let moved = folder.path().join("moved").to_str().unwrap().to_owned();
    fs::rename(&input, &moved).unwrap();
    assert_eq!(sent(&["--input", &moved]), whole, "it is still the same file");
    fs::copy(&moved, &input).unwrap();
    let copied = sent(&["--input", &input]);
    assert!(copied.iter().zip(&whole).all(|(one, other)| one.1 != other.1), "another file: {copied:?}");
    let named = |file: &str| sent(&["--input", file, "--input-id", "orders of May"]);
    assert_eq!(named(&input), named(&moved));
}

#[test]
fn keys_of_stdin_follow_the_run() {
    let endpoint = Endpoint::answering(200);
    let (folder, _) = folder(&endpoint.url(), "", b"");
    let sent = |arguments: &[&str]| {
        let before = endpoint.requests().len();
        let mut running =
            start(run(folder.path(), &[&["--input", "-"], arguments].concat()).stdin(Stdio::piped()));
        running.write(b"{\"a\":1}\n");
        let finished = running.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let id = json(&finished)["input_id"].as_str().unwrap().to_owned();
        (keys(&endpoint).split_off(before), id)
    };
    let (first, id) = sent(&[]);
    assert_ne!(sent(&[]).0, first);
    assert_eq!(sent(&["--input-id", &id]).0, first, "as the command that goes on says");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn packed_and_marked_inputs_are_read() {
    let lines = numbers(25).into_bytes();
    for input in [gzip(&lines), zstd::encode_all(&*lines, 1).unwrap(), [b"\xef\xbb\xbf", &*lines].concat()] {
        let endpoint = Endpoint::answering(200);
        let (folder, file) = folder(&endpoint.url(), "", &input);
        let finished = start(&mut run(folder.path(), &["--input", &file])).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let sent: Vec<u8> = endpoint.requests().iter().flat_map(|request| request.body.clone()).collect();
        assert_eq!(sent, lines);
    }
}

#[test]
fn what_is_no_lines_gets_one_clear_error() {
    let utf16: Vec<u8> = "\u{feff}{\"n\":1}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let pretty = serde_json::to_vec_pretty(&json!([{ "n": 1 }, { "n": 2 }])).unwrap();
    let one = serde_json::to_vec_pretty(&json!({ "n": 1, "m": { "a": [1, 2] } })).unwrap();
    for (input, words) in [
        (utf16, ["UTF-16", "iconv"]),
        (pretty, ["several lines", "jq -c '.[]'"]),
        (one, ["several lines", "jq -c ."]),
        (b"PK\x03\x04xxxx\n".to_vec(), ["zip archive", "unzip"]),
    ] {
        let endpoint = Endpoint::answering(200);
        let (folder, file) = folder(&endpoint.url(), "", &input);
        let finished = start(&mut run(folder.path(), &["--input", &file])).finish();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(words.iter().all(|word| finished.stderr.contains(word)), "{finished:?}");
        assert!(!finished.stderr.contains("ERROR") && endpoint.requests().is_empty(), "{finished:?}");
    }
    // A line that is cut off is a message that cannot be read, and no reason to stop.
    let endpoint = Endpoint::answering(200);
    let (folder, file) = folder(&endpoint.url(), "", b"{\"n\":\n{\"n\":1}\n");
    let finished = start(&mut run(folder.path(), &["--input", &file])).finish();
    assert_eq!((finished.code, &json(&finished)["delivered"]), (Some(1), &json!(1)), "{finished:?}");
    assert!(finished.stderr.contains("--lines 1"), "{finished:?}");
}

#[test]
fn a_limit_tells_where_it_ended() {
    let endpoint = Endpoint::answering(200);
    let (folder, input) = folder(&endpoint.url(), "", numbers(30).as_bytes());
    let finished = start(&mut run(folder.path(), &["--input", &input, "--limit", "12"])).finish();
    let result = json(&finished);
    assert_eq!((finished.code, &result["delivered"]), (Some(0), &json!(12)), "{finished:?}");
    assert!(result["resume"].as_str().unwrap().ends_with("--start-line 13 --limit 12"), "{result}");
}
