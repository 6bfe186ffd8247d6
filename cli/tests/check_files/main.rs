//! `check` on wrong files: each mistake is told once, with its place, and none that is not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod machine;
mod schema;
#[expect(dead_code, reason = "not every test file needs all of it")]
#[path = "../support/mod.rs"]
mod support;

use std::{
    env::consts::DLL_SUFFIX,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use support::{Finished, program, start};

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

/// Where a mistake is: line, column and path.
type At = (u64, u64, &'static str);

/// What to write in place of what, and what is to be told.
const CASES: &[(&str, &str, &[At])] = &[
    ("type = \"sink\"", "type = \"source\"", &[(1, 8, "type")]),
    ("type = \"sink\"", "type = 1", &[(1, 8, "type")]),
    ("key = \"http\"", "key = \"\"", &[(2, 7, "key")]),
    ("enabled = true", "enabled = \"true\"", &[(3, 11, "enabled")]),
    ("version = 0", "version = -1", &[(4, 11, "version")]),
    ("version = 0", "versoin = 0\nversion = 0", &[(4, 1, "versoin")]),
    ("name = \"HTTP sink\"", "name = 7", &[(5, 8, "name")]),
    ("path = \"plugin\"", "path = []", &[(6, 8, "path")]),
    ("path = \"plugin\"", "path = \"plugin\"\nurl = \"http://localhost\"", &[(7, 1, "url")]),
    ("path = \"plugin\"", "path = \"plugin\"\nverbose = 1", &[(7, 11, "verbose")]),
    ("stream = \"orders\"", "stream = 5", &[(9, 10, "streams[0].stream")]),
    ("topics = [\"created\", \"paid\"]", "topics = []", &[(10, 10, "streams[0].topics")]),
    ("topics = [\"created\", \"paid\"]", "topics = \"created\"", &[(10, 10, "streams[0].topics")]),
    (
        "topics = [\"created\", \"paid\"]",
        "topics = [\"created\", 1, \"\"]",
        &[(10, 22, "streams[0].topics[1]"), (10, 25, "streams[0].topics[2]")],
    ),
    ("schema = \"json\"", "schema = \"jsno\"", &[(11, 10, "streams[0].schema")]),
    ("batch_length = 1000", "batch_length = 0", &[(12, 16, "streams[0].batch_length")]),
    ("batch_length = 1000", "batch_lenght = 1000", &[(12, 1, "streams[0].batch_lenght")]),
    ("\"5ms\"", "\"soon\"", &[(13, 17, "streams[0].poll_interval")]),
    ("\"http_sink\"", "\"\"", &[(14, 18, "streams[0].consumer_group")]),
    ("http://localhost", "ftp://localhost", &[(17, 7, "plugin_config.url")]),
    ("http://localhost", "localhost", &[(17, 7, "plugin_config.url")]),
    ("http://localhost", "http://{topic}", &[(17, 7, "plugin_config.url")]),
    ("\"POST\"", "\"post\"", &[(18, 10, "plugin_config.method")]),
    ("\"POST\"", "\"DELTE\"", &[(18, 10, "plugin_config.method")]),
    ("\"nd_json\"", "\"nd-json\"", &[(19, 14, "plugin_config.batch_mode")]),
    ("batch_mode", "batch_moed", &[(19, 1, "plugin_config.batch_moed")]),
    ("timeout = \"30s\"", "timeout = 30", &[(20, 11, "plugin_config.timeout")]),
    ("timeout = \"30s\"", "timeout = \"0s\"", &[(20, 11, "plugin_config.timeout")]),
    ("timeout = \"30s\"", "timeout = \"30\"", &[(20, 11, "plugin_config.timeout")]),
    ("timeout = \"30s\"", "  timeout = [\"30s\"]", &[(20, 13, "plugin_config.timeout")]),
    ("max_retries = 3", "max_retries = -3", &[(21, 15, "plugin_config.max_retries")]),
    ("max_retries = 3", "max_retries = 3.5", &[(21, 15, "plugin_config.max_retries")]),
    ("\"10 MiB\"", "\"10 MBi\"", &[(22, 26, "plugin_config.max_payload_size_bytes")]),
    ("[200, 204]", "[]", &[(23, 24, "plugin_config.success_status_codes")]),
    ("[200, 204]", "200", &[(23, 24, "plugin_config.success_status_codes")]),
    (
        "[200, 204]",
        "[\n  200,\n  99,\n  600,\n]",
        &[(25, 3, "plugin_config.success_status_codes[1]"), (26, 3, "plugin_config.success_status_codes[2]")],
    ),
    ("concurrency = 1", "concurrency = 0", &[(24, 15, "plugin_config.concurrency")]),
    ("concurrency = 1", "concurrency = \"many\"", &[(24, 15, "plugin_config.concurrency")]),
    ("ordering = \"key\"", "ordering = \"partitions\"", &[(25, 12, "plugin_config.ordering")]),
    ("\"{payload:/customer}\"", "\"{payload:customer}\"", &[(26, 16, "plugin_config.ordering_key")]),
    ("\"{payload:/customer}\"", "\"{customer}\"", &[(26, 16, "plugin_config.ordering_key")]),
    ("\"gzip\"", "\"gz\"", &[(27, 15, "plugin_config.compression")]),
    ("\"gzip\"", "\"br\"\ncompression_level = 3", &[(27, 15, "plugin_config.compression")]),
    ("compression = \"gzip\"", "status = \"127.0.0.1:1\"", &[(27, 10, "plugin_config.status")]),
    ("include_metadata = true", "include_metadata = \"yes\"", &[(28, 20, "plugin_config.include_metadata")]),
    ("include_metadata = true", "include_meta = true", &[(28, 1, "plugin_config.include_meta")]),
    (
        "include_metadata = true",
        "message_template = '{\"a\":{nothing},\"b\":{other}}'",
        &[(28, 20, "plugin_config.message_template")],
    ),
    ("{topic} of {stream}", "{timestamp:h}", &[(31, 11, "plugin_config.headers.X-Topic")]),
    ("X-Topic", "Content-Length", &[(31, 18, "plugin_config.headers.Content-Length")]),
    ("X-Topic = ", "timeout = ", &[]),
    ("X-Topic", "max_retry_delay", &[(31, 1, "plugin_config.headers.max_retry_delay")]),
    ("X-Topic = \"", "X-Topic = 5 # \"", &[]),
    ("X-Topic = \"{topic} of {stream}\"", "X-Topic = [\"a\"]", &[(31, 11, "plugin_config.headers.X-Topic")]),
    ("type = \"bearer\"", "type = \"baerer\"", &[(34, 8, "plugin_config.auth.type")]),
    (
        "token = \"hunter2\"",
        "tokn = \"hunter2\"",
        &[(33, 16, "plugin_config.auth.token"), (35, 1, "plugin_config.auth.tokn")],
    ),
    ("token = \"hunter2\"", "token = \"\"", &[(35, 9, "plugin_config.auth.token")]),
    ("token = \"hunter2\"", "token = \"${env:SURELY_NOT_SET}\"", &[(35, 9, "plugin_config.auth.token")]),
    ("path = \"letters\"", "path = \"\"", &[(38, 8, "plugin_config.dead_letter.path")]),
    (
        "path = \"letters\"",
        "pth = \"letters\"",
        &[(37, 16, "plugin_config.dead_letter.path"), (38, 1, "plugin_config.dead_letter.pth")],
    ),
    ("\"1 GiB\"", "\"1 Gig\"", &[(39, 13, "plugin_config.dead_letter.max_bytes")]),
    ("cool_down = \"30s\"", "cool_down = \"-1s\"", &[(42, 13, "plugin_config.circuit_breaker.cool_down")]),
    ("cool_down = \"30s\"", "colldown = \"30s\"", &[(42, 1, "plugin_config.circuit_breaker.colldown")]),
    (
        "[plugin_config.circuit_breaker]",
        "[plugin_config.circuit_braker]",
        &[(41, 16, "plugin_config.circuit_braker")],
    ),
    // The second one is the mistake, and its keys are not; the first is what it stood for.
    (
        "[plugin_config.circuit_breaker]",
        "[plugin_config.auth]\ntype = \"basic\"\n[plugin_config.circuit_breaker]\nfailure_threshold = 1",
        &[(41, 16, "")],
    ),
    ("max_retries = 3", "circuit_breaker.failure_threshold = 3", &[(41, 16, "")]),
    (
        "path = \"letters\"",
        "path = \"letters\"\n[plugin_config.spool]\npath = \"letters/\"",
        &[(38, 8, "plugin_config.dead_letter.path")],
    ),
    (
        "type = \"bearer\"\ntoken = \"hunter2\"",
        "type = \"webhook_signature\"\nsecrets = [\"abc\",\n  \"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", \"whsec_!\"]",
        &[(35, 12, "plugin_config.auth.secrets[0]"), (36, 45, "plugin_config.auth.secrets[2]")],
    ),
    (
        "\"POST\"",
        "\"GET\"\nforward_headers = [\"a\", \"b c\", \"A\"]",
        &[(19, 25, "plugin_config.forward_headers[1]"), (19, 32, "plugin_config.forward_headers[2]")],
    ),
    (
        "method = \"POST\"",
        "forward_headers = [\"a\", \"x-topic\"]",
        &[(18, 25, "plugin_config.forward_headers[1]")],
    ),
    (
        "method = \"POST\"",
        "idempotency_header = \"X\"\nretry_count_header = \"x\"",
        &[(19, 22, "plugin_config.retry_count_header")],
    ),
    (
        "[plugin_config.auth]",
        "[plugin_config.tls]\nclient_cert_file = \"no.pem\"\n[plugin_config.auth]",
        &[(34, 20, "plugin_config.tls.client_cert_file"), (34, 20, "plugin_config.tls.client_cert_file")],
    ),
    (
        "[plugin_config.auth]",
        "[plugin_config.proxy]\nurl = \"http://p:1\"\nno_proxy = [\"a\", 1, {}]\n[plugin_config.auth]",
        &[(35, 18, "plugin_config.proxy.no_proxy[1]"), (35, 21, "plugin_config.proxy.no_proxy[2]")],
    ),
    ("path = \"letters\"", "url = \"x\"", &[(38, 7, "plugin_config.dead_letter.url")]),
    (
        "type = \"bearer\"\ntoken = \"hunter2\"",
        "type = \"oauth2_client_credentials\"\ntoken_url = \"https://h/\"\nclient_id = \"a\"\nclient_auth = \"jwt\"",
        &[(37, 15, "plugin_config.auth.client_auth")],
    ),
    (
        "[plugin_config.auth]",
        "[[plugin_config.routes]]\ntopic = \"a\"\ntimeout = 5\n[plugin_config.auth]",
        &[(35, 11, "plugin_config.routes[0].timeout")],
    ),
    (
        "[plugin_config.auth]",
        "[plugin_config.status]\naddress = \"0.0.0.0:80\"\n[plugin_config.auth]",
        &[(33, 16, "plugin_config.status.token")],
    ),
    ("[[streams]]", "[streams]", &[(8, 1, "streams")]),
    ("[plugin_config.auth]", "[auth]", &[(33, 2, "auth")]),
    ("version = 0", "version = ", &[(4, 11, "")]),
    ("version = 0", "version 0", &[(4, 9, "")]),
];

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
        .replace("X-Topic = ", "max_retry_delay = ");
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
