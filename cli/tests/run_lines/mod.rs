//! `run --input`: what becomes of each line, however a run ends.

mod ended;
mod inputs;
mod shown;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::shared::endpoint::{Answer, Endpoint};
use serde_json::{Value, json};

use crate::support::{Finished, connector, plugin, program, start};

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
fn a_limit_tells_where_it_ended() {
    let endpoint = Endpoint::answering(200);
    let (folder, input) = folder(&endpoint.url(), "", numbers(30).as_bytes());
    let finished = start(&mut run(folder.path(), &["--input", &input, "--limit", "12"])).finish();
    let result = json(&finished);
    assert_eq!((finished.code, &result["delivered"]), (Some(0), &json!(12)), "{finished:?}");
    assert!(result["resume"].as_str().unwrap().ends_with("--start-line 13 --limit 12"), "{result}");
}
