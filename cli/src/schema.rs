//! `schema`: the JSON Schema of a connector file, and the reference of its keys, both from the declarations of the reader.

use clap::Args;
use iggy_connector_http_sink::config::Config;
use serde_json::{Value, json};

use crate::terminal::report::{self, Failure};

/// Print the JSON Schema of a connector file, for editors
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iggy-http-sink schema > connector.schema.json
  iggy-http-sink schema --markdown > configuration.md

An editor with a language server for TOML, such as Taplo or Even Better TOML, uses it if a file begins with
  #:schema ./connector.schema.json")]
pub(crate) struct Arguments {
    /// Print the reference of all keys of `[plugin_config]` instead, with types, defaults and meanings, as Markdown
    #[arg(long)]
    markdown: bool,
}

/// Runs the command.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    if arguments.markdown {
        report::say(Config::reference().trim_end())?;
        return Ok(true);
    }
    let text = serde_json::to_string_pretty(&schema()).map_err(|why| Failure::Other(why.to_string()))?;
    report::say(&text)?;
    Ok(true)
}

fn schema() -> Value {
    let plugin_config = Config::json_schema();
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
