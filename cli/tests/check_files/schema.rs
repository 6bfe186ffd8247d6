//! The schema that `schema` writes, against files.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::GOOD;
use crate::support::{program, start};

/// The part of a JSON Schema that `schema` uses: what is wrong with a value.
fn invalid(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{other}"),
    };
    if !types.is_empty() && !types.iter().any(is) {
        found.push(format!("{path} is no {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{path} is none of the words"));
    }
    if value.as_i64().is_some_and(|n| schema["minimum"].as_i64().is_some_and(|least| n < least)) {
        found.push(format!("{path} is too small"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        invalid(&schema["items"], item, &format!("{path}[{index}]"), found);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match schema["properties"].get(key) {
            Some(property) => invalid(property, value, &path, found),
            None if schema["additionalProperties"] == false => found.push(format!("{path} is not known")),
            None => {}
        }
    }
}

#[test]
fn the_schema_takes_good_files_and_refuses_wrong_ones() {
    let said = start(&mut program(&["schema"])).finish();
    let schema: Value = serde_json::from_str(&said.stdout).unwrap();
    let check = |text: &str| {
        let mut found = Vec::new();
        let file: Value = toml::from_str::<Value>(text).unwrap();
        invalid(&schema, &file, "", &mut found);
        found
    };
    assert!(check(GOOD).is_empty(), "{:?}", check(GOOD));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let documented = fs::read_to_string(root.join("config.toml")).unwrap();
    assert!(check(&documented).is_empty(), "{:?}", check(&documented));
    for preset in iggy_connector_http_sink::config::Preset::names() {
        let starter = start(&mut program(&["init", "--preset", preset, "-"])).finish().stdout;
        assert!(check(&starter).is_empty(), "{preset}: {:?}", check(&starter));
    }
    for (from, to, path) in [
        ("timeout = \"30s\"", "timeout = 30", ".plugin_config.timeout"),
        ("batch_mode", "batch_moed", ".plugin_config.batch_moed"),
        ("\"nd_json\"", "\"ndjsn\"", ".plugin_config.batch_mode"),
        ("[200, 204]", "[99]", ".plugin_config.success_status_codes[0]"),
        ("cool_down", "colldown", ".plugin_config.circuit_breaker.colldown"),
        ("token", "tokn", ".plugin_config.auth.tokn"),
        ("\"bearer\"", "\"baerer\"", ".plugin_config.auth.type"),
        ("schema = \"json\"", "schema = \"jsno\"", ".streams[0].schema"),
    ] {
        let found = check(&GOOD.replacen(from, to, 1));
        assert!(found.iter().any(|found| found.starts_with(path)), "{to}: {found:?}");
    }
    // Keys of the user's own, and the words of the documented file.
    let keys = &schema["properties"]["plugin_config"]["properties"];
    assert_eq!(keys["headers"]["additionalProperties"], Value::Null);
    assert!(keys["linger"]["description"].as_str().unwrap().contains("spool"), "{}", keys["linger"]);
    assert_eq!(keys["max_retries"]["minimum"], json!(0));
}
