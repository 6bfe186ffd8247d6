//! `schema`: the JSON Schema of a connector file, from the declarations that the reader makes, with the words of the documented
//! file.

use std::collections::HashMap;

use clap::Args;
use iggy_connector_http_sink::config::Config;
use serde_json::{Value, json};

use crate::{
    init::DOCUMENTED,
    report::{self, Failure},
};

/// Write the JSON Schema of a connector file, for editors
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iggy-http-sink schema > connector.schema.json

An editor with a language server for TOML, such as Taplo or Even Better TOML, takes it where a file begins with
  #:schema ./connector.schema.json")]
pub(crate) struct Arguments {}

/// Runs the command.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn run(_: &Arguments) -> Result<bool, Failure> {
    let text = serde_json::to_string_pretty(&schema()).map_err(|why| Failure::Other(why.to_string()))?;
    report::say(&text)?;
    Ok(true)
}

fn schema() -> Value {
    let mut plugin_config = Config::json_schema();
    describe(&mut plugin_config, "plugin_config", &descriptions(DOCUMENTED));
    let text = json!({ "type": "string", "minLength": 1 });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A connector file of the HTTP sink for Apache Iggy",
        "type": "object",
        "additionalProperties": false,
        "required": ["type", "key", "enabled", "version", "name", "path", "streams"],
        "properties": {
            "type": { "const": "sink" },
            "key": text,
            "enabled": { "type": "boolean" },
            "version": { "type": "integer", "minimum": 0 },
            "name": { "type": "string" },
            "path": { "type": "string", "minLength": 1, "description": "The plugin. Without an extension it gets the system's." },
            "verbose": { "type": "boolean" },
            "plugin_config_format": { "type": "string" },
            "transforms": {},
            "streams": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["stream", "topics", "schema"],
                    "properties": {
                        "stream": text,
                        "topics": { "type": "array", "minItems": 1, "items": text },
                        "schema": { "enum": ["json", "raw", "text", "proto", "flatbuffer", "avro"] },
                        "batch_length": { "type": "integer", "minimum": 1, "maximum": u32::MAX },
                        "poll_interval": { "type": "string", "examples": ["5ms"] },
                        "consumer_group": { "type": "string", "minLength": 1, "maxLength": 255 },
                        "avro_schema_json": { "type": "string" },
                        "avro_schema_path": { "type": "string" },
                    },
                },
            },
            "plugin_config": plugin_config,
        },
    })
}

/// What the documented file says of each key, by its path.
fn descriptions(documented: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut table = String::new();
    for paragraph in documented.split("\n\n") {
        let mut words: Vec<&str> = Vec::new();
        for line in paragraph.lines() {
            let bare = line.trim_start_matches("# ").trim();
            if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.trim_matches(['[', ']']).clone_into(&mut table);
                continue;
            }
            let key = bare.split_once(" = ").map(|(key, _)| key);
            let is_key = |key: &&str| {
                !key.is_empty()
                    && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
            };
            match key.filter(is_key) {
                Some(key) => {
                    found.entry(format!("{table}.{key}")).or_insert_with(|| words.join(" "));
                }
                None if line.starts_with('#') && !bare.starts_with("---") => {
                    words.push(bare.trim_start_matches('#').trim());
                }
                None => {}
            }
        }
    }
    found
}

/// Adds what is said of each key.
fn describe(schema: &mut Value, path: &str, descriptions: &HashMap<String, String>) {
    if let Some(words) = descriptions.get(path).filter(|words| !words.is_empty()) {
        schema["description"] = words.as_str().into();
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, property) in properties {
        describe(property, &format!("{path}.{name}"), descriptions);
    }
}
