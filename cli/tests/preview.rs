//! `preview` and `init`: what they show of each preset, and that the lines for a shell make the requests of the plugin.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::shared::endpoint::{Answer, Endpoint, Request};
use flate2::read::MultiGzDecoder;
use iggy_connector_http_sink::config::Preset;
use serde_json::{Value, json};

use crate::support::{Finished, connector, plugin, program, start};

/// What the files of `init` refer to.
const SECRETS: [(&str, &str); 8] = [
    ("ELASTICSEARCH_API_KEY", "elastic-secret"),
    ("OPENSEARCH_USER", "admin-secret"),
    ("OPENSEARCH_PASSWORD", "pass-secret"),
    ("HEC_TOKEN", "hec-secret"),
    ("DD_API_KEY", "datadog-secret"),
    ("INFLUX_TOKEN", "influx-secret"),
    ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T000/B000/slack-secret"),
    ("WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
];

const MESSAGES: &str = "{\"value\":1.5,\"note\":\"it's \\\"quoted\\\" & <ü>\"}\n{\"value\":2}\n";

/// Runs the program in `folder` with these arguments and this input.
fn call(folder: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut command = program(arguments);
    command.current_dir(folder).envs(SECRETS).stdin(Stdio::piped());
    let mut running = start(&mut command);
    running.write(input.as_bytes());
    running.finish()
}

/// The file that `init` writes for a preset.
fn init(folder: &Path, preset: &str) -> PathBuf {
    let name = format!("{preset}.toml");
    let finished = call(folder, &["init", "--preset", preset, &name], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    folder.join(name)
}

/// A text without what differs from one run to the next: times, and the version.
fn without_times(text: &str) -> String {
    let mut without = String::new();
    let is_of_time = |c: char| c.is_ascii_alphanumeric() || ":.-".contains(c);
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_time(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let colons = word.len() - word.trim_start_matches(':').len();
        let (before, bare) = word.split_at(colons);
        let digits = bare.bytes().take_while(u8::is_ascii_digit).count();
        let is_number = digits >= 10 && bare[digits..].bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let is_time = bare.starts_with("20") && bare.contains('T') && bare.ends_with('Z');
        without.push_str(before);
        without.push_str(if is_number || is_time { "TIME" } else { bare });
        let next = behind.chars().next().map_or(0, char::len_utf8);
        without.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    without.replace(concat!("iggy-http-sink/", env!("CARGO_PKG_VERSION")), "iggy-http-sink/VERSION")
}

#[test]
fn each_preset_makes_the_requests_that_are_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/preview");
    let mut differing = Vec::new();
    for preset in Preset::names() {
        let file = init(folder.path(), preset);
        let checked = call(folder.path(), &["check", file.to_str().unwrap()], "");
        assert_eq!(checked.code, Some(0), "{preset}: {checked:?}");
        let input = format!("{MESSAGES}{{\n");
        let finished = call(
            folder.path(),
            &["preview", file.to_str().unwrap(), "--input", "-", "--input-id", "x"],
            &input,
        );
        assert_eq!(finished.code, Some(1), "{preset}: one message is no JSON: {finished:?}");
        let shown = without_times(&finished.stdout);
        for (_, secret) in SECRETS {
            assert!(!shown.contains(secret), "{preset} shows {secret}");
        }
        let path = golden.join(format!("{preset}.txt"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(&golden).unwrap();
            fs::write(&path, &shown).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if shown != expected {
            differing.push(format!("{}:\n{shown}", path.display()));
        }
    }
    assert!(differing.is_empty(), "UPDATE_DOCS=1 writes them anew:\n{}", differing.join("\n"));
}

/// An endpoint that takes what a preset sends.
fn endpoint(preset: &str) -> Endpoint {
    let (status, body) = match preset {
        "elasticsearch" | "opensearch" => (200, "{\"errors\":false,\"items\":[]}"),
        "splunk_hec" => (200, "{\"text\":\"Success\",\"code\":0}"),
        "datadog" => (202, ""),
        "influxdb" => (204, ""),
        _ => (200, ""),
    };
    Endpoint::start(move |_| Answer::status(status).body(body))
}

/// A request in a form in which it is the same whenever it is sent.
fn described(request: &Request) -> String {
    let mut headers: Vec<(String, &str)> =
        request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    headers.sort();
    let mut text = format!("{} {}\n", request.method, request.path);
    for (name, value) in headers {
        // It is over the time.
        let value = if name == "webhook-signature" { "v1" } else { value };
        // So is the length, where the body is compressed and holds times.
        if name != "content-length" || request.header("content-encoding").is_none() {
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    let body = match request.header("content-encoding") {
        Some("gzip") => std::io::read_to_string(MultiGzDecoder::new(&*request.body)).unwrap(),
        Some("zstd") => String::from_utf8(zstd::decode_all(&*request.body).unwrap()).unwrap(),
        _ => String::from_utf8_lossy(&request.body).into_owned(),
    };
    without_times(&format!("{text}\n{body}"))
}

/// The requests that `run` makes with the plugin, and those of the lines that `preview` writes.
fn both(folder: &Path, file: &Path, endpoint: &Endpoint, input: &str) -> [Vec<Request>; 2] {
    let (file, plugin) = (file.to_str().unwrap(), plugin());
    let run = ["run", file, "--input", "-", "--input-id", "x", "--plugin", plugin.to_str().unwrap()];
    let finished = call(folder, &run, input);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let by_plugin = endpoint.requests();
    let finished = call(
        folder,
        &["preview", file, "--input", "-", "--input-id", "x", "--curl", "--show-secrets"],
        input,
    );
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let script = folder.join("requests.sh");
    fs::write(&script, &finished.stdout).unwrap();
    let sent = Command::new("sh").arg(&script).output().unwrap();
    assert!(sent.status.success(), "{sent:?} {}", finished.stdout);
    let by_curl = endpoint.requests().split_off(by_plugin.len());
    [by_plugin, by_curl]
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("skipped: there is no curl");
    }
    found
}

#[test]
fn the_lines_for_a_shell_make_the_requests_that_the_plugin_makes_with_each_preset() {
    if !has_curl() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for preset in Preset::names() {
        let endpoint = endpoint(preset);
        let file = init(folder.path(), preset);
        let text = fs::read_to_string(&file).unwrap();
        let url = preset.parse::<Preset>().unwrap().starter().url;
        // The path and the query stay.
        let path =
            url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        fs::write(&file, text.replace(url, &format!("{}/{path}", endpoint.origin()))).unwrap();
        let input = if *preset == "slack" { "{\"value\":1.5}\n" } else { MESSAGES };
        let [by_plugin, by_curl] = both(folder.path(), &file, &endpoint, input);
        assert!(!by_plugin.is_empty());
        let [by_plugin, by_curl] =
            [by_plugin, by_curl].map(|all| all.iter().map(described).collect::<Vec<_>>());
        assert_eq!(by_plugin, by_curl, "{preset}");
    }
}

#[test]
fn bodies_and_headers_of_any_bytes_come_through_a_shell() {
    if !has_curl() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{{\"n\":\"{}\"}}\n", "x".repeat(200_000));
    let odd = "{\"n\":\"it's $HOME `id` \\\\ !! \u{202e} \u{7f} %s\"}\n{\"n\":\"@file\"}\n".to_owned();
    let plain = "include_metadata = false\n";
    let headers = "[plugin_config.headers]\nx-quote = \"it's \\\"$HOME\\\" `id`\"\nx-empty = \"\"\nx-hidden = \"a\u{200b}b\"\n";
    for (keys, input) in [
        (format!("batch_mode = \"nd_json\"\n{plain}{headers}"), odd.clone()),
        (format!("batch_mode = \"raw\"\n{headers}"), odd.clone()),
        (format!("batch_mode = \"json_array\"\n{plain}compression = \"gzip\"\n"), odd.clone()),
        (format!("batch_mode = \"nd_json\"\n{plain}compression = \"zstd\"\n"), odd.clone()),
        (format!("batch_mode = \"nd_json\"\n{plain}"), long),
        (format!("method = \"PUT\"\n{plain}"), "{\"n\":[1, 2]}\n".to_owned()),
        (format!("method = \"DELETE\"\n{plain}"), "{\"n\":1}\n".to_owned()),
        (format!("method = \"GET\"\n{plain}"), "{\"n\":1}\n".to_owned()),
        (format!("method = \"HEAD\"\n{plain}"), "{\"n\":1}\n".to_owned()),
        (
            format!(
                "{plain}[plugin_config.auth]\ntype = \"api_key\"\nname = \"k ey\"\nvalue = \"a&b=c'd\"\nin = \"query\"\n"
            ),
            odd,
        ),
    ] {
        let endpoint = Endpoint::answering(204);
        // What a URL may hold, and curl would read otherwise.
        let file = connector(folder.path(), &format!("{}/[1-2]/{{a,b}}?x=it's", endpoint.url()), &keys);
        let [by_plugin, by_curl] = both(folder.path(), &file, &endpoint, &input);
        assert!(!by_plugin.is_empty());
        assert_eq!(by_plugin.len(), by_curl.len(), "{keys}");
        for (one, other) in by_plugin.iter().zip(&by_curl) {
            assert_eq!((&one.method, &one.path), (&other.method, &other.path), "{keys}");
            assert!(one.body == other.body, "{keys}");
            assert_eq!(described(one), described(other), "{keys}");
        }
    }
}

#[test]
fn secrets_are_masked_unless_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let keys = "message_template = '{\"key\":\"${env:ELASTICSEARCH_API_KEY}\",\"n\":{payload:/n}}'\n\
        [plugin_config.headers]\nx-tenant = \"t-${env:HEC_TOKEN}\"\nx-api-key = \"plainkey\"\n\
        [plugin_config.auth]\ntype = \"basic\"\nusername = \"u\"\npassword = \"${env:OPENSEARCH_PASSWORD}\"\n";
    let url = "http://127.0.0.1:9/${env:DD_API_KEY}/in";
    let file = connector(folder.path(), url, keys);
    let file = file.to_str().unwrap();
    for format in [&[][..], &["--curl"], &["--json"]] {
        let arguments = [&["preview", file, "--input", "-", "--input-id", "x"], format].concat();
        let masked = call(folder.path(), &arguments, "{\"n\":1}\n");
        assert_eq!(masked.code, Some(0), "{masked:?}");
        let shown = call(folder.path(), &[&*arguments, &["--show-secrets"]].concat(), "{\"n\":1}\n").stdout;
        // As the header has it: u:pass-secret.
        for secret in ["elastic-secret", "hec-secret", "plainkey", "datadog-secret", "dTpwYXNzLXNlY3JldA=="] {
            assert!(!masked.stdout.contains(secret) && shown.contains(secret), "{secret} {masked:?} {shown}");
        }
        assert!(masked.stdout.contains("t-***") && masked.stdout.contains("Basic ***"), "{masked:?}");
        assert!(masked.stderr.contains("--show-secrets shows them"), "{masked:?}");
    }
}

#[test]
fn what_is_in_no_request_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let keys = "max_payload_size_bytes = 40\nmessage_template = '{\"n\":{payload:/n}}'\n";
    let file = connector(folder.path(), "http://127.0.0.1:9/", keys);
    let file = file.to_str().unwrap();
    let long = format!("{{\"n\":\"{}\"}}", "x".repeat(50));
    let input = format!("{{\"n\":1}}\n{{\n{{\"m\":1}}\n{long}\n");
    let finished =
        call(folder.path(), &["preview", file, "--input", "-", "--input-id", "x", "--json"], &input);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["body"], &lines[0]["offsets"]), (&json!("{\"n\":1}"), &json!([0])));
    let refused: Vec<(&Value, &Value)> =
        lines[1..].iter().map(|line| (&line["refused"], &line["offset"])).collect();
    let expected =
        [("undecodable", 1), ("unrenderable", 2), ("too_large", 3)].map(|(why, at)| (json!(why), json!(at)));
    assert_eq!(refused, expected.iter().map(|(why, at)| (why, at)).collect::<Vec<_>>());
    assert!(finished.stderr.contains("1 request with 1 message; 3 in none"), "{finished:?}");

    let limited =
        call(folder.path(), &["preview", file, "--input", "-", "--input-id", "x", "--limit", "1"], &input);
    assert_eq!((limited.code, limited.stdout.matches("# ").count()), (Some(0), 1), "{limited:?}");
}

#[test]
fn a_token_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Endpoint::answering(200);
    let keys = format!(
        "[plugin_config.auth]\ntype = \"oauth2_client_credentials\"\ntoken_url = \"{}\"\nclient_id = \"c\"\nclient_secret = \"s\"\n",
        tokens.url()
    );
    let file = connector(folder.path(), &tokens.url(), &keys);
    let arguments = ["preview", file.to_str().unwrap(), "--input", "-", "--input-id", "x", "--show-secrets"];
    let finished = call(folder.path(), &arguments, "{\"n\":1}\n");
    assert!(finished.stdout.contains("authorization: Bearer ACCESS_TOKEN"), "{finished:?}");
    assert!(tokens.requests().is_empty());
}

#[test]
fn what_cannot_work_is_told_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), "http://127.0.0.1:9/", "no_such_key = 1\n");
    let wrong =
        call(folder.path(), &["preview", file.to_str().unwrap(), "--input", "-", "--input-id", "x"], "");
    assert!(wrong.code == Some(2) && wrong.stderr.contains("no_such_key"), "{wrong:?}");
    let file = connector(folder.path(), "http://127.0.0.1:9/", "");
    let missing = call(folder.path(), &["preview", file.to_str().unwrap(), "--input", "nowhere"], "");
    assert!(missing.code == Some(2) && missing.stderr.contains("nowhere"), "{missing:?}");
}

