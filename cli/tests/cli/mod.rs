//! The program as a user calls it, with the plugin that was built beside it.

mod interrupts;
mod kept;

use std::{
    fs,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};

use crate::support::{Endpoint, Finished, connector, plugin, program, start};

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|why| panic!("{why}: {finished:?}"))
}

/// Runs the connector file in `folder` with `text` as its input.
fn run(folder: &Path, text: &[u8]) -> Finished {
    run_with(folder, text, &[])
}

fn run_with(folder: &Path, text: &[u8], options: &[&str]) -> Finished {
    let input = folder.join("input.ndjson");
    fs::write(&input, text).unwrap();
    let mut command = program(&["run", "--json", "--plugin"]);
    command.arg(plugin()).arg("--input").arg(input).arg(folder.join("connector.toml")).args(options);
    start(command.stdin(Stdio::null())).finish()
}

fn numbers(count: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect::<Vec<_>>().concat()
}

#[test]
fn the_demo_delivers_in_every_mode() {
    for (mode, messages, requests) in
        [("nd_json", 10_000, 10), ("json_array", 10_500, 11), ("individual", 300, 300), ("raw", 300, 300)]
    {
        let messages_text = messages.to_string();
        let mut command =
            program(&["demo", "--json", "--mode", mode, "--messages", &messages_text, "--plugin"]);
        let finished = start(command.arg(plugin())).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let result = json(&finished);
        assert_eq!(result["mode"], mode);
        assert_eq!(result["messages"], messages);
        assert_eq!(result["requests"], requests);
        assert!(result["exactly_once"] == true && result["byte_for_byte"] == true, "{result}");
    }
}

#[test]
fn the_demo_shows_a_table() {
    let finished = start(program(&["demo", "--messages", "2000", "--plugin"]).arg(plugin())).finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for word in ["messages", "2,000", "each order exactly once", "byte for byte", "yes", "a debug build"] {
        assert!(finished.stdout.contains(word), "{finished:?}");
    }
    assert!(finished.stderr.contains("INFO iggy_connector_http_sink"), "{finished:?}");
}

#[test]
fn ten_mistakes_are_ten_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    fs::write(
        &file,
        r#"type = "source"
key = "bad"
enabled = "yes"
versoin = 0
version = 1
name = "x"
path = ""

[[streams]]
stream = "s"
topics = []
schema = "jsno"
batch_length = 0

[plugin_config]
url = "ftp://example.com"
timeout = "soon"
batch_moed = "raw"

[plugin_config.headers]
"X Bad" = "1"
"#,
    )
    .unwrap();
    let finished = start(program(&["check"]).arg(&file)).finish();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let expected = [
        (1, "type"),
        (3, "enabled"),
        (4, "versoin"),
        (7, "path"),
        (11, "streams[0].topics"),
        (12, "streams[0].schema"),
        (13, "streams[0].batch_length"),
        (16, "plugin_config.url"),
        (17, "plugin_config.timeout"),
        (18, "plugin_config.batch_moed"),
        (21, "plugin_config.headers.X…"),
    ];
    let told: Vec<&str> = finished.stdout.split("\n\n").collect();
    assert_eq!(told.len(), expected.len() + 1, "{finished:?}");
    for (told, (line, path)) in told.iter().zip(expected) {
        assert!(told.starts_with(&format!("error: {path}: ")), "{told} is not about {path}");
        assert!(told.contains(&format!("--> {}:{line}", file.display())), "{told} is not at {line}");
    }
    assert!(told[11].contains("11 problems"), "{finished:?}");

    let finished = start(program(&["check", "--json"]).arg(&file)).finish();
    assert_eq!(finished.code, Some(2));
    let result = json(&finished);
    assert_eq!(result["valid"], false);
    assert_eq!(result["problems"].as_array().map(Vec::len), Some(expected.len()));
    assert_eq!(result["problems"][2]["line"], 4);
}

