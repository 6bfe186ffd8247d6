//! `check` on wrong files: each mistake is told once, with its place, and none that is not there.

mod cases;
mod machine;
mod schema;

use std::{
    env::consts::DLL_SUFFIX,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Finished, program, start};
use cases::CASES;

/// A file without mistakes, with keys of every kind. A folder has to hold the plugin that it names: [`folder`] does.
const GOOD: &str = r#"type = "sink"
key = "http"
enabled = true
version = 0
name = "HTTP sink"
path = "plugin"

[[streams]]
stream = "orders"
topics = ["created", "paid"]
schema = "json"
batch_length = 1000
poll_interval = "5ms"
consumer_group = "http_sink"

[plugin_config]
url = "http://localhost:8080/{topic}"
method = "POST"
batch_mode = "nd_json"
timeout = "30s"
max_retries = 3
max_payload_size_bytes = "10 MiB"
success_status_codes = [200, 204]
concurrency = 1
ordering = "key"
ordering_key = "{payload:/customer}"
compression = "gzip"
include_metadata = true

[plugin_config.headers]
X-Topic = "{topic} of {stream}"

[plugin_config.auth]
type = "bearer"
token = "hunter2"

[plugin_config.dead_letter]
path = "letters"
max_bytes = "1 GiB"

[plugin_config.circuit_breaker]
cool_down = "30s"
"#;

/// A folder with what stands for a plugin: it is not loaded.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(format!("plugin{DLL_SUFFIX}")), "").unwrap();
    folder
}

fn check(file: &Path, options: &[&str]) -> Finished {
    start(program(&["check"]).args(options).arg(file)).finish()
}

#[test]
fn each_mistake_is_told_once_and_at_its_place() {
    let folder = folder();
    let file = folder.path().join("c.toml");
    fs::write(&file, GOOD).unwrap();
    let good = check(&file, &["--json"]);
    assert_eq!(good.code, Some(0), "{good:?}");
    let mut wrong = Vec::new();
    for (from, to, expected) in CASES {
        assert!(GOOD.contains(from), "{from}");
        fs::write(&file, GOOD.replacen(from, to, 1)).unwrap();
        let finished = check(&file, &["--json"]);
        let result: Value = serde_json::from_str(&finished.stdout).unwrap();
        let found: Vec<(u64, u64, &str)> = result["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| {
                let number = |key: &str| problem[key].as_u64().unwrap_or_default();
                (number("line"), number("column"), problem["path"].as_str().unwrap())
            })
            .collect();
        let code = if expected.is_empty() { 0 } else { 2 };
        if found != *expected || finished.code != Some(code) {
            wrong.push(format!("{to}: {found:?} in place of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(CASES.len() >= 60, "{}", CASES.len());
}

#[test]
fn it_reads_as_a_compiler_does() {
    let folder = folder();
    let wrong = GOOD
        .replace("version = 0", "versoin = 0")
        .replace("\"created\", \"paid\"", "\"created\", 7")
        .replace("timeout = \"30s\"", "timeout = \"soon\" # as before")
        .replace("[200, 204]", "[200, 999, 20]")
        .replace("\"{payload:/customer}\"", "\"{custmer}-{payload:id}\"")
        .replace("type = \"bearer\"", "type = \"basic\"")
        .replace("X-Topic = ", "max_retry_delay = ")
        .replace("\"letters\"", "\"/var/sink/spool/letters\"")
        + "[plugin_config.spool]\npath = \"/var/sink/spool\"\n[[plugin_config.routes]]\nstream = \"\"\n";
    fs::write(folder.path().join("connector.toml"), wrong).unwrap();
    let mut command = program(&["check", "connector.toml"]);
    let variable = "IGGY_CONNECTORS_SINK_HTTP_PLUGIN_CONFIG_RETRY_JITTER";
    let finished = start(command.current_dir(folder.path()).env(variable, "ful")).finish();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check.txt");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&golden, &finished.stdout).unwrap();
    }
    assert_eq!(
        finished.stdout,
        fs::read_to_string(&golden).unwrap_or_default(),
        "UPDATE_DOCS=1 writes it anew"
    );
    assert!(!finished.stdout.contains("hunter2"));
}

#[test]
fn a_terminal_shows_colours_and_nothing_that_a_file_wrote_for_it() {
    let folder = folder();
    let wrong = GOOD.replace("timeout = \"30s\"", "timeout = \"s\\u001b[2Joon\" # \u{202e}");
    fs::write(folder.path().join("c.toml"), wrong).unwrap();
    // A terminal of its own.
    let mut script = Command::new("script");
    let check = format!("{} check c.toml", env!("CARGO_BIN_EXE_iggy-http-sink"));
    script.args(["--quiet", "--return", "--command", &check, "/dev/null"]).env_remove("NO_COLOR");
    let Ok(output) = script.env("TERM", "xterm").current_dir(folder.path()).stdin(Stdio::null()).output()
    else {
        eprintln!("SKIPPED: there is no `script` (util-linux) to make a terminal");
        return;
    };
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("\u{1b}[1m\u{1b}[91merror") && !said.contains("\\u{1b}[1m"), "{said:?}");
    assert!(said.contains("s\\u{1b}[2Joon") && !said.contains("\u{1b}[2J"), "{said:?}");
    assert!(!said.contains('\u{202e}'), "{said:?}");
}

#[test]
fn a_status_in_two_lists_is_a_warning() {
    let folder = folder();
    let file = folder.path().join("c.toml");
    let lists = "[200, 409]\nhold_status_codes = [503]\nretry_status_codes = [409, 429, 503]";
    fs::write(&file, GOOD.replace("[200, 204]", lists)).unwrap();
    let finished = check(&file, &["--json"]);
    let result: Value = serde_json::from_str(&finished.stdout).unwrap();
    let told: Vec<_> = result["warnings"].as_array().unwrap().iter().map(|found| &found["message"]).collect();
    let told = json!(told).to_string();
    for words in ["409, and so does success_status_codes", "503, and so does hold_status_codes"] {
        assert!(told.contains(&format!("retry_status_codes holds {words}, which decides")), "{told}");
    }
    assert_eq!(
        (result["warnings"].as_array().unwrap().len(), &result["warnings"][0]["line"]),
        (2, &json!(25))
    );
}

#[test]
fn a_header_that_may_be_a_key_is_a_warning() {
    let folder = folder();
    let file = folder.path().join("c.toml");
    fs::write(&file, GOOD.replace("X-Topic", "timeout")).unwrap();
    let finished = check(&file, &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("warning: plugin_config.headers.timeout"), "{finished:?}");
    assert!(finished.stdout.contains("31 | timeout = …"), "{finished:?}");
}

#[test]
fn shells_and_man_know_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = start(&mut program(&["completions", shell])).finish();
        assert!(script.code == Some(0) && script.stdout.contains("dead-letters"), "{script:?}");
        let file = folder.path().join(shell);
        fs::write(&file, &script.stdout).unwrap();
        match Command::new(shell).arg("-n").arg(&file).status() {
            Ok(status) => assert!(status.success(), "{shell} cannot read its completions"),
            Err(_) => eprintln!("skipped: there is no {shell} to read its completions"),
        }
    }
    let pages = folder.path().join("man");
    let written = start(program(&["man", "--folder"]).arg(&pages)).finish();
    assert_eq!(written.code, Some(0), "{written:?}");
    for page in ["iggy-http-sink.1", "iggy-http-sink-run.1", "iggy-http-sink-dead-letters-purge.1"] {
        assert!(fs::read_to_string(pages.join(page)).unwrap().contains(".TH"), "{page}");
    }
    assert!(start(&mut program(&["man"])).finish().stdout.contains("iggy\\-http\\-sink\\-run(1)"));
}