#[test]
fn init_writes_the_documented_file_and_replaces_none_unless_asked() {
    let folder = tempfile::tempdir().unwrap();
    let first = call(folder.path(), &["init"], "");
    assert_eq!(first.code, Some(0), "{first:?}");
    let path = folder.path().join("connector.toml");
    assert_eq!(fs::read_to_string(&path).unwrap(), include_str!("../../config.toml"));
    fs::write(&path, "mine").unwrap();
    let again = call(folder.path(), &["init"], "");
    assert!(again.code == Some(2) && again.stderr.contains("--force"), "{again:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(call(folder.path(), &["init", "--force"], "").code, Some(0));
    assert_ne!(fs::read_to_string(&path).unwrap(), "mine");
    let unknown = call(folder.path(), &["init", "--preset", "elastic"], "");
    assert!(unknown.code == Some(2) && unknown.stderr.contains("elasticsearch"), "{unknown:?}");
    let shown = call(folder.path(), &["init", "--preset", "loki", "-"], "");
    assert!(shown.stdout.contains("preset = \"loki\"") && shown.code == Some(0), "{shown:?}");
}

#[test]
fn the_topic_says_which_route_is_previewed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    fs::write(
        &file,
        "type = \"sink\"\nkey = \"http\"\npath = \"p\"\n[[streams]]\nstream = \"s\"\ntopics = [\"a\", \"b\"]\nschema = \"json\"\n\
         [plugin_config]\n[[plugin_config.routes]]\ntopic = \"a\"\nurl = \"http://a/\"\n\
         [[plugin_config.routes]]\ntopic = \"b\"\nurl = \"http://b/{topic}\"\nmethod = \"PUT\"\n",
    )
    .unwrap();
    let preview = |more: &[&str]| {
        let finished = call(folder.path(), &[&["preview", "c.toml", "--input", "-"], more].concat(), "{}\n");
        (finished.code, finished.stdout)
    };
    let (code, shown) = preview(&[]);
    assert!(code == Some(0) && shown.contains("POST http://a/\n"), "{shown}");
    let (code, shown) = preview(&["--topic", "b", "--curl"]);
    assert!(code == Some(0) && shown.contains("-X PUT 'http://b/b'"), "{shown}");
    let (code, shown) = preview(&["--topic", "c"]);
    assert!(code == Some(1) && shown.contains("no_route"), "{shown}");
}