#[test]
fn a_valid_file_is_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), "http://localhost:1/", "");
    let finished = start(program(&["check"]).arg(&file)).finish();
    assert_eq!((finished.code, finished.stdout.trim()), (Some(0), &*format!("{}: valid", file.display())));

    let variable = "IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_TIMEOUT";
    let finished = start(program(&["check"]).arg(&file).env(variable, "never")).finish();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stdout.contains("plugin_config.timeout: ") && finished.stdout.contains(variable));

    let disabled = "IGGY_CONNECTORS_SINK_TEST_ENABLED";
    let finished = start(program(&["check"]).arg(&file).env(disabled, "false")).finish();
    assert!(finished.code == Some(0) && finished.stdout.contains("not enabled"), "{finished:?}");

    fs::write(&file, "type = \"sink\"\nkey =\n").unwrap();
    let finished = start(program(&["check"]).arg(&file)).finish();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stdout.contains(&format!("{}:2:", file.display())), "{finished:?}");
}

#[test]
fn a_file_is_sent_line_by_line() {
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let folder = tempfile::tempdir().unwrap();
    connector(folder.path(), &endpoint.url(), "batch_mode = \"nd_json\"\ninclude_metadata = false\n");
    let finished = run(folder.path(), format!("\r\n{}\n{{\"last\":1.0}}", numbers(25)).as_bytes());
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let result = json(&finished);
    assert_eq!((&result["messages"], &result["batches"]), (&26.into(), &3.into()));
    assert_eq!((&result["empty_lines"], &result["complete"]), (&2.into(), &true.into()));
    assert_eq!(endpoint.bodies().concat(), format!("{}{{\"last\":1.0}}\n", numbers(25)));
}

#[test]
fn stdin_is_sent_with_the_variables_of_the_runtime() {
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), "http://127.0.0.1:1/", "");
    let mut command = program(&["run", "--json", "--input", "-", "--plugin"]);
    command.arg(plugin()).arg(file).stdin(Stdio::piped());
    command.env("IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_URL", endpoint.url());
    command.env("IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_BATCH_MODE", "json_array");
    let mut running = start(&mut command);
    running.write(numbers(3).as_bytes());
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let body: Value = serde_json::from_str(&endpoint.bodies().concat()).unwrap();
    assert_eq!(body[2]["payload"]["n"], 2);
    let metadata = &body[2]["metadata"];
    assert_eq!((&metadata["iggy_stream"], &metadata["iggy_topic"]), (&"s".into(), &"t".into()));
    assert_eq!((&metadata["iggy_offset"], &metadata["iggy_partition_id"]), (&2.into(), &0.into()));
}

