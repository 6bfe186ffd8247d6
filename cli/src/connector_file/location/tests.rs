use super::*;

const FILE: &str = r#"type = "sink"
# a comment

[[streams]]
stream = "a"
topics = [
  "x",
  "y",
]

[[streams]]
stream = "b"

[plugin_config]
url = "http://localhost"
count = 0x1f
ratio = 1.5
since = 2026-01-02

[plugin_config.headers]
"X.Dotted" = "1"
Authorization = "é"
"é" = "1"
"#;

#[test]
fn each_key_has_its_line() {
    let (_, lines) = read(FILE).expect("valid TOML");
    for (path, line) in [
        ("type", 1),
        ("streams[0]", 4),
        ("streams[0].topics", 6),
        ("streams[0].topics[1]", 8),
        ("streams[1]", 11),
        ("streams[1].stream", 12),
        ("plugin_config", 14),
        ("plugin_config.url", 15),
        ("plugin_config.headers", 20),
        ("plugin_config.headers.X.Dotted", 21),
        ("plugin_config.headers.Authorization", 22),
    ] {
        assert_eq!(lines.exactly(path), Some(line), "{path}");
    }
}

#[test]
fn what_is_missing_is_in_its_table() {
    let (_, lines) = read(FILE).expect("valid TOML");
    assert_eq!(lines.of("streams[1].topics"), Some(11));
    assert_eq!(lines.of("plugin_config.headers.None.Such"), Some(20));
    assert_eq!(lines.of("plugin_config.headers.…"), Some(23));
    assert_eq!(lines.of("key"), None);
}

#[test]
fn a_line_is_shown_without_what_may_be_a_secret() {
    let text = "[plugin_config]\ntimeout = \"soon\" # hunter2\nauth = { type = \"baerer\", token = \"hunter2\" } # hunter2\n\
                codes = [200, 900]\n";
    let (_, lines) = read(text).expect("valid TOML");
    let shown = |path: &str, part, public: &[&str]| {
        let excerpt = lines.excerpt(path, part, |path| public.contains(&path)).expect("a line");
        (excerpt.text[excerpt.marked].to_owned(), excerpt.column, excerpt.text)
    };
    let timeout = "plugin_config.timeout";
    let line = "timeout = \"soon\"".to_owned();
    assert_eq!(shown(timeout, Part::Value, &[timeout]), ("\"soon\"".to_owned(), 11, line.clone()));
    assert_eq!(shown(timeout, Part::Key, &[timeout]), ("timeout".to_owned(), 1, line));
    assert_eq!(shown(timeout, Part::Value, &[]), ("…".to_owned(), 11, "timeout = …".to_owned()));
    let (marked, column, line) = shown("plugin_config.auth.type", Part::Value, &["plugin_config.auth.type"]);
    assert_eq!((marked.as_str(), column), ("\"baerer\"", 17));
    assert_eq!(line, "auth = { type = \"baerer\", token = … }");
    let public = ["plugin_config.codes[0]", "plugin_config.codes[1]"];
    assert_eq!(shown(public[1], Part::Value, &public).0, "900");
    assert_eq!(shown("plugin_config.missing", Part::Value, &[]).0, "plugin_config");
}

#[test]
fn values_become_json() {
    let (table, _) = read(FILE).expect("valid TOML");
    let config = &table["plugin_config"];
    assert_eq!(config["count"], 31);
    assert_eq!(config["ratio"], 1.5);
    assert_eq!(config["since"], "2026-01-02");
    assert_eq!(config["headers"]["Authorization"], "é");
    assert_eq!(table["streams"][0]["topics"], serde_json::json!(["x", "y"]));
}

#[test]
fn mistakes_in_the_syntax_have_their_lines() {
    let findings = read("a = 1\nb = \nc = 2\na = 3\n").expect_err("two mistakes");
    let lines: Vec<_> = findings.iter().map(|finding| finding.location.clone()).collect();
    assert_eq!(lines, [Location::Line(2), Location::Line(4)], "{findings:?}");
    let findings = read("a = nan\nb = 99999999999999999999\n").expect_err("two numbers");
    assert_eq!(findings.len(), 2);
    assert!(findings[1].message.contains("99999999999999999999"), "{findings:?}");
}

#[test]
fn findings_are_shown_with_their_place() {
    let mut finding = Finding {
        location: Location::Line(3),
        path: "plugin_config.timeout".to_owned(),
        message: "no".to_owned(),
        excerpt: None,
    };
    let file = Path::new("dir/c.toml");
    assert_eq!(finding.in_file(file).to_string(), "dir/c.toml:3: plugin_config.timeout: no");
    finding.location = Location::Environment("X_TIMEOUT".to_owned());
    assert_eq!(
        finding.in_file(file).to_string(),
        "environment: plugin_config.timeout: no (set by X_TIMEOUT)"
    );
}
