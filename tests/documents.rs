//! The documents say what the code does: every key, with its true default.

use std::collections::BTreeSet;

use iggy_connector_http_sink::config::Config;
use serde_json::Value;

/// `config.toml` with every commented key switched on.
fn everything_on() -> toml::Table {
    let mut text = String::new();
    for line in include_str!("../config.toml").lines() {
        let key = line.strip_prefix("# ").filter(|rest| {
            let name = rest.split(" = ").next().unwrap();
            rest.starts_with("[plugin_config.")
                || rest.starts_with("[[plugin_config.")
                || (rest.contains(" = ")
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
        });
        text.push_str(key.unwrap_or(line));
        text.push('\n');
    }
    toml::from_str(&text).unwrap()
}

fn plugin_config(table: &toml::Table) -> Value {
    serde_json::to_value(&table["plugin_config"]).unwrap()
}

#[test]
fn the_connector_file_is_valid_as_it_stands() {
    let file: toml::Table = toml::from_str(include_str!("../config.toml")).unwrap();
    Config::from_json(&plugin_config(&file)).unwrap();
}

#[test]
fn every_documented_key_is_known() {
    let mut config = plugin_config(&everything_on());
    let keys = config.as_object_mut().unwrap();
    // Shown as examples, of which [auth] sets the same header; and with no secrets of these names here.
    assert!(keys["headers"].as_object_mut().unwrap().remove("Authorization").is_some());
    keys["auth"]["token"] = "t".into();
    keys.insert("ordering".to_owned(), "key".into());
    keys.insert("compression".to_owned(), "zstd".into());
    // Files that are not here.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    for (key, pem) in [
        ("ca_file", made.cert.pem()),
        ("client_cert_file", made.cert.pem()),
        ("client_key_file", made.signing_key.serialize_pem()),
    ] {
        let path = files.path().join(key);
        std::fs::write(&path, pem).unwrap();
        assert!(keys["tls"][key].is_string(), "{key}");
        keys["tls"][key] = path.to_str().unwrap().into();
    }
    keys["proxy"]["password"] = "p".into();
    keys["status"]["token"] = "sixteen or more characters".into();
    if let Err(problems) = Config::from_json(&config) {
        panic!("{problems}");
    }
}

#[test]
fn documented_defaults_are_the_true_ones() {
    let mut config = plugin_config(&everything_on());
    let keys = config.as_object_mut().unwrap();
    // These have no default, or one that a shorter example stands for.
    for example in [
        "headers",
        "forward_headers",
        "tombstone_method",
        "routes",
        "auth",
        "rate_limit",
        "dead_letter",
        "spool",
        "ordering_key",
        "response",
        "preset",
        "message_template",
        "template_format",
        "body_prefix",
        "body_separator",
        "body_suffix",
        "compression_level",
        "retry_status_codes",
        "tls",
        "proxy",
        "status",
        "tracing",
    ] {
        assert!(keys.remove(example).is_some(), "{example}");
    }
    let written = Config::from_json(&config).unwrap();
    let default = Config::from_json(&serde_json::json!({ "url": config["url"] })).unwrap();
    assert_eq!(format!("{written:#?}"), format!("{default:#?}"));
}

#[test]
fn every_known_key_is_documented() {
    let documented = plugin_config(&everything_on());
    let documented: BTreeSet<&str> = documented.as_object().unwrap().keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = Config::keys().into_iter().collect();
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in config.toml");
    let readme = include_str!("../README.md");
    for key in known {
        assert!(
            readme.contains(&format!("`{key}`")) || readme.contains(&format!("`[{key}]`")),
            "{key} is not in README.md"
        );
    }
}

#[test]
fn the_first_commands_of_the_readme_run_the_demo_and_the_tests() {
    let readme = include_str!("../README.md");
    let commands: Vec<&str> =
        readme.split("```sh\n").skip(1).map(|block| block.lines().next().unwrap()).collect();
    assert_eq!(commands[..2], ["cargo run -- demo", "cargo test --workspace"]);
    assert!(include_str!("../.ci/run").contains(commands[1]), "CI runs the very same tests");
}

#[test]
fn the_reference_of_the_keys_is_that_of_the_declarations() {
    let written = include_str!("../docs/configuration.md");
    let reference = Config::reference();
    for (line, made) in reference.lines().enumerate() {
        let stands = written.lines().nth(line);
        assert_eq!(
            stands,
            Some(made),
            "line {} of docs/configuration.md: `just configuration` writes it",
            line + 1
        );
    }
    assert_eq!(
        written.lines().count(),
        reference.lines().count(),
        "`just configuration` writes docs/configuration.md"
    );
}