#[test]
fn lines_are_read_in_the_format_asked_for() {
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let folder = tempfile::tempdir().unwrap();
    let keys = "batch_mode = \"json_array\"\ninclude_metadata = false\n";
    let file = connector(folder.path(), &endpoint.url(), keys);
    let input = folder.path().join("input");
    fs::write(&input, "two \"words\"\r\n").unwrap();
    let run = |format: &[&str]| {
        let mut command = program(&["run", "--plugin"]);
        command.arg(plugin()).arg(&file).arg("--input").arg(&input).args(format);
        start(&mut command).finish()
    };
    for format in ["text", "raw"] {
        let finished = run(&["--format", format]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    let raw = r#"[{"data":"dHdvICJ3b3JkcyIN","iggy_payload_encoding":"base64"}]"#;
    assert_eq!(endpoint.bodies(), [r#"["two \"words\""]"#, raw]);
    // By the connector file it is JSON.
    assert_eq!(run(&[]).code, Some(1));

    let avro = fs::read_to_string(&file).unwrap().replace("schema = \"json\"", "schema = \"avro\"");
    fs::write(&file, avro).unwrap();
    let finished = run(&[]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("--format"), "{finished:?}");
}

#[test]
fn what_fails_is_named() {
    // The second batch is refused, and so is what the sink makes of it.
    let endpoint =
        Endpoint::start(|_, body| if body.contains("{\"n\":1") { "403 Forbidden" } else { "200 OK" });
    let folder = tempfile::tempdir().unwrap();
    connector(folder.path(), &endpoint.url(), "batch_mode = \"nd_json\"\ninclude_metadata = false\n");
    let text = numbers(30).replace("{\"n\":1}\n", "{\"m\":1}\n");
    let finished = run_with(folder.path(), text.as_bytes(), &["--keep-going"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let result = json(&finished);
    assert_eq!((&result["batches"], &result["failed_batches"]), (&3.into(), &1.into()));
    let counts = (&result["delivered"], &result["failed"], &result["messages_per_second"]);
    assert_eq!((counts.0, counts.1), (&20.into(), &10.into()), "{result}");
    assert!(counts.2.as_f64().unwrap() * result["seconds"].as_f64().unwrap() < 20.5, "{result}");
    let failed = &result["failed_lines"][0];
    assert_eq!((&failed["first_line"], &failed["last_line"]), (&11.into(), &20.into()));
    assert_eq!(failed["reason"], "rejected");
    assert!(finished.stderr.contains("ERROR iggy_connector_http_sink"), "{finished:?}");
}

#[test]
fn an_endpoint_that_is_down_fails_everything() {
    let endpoint = Endpoint::start(|_, _| "503 Service Unavailable");
    let folder = tempfile::tempdir().unwrap();
    connector(folder.path(), &endpoint.url(), "batch_mode = \"nd_json\"\n");
    let finished = run_with(folder.path(), numbers(20).as_bytes(), &["--keep-going"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let result = json(&finished);
    let failed = &result["failed_lines"];
    assert_eq!(failed.as_array().map(Vec::len), Some(1), "{result}");
    assert_eq!((&failed[0]["first_line"], &failed[0]["last_line"]), (&1.into(), &20.into()));
    assert_eq!(
        (&result["delivered"], &result["failed"], &result["retries"]),
        (&0.into(), &20.into(), &2.into())
    );
}

#[test]
fn options_of_one_input_are_mistakes_with_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), "http://localhost:1/", "");
    for options in [
        &["--format", "json"][..],
        &["--input", "-", "--server", "localhost"],
        &["--input", "-", "--replay-from", "0"],
        &["--replay-from", "yesterday"],
        &["--server", "http://localhost:8090"],
    ] {
        let finished = start(program(&["run"]).arg(&file).args(options)).finish();
        assert_eq!(finished.code, Some(2), "{options:?}: {finished:?}");
        assert!(finished.stderr.contains("error: "), "{options:?}: {finished:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_server_that_is_away_is_waited_for_until_a_signal_comes() {
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), "http://localhost:1/", "");
    // Privileged, and nobody's.
    let address = "127.0.0.1:1";
    let mut command = program(&["run", "--json", "--server", address, "--plugin"]);
    let running = start(command.arg(plugin()).arg(file));
    running.wait_for_stderr("trying again");
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(json(&finished)["stopped"], true, "{finished:?}");
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), "http://localhost:1/", "");
    let finished = start(program(&["run", "--input", "no/such/input"]).arg(&file)).finish();
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("no/such/input"), "{finished:?}");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(plugin().to_str().unwrap(), "no_such_plugin")).unwrap();
    let finished = start(program(&["run", "--input", "-"]).arg(&file).stdin(Stdio::null())).finish();
    assert_eq!(finished.code, Some(3));
    assert!(finished.stderr.contains("no_such_plugin"), "{finished:?}");
    let finished = start(&mut program(&["check", "no/such/file"])).finish();
    assert!(finished.code == Some(2) && finished.stdout.contains("no/such/file"), "{finished:?}");
}

#[test]
fn every_help_has_an_example() {
    let export = &["spool", "PATH", "export"][..];
    for command in [&["demo"], &["run"], &["check"], &["schema"], &["completions"], &["man"], export] {
        let finished = start(program(command).arg("--help")).finish();
        assert!(finished.code == Some(0) && finished.stdout.contains("Example"), "{finished:?}");
    }
}

#[test]
fn a_proxy_in_the_environment_is_not_asked_for_loopback() {
    let refused = "http://127.0.0.1:9";
    let mut command = program(&["demo", "--messages", "1000", "--plugin"]);
    command.arg(plugin()).env("HTTP_PROXY", refused).env("http_proxy", refused).env("ALL_PROXY", refused);
    let finished = start(command.env_remove("NO_PROXY").env_remove("no_proxy")).finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}
