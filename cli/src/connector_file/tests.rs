use std::time::Duration;

use iggy_connector_sdk::Schema;

use super::*;

const GOOD: &str = r#"type = "sink"
key = "http"
enabled = true
version = 0
name = "x"
path = "plugin"

[[streams]]
stream = "orders"
topics = ["a", "b"]
schema = "text"
batch_length = 7
poll_interval = "5ms"

[plugin_config]
url = "http://localhost/in"
timeout = "5s"
"#;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<ConnectorFile, Vec<Finding>> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ConnectorFile::parse(Path::new("c.toml"), text, variables, Extent::File)
}

fn findings(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let findings = parse(text, variables).expect_err("mistakes");
    findings.iter().map(|finding| finding.in_file(Path::new("c.toml")).to_string()).collect()
}

#[test]
fn a_good_file_is_read() {
    let file = parse(GOOD, &[]).expect("no mistakes");
    assert_eq!(file.key, "http");
    assert_eq!(file.plugin, Path::new("plugin"));
    assert!(file.enabled);
    let stream = &file.streams[0];
    assert_eq!((stream.stream.as_str(), stream.schema), ("orders", Schema::Text));
    assert_eq!(stream.topics, ["a", "b"]);
    assert_eq!(stream.batch_length.get(), 7);
    assert_eq!(
        (stream.poll_interval, &*stream.consumer_group),
        (Duration::from_millis(5), "iggy-connect-sink-http")
    );
    assert_eq!(file.plugin_config["timeout"], "5s");
    assert!(file.warnings.is_empty(), "{:?}", file.warnings);
}

#[test]
fn everything_that_is_missing_is_told() {
    let text = "[[streams]]\nschema = \"json\"\n";
    let told = findings(text, &[]);
    let words = ["type", "key", "path", "plugin_config.url", "streams[0].stream", "streams[0].topics"];
    for (line, word) in told.iter().zip(words) {
        assert!(line.contains(&format!(": {word}: ")), "{line} has no {word}");
    }
    assert_eq!(told.len(), words.len(), "{told:?}");
    assert!(told[4].starts_with("c.toml:1: "), "{}", told[4]);

    let told =
        findings("type = \"sink\"\nkey = \"k\"\npath = \"p\"\n[plugin_config]\nurl = \"http://a\"", &[]);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("[[streams]]"), "{told:?}");
}

#[test]
fn mistakes_have_their_lines() {
    let text = GOOD
        .replace("version = 0", "versoin = 0")
        .replace("\"text\"", "\"jsno\"")
        .replace("batch_length = 7", "batch_length = 0")
        .replace("\"5ms\"", "\"soon\"")
        .replace("timeout = \"5s\"", "timeuot = \"5s\"\n[plugin_config.headers]\n\"X Bad\" = \"1\"");
    let told = findings(&text, &[]);
    for (line, start) in told.iter().zip([
        "c.toml:4: versoin: unknown key: did you mean `version`?",
        "c.toml:11: streams[0].schema: \"jsno\" is not a schema",
        "c.toml:12: streams[0].batch_length: 0 ",
        "c.toml:13: streams[0].poll_interval: \"soon\" ",
        "c.toml:17: plugin_config.timeuot: ",
        "c.toml:19: plugin_config.headers.X…: ",
    ]) {
        assert!(line.starts_with(start), "{line}");
    }
    assert_eq!(told.len(), 6, "{told:?}");
}

#[test]
fn mistakes_of_the_environment_name_the_variable() {
    let timeout = "IGGY_CONNECTORS_SINK_HTTP_PLUGIN_CONFIG_TIMEOUT";
    let told = findings(
        GOOD,
        &[
            (timeout, "never"),
            ("IGGY_CONNECTORS_SINK_HTTP_PLUGIN_CONFIG_HEADERS_CONTENT_LENGTH", "3"),
            ("IGGY_CONNECTORS_SINK_HTTP_STREAMS_0_SCHEMA", "xml"),
        ],
    );
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|line| line.starts_with("environment: ")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("plugin_config.timeout: ") && line.contains(timeout)));
}

#[test]
fn a_flat_key_of_the_file_has_its_line() {
    let text = format!("{GOOD}headers_content_length = 3\n");
    let told = findings(&text, &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("c.toml:18: "), "{told:?}");
}

#[test]
fn what_the_runtime_requires_beyond_is_a_warning() {
    let text = GOOD.replace("enabled = true\nversion = 0\nname = \"x\"\n", "");
    let file = parse(&text, &[]).expect("no mistakes");
    let paths: Vec<_> = file.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(paths, ["enabled", "version", "name"]);
    assert!(file.enabled);
}

#[test]
fn a_stream_has_its_group_and_interval() {
    let text = GOOD.replace("\"5ms\"", "\"1m 5s\"\nconsumer_group = \"mine\"\navro_schema_path = \"x\"");
    let file = parse(&text, &[]).expect("no mistakes");
    let stream = &file.streams[0];
    assert_eq!((stream.poll_interval, &*stream.consumer_group), (Duration::from_secs(65), "mine"));
    assert!(file.warnings[0].path.ends_with("avro_schema_path"), "{:?}", file.warnings);
    let file = parse(&GOOD.replace("\"5ms\"", "\"none\""), &[]).expect("no mistakes");
    assert_eq!(file.streams[0].poll_interval, Duration::ZERO);

    let long = format!("poll_interval = \"5ms\"\nconsumer_group = \"{}\"", "g".repeat(256));
    let told = findings(&GOOD.replace("poll_interval = \"5ms\"", &long), &[]);
    assert!(told.len() == 1 && told[0].contains("streams[0].consumer_group"), "{told:?}");
}