#[test]
fn the_nearest_choice_is_named() {
    let folder = folder();
    let file = folder.path().join("c.toml");
    for version in ["1.2", "\"TLSv1.2\"", "\"1.0\""] {
        let table = format!("[plugin_config.tls]\nmin_version = {version}\n[plugin_config.auth]");
        fs::write(&file, GOOD.replace("[plugin_config.auth]", &table)).unwrap();
        let finished = check(&file, &[]);
        assert!(finished.stdout.contains("; did you mean \"1.2\"?"), "{version}: {finished:?}");
    }
}

#[test]
fn a_status_that_a_default_decides_and_a_route_that_is_never_taken_are_warnings() {
    let folder = folder();
    let file = folder.path().join("c.toml");
    let text = GOOD.replace("success_status_codes = [200, 204]", "hold_status_codes = [202]");
    let routes = "[[plugin_config.routes]]\ntopic = \"*\"\n[[plugin_config.routes]]\ntopic = \"a\"\n[plugin_config.auth]";
    fs::write(&file, text.replace("[plugin_config.auth]", routes)).unwrap();
    let finished = check(&file, &["--json"]);
    let result: Value = serde_json::from_str(&finished.stdout).unwrap();
    let warnings = result["warnings"].as_array().unwrap();
    let told = |warning: &Value| (warning["line"].clone(), warning["path"].clone());
    assert_eq!(
        warnings.iter().map(told).collect::<Vec<_>>(),
        [
            (json!(23), json!("plugin_config.hold_status_codes")),
            (json!(35), json!("plugin_config.routes[1]"))
        ],
        "{finished:?}"
    );
    assert!(finished.stdout.contains("success_status_codes by default, which decides"), "{finished:?}");
}
