//! The `[[streams]]` of a connector file: what to read from Iggy, and how.

use std::{num::NonZeroUsize, time::Duration};

use iggy_connector_http_sink::config::nearest;
use iggy_connector_sdk::Schema;
use serde_json::{Map, Value};

use super::check::Check;

const STREAM_KEYS: [&str; 6] =
    ["stream", "topics", "schema", "batch_length", "poll_interval", "consumer_group"];
/// The keys that the runtime decodes Avro with.
const AVRO_KEYS: [&str; 2] = ["avro_schema_json", "avro_schema_path"];
const SCHEMAS: [&str; 6] = ["json", "raw", "text", "proto", "flatbuffer", "avro"];

/// The runtime's default of `batch_length`.
const BATCH_LENGTH: NonZeroUsize = NonZeroUsize::new(1000).expect("not zero");
/// Its default of `poll_interval`.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The maximum length of a consumer group's name in Iggy, in bytes.
const LONGEST_NAME: usize = 255;

/// One entry of `[[streams]]`.
#[derive(Debug, Clone)]
pub(crate) struct StreamConfig {
    pub(crate) stream: String,
    /// At least one.
    pub(crate) topics: Vec<String>,
    pub(crate) schema: Schema,
    /// The maximum number of messages in one batch.
    pub(crate) batch_length: NonZeroUsize,
    /// How long to wait when there was nothing to read.
    pub(crate) poll_interval: Duration,
    /// The consumer group that shares the partitions, and under which offsets are stored.
    pub(crate) consumer_group: String,
}

impl Check {
    /// All entries.
    pub(super) fn streams(&mut self, file: &Map<String, Value>, key: &str) -> Vec<StreamConfig> {
        let entries = match file.get("streams") {
            Some(Value::Array(entries)) if !entries.is_empty() => entries,
            None => {
                self.wrong(
                    "streams",
                    "are required and not given: write [[streams]] with stream, topics and schema",
                );
                return Vec::new();
            }
            Some(Value::Array(_)) => {
                self.wrong("streams", "is empty: write [[streams]] with stream, topics and schema");
                return Vec::new();
            }
            Some(_) => {
                self.wrong("streams", "is no list of tables: write [[streams]], in two brackets");
                return Vec::new();
            }
        };
        let mut streams = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let path = format!("streams[{index}]");
            match entry {
                Value::Object(entry) => streams.push(self.stream(&path, entry, key)),
                other => {
                    self.wrong(&path, format!("{other} is no table: write [[streams]] with one line a key"));
                }
            }
        }
        streams
    }

    fn stream(&mut self, path: &str, entry: &Map<String, Value>, key: &str) -> StreamConfig {
        let stream = self.required_text(entry, &format!("{path}.stream"), "stream", "the name of a stream");
        let topics = self.topics(&format!("{path}.topics"), entry.get("topics"));
        let schema = self.schema(&format!("{path}.schema"), entry.get("schema"));

        let batch_length = entry.get("batch_length").map_or(Some(BATCH_LENGTH), |length| {
            let length = length.as_u64().and_then(|length| u32::try_from(length).ok())?;
            NonZeroUsize::new(length as usize)
        });
        if batch_length.is_none() {
            let message = format!("{} is not a whole number from 1 to {}", entry["batch_length"], u32::MAX);
            self.wrong(&format!("{path}.batch_length"), message);
        }
        let poll_interval = self.poll_interval(&format!("{path}.poll_interval"), entry.get("poll_interval"));
        let consumer_group = self.consumer_group(&format!("{path}.consumer_group"), entry, key);
        for avro in AVRO_KEYS.into_iter().filter(|avro| entry.contains_key(*avro)) {
            self.warn(
                &format!("{path}.{avro}"),
                "is used by the Iggy runtime alone: `run` passes Avro payloads on as they are",
            );
        }
        let known: Vec<&str> = STREAM_KEYS.into_iter().chain(AVRO_KEYS).collect();
        self.unknown(path, entry, &known);
        StreamConfig {
            stream,
            topics,
            schema,
            batch_length: batch_length.unwrap_or(BATCH_LENGTH),
            poll_interval,
            consumer_group,
        }
    }

    fn poll_interval(&mut self, path: &str, value: Option<&Value>) -> Duration {
        let Some(value) = value else { return POLL_INTERVAL };
        let duration = match value.as_str().map(str::to_lowercase).as_deref() {
            // Other words of the runtime for no pause.
            Some("unlimited" | "disabled" | "none") => Ok(Duration::ZERO),
            Some(text) => humantime::parse_duration(text).map_err(|why| why.to_string()),
            None => Err("it is not text".to_owned()),
        };
        duration.unwrap_or_else(|why| {
            self.wrong(path, format!("{value} is not a duration ({why}): write one such as \"5ms\""));
            POLL_INTERVAL
        })
    }

    fn consumer_group(&mut self, path: &str, entry: &Map<String, Value>, key: &str) -> String {
        match entry.get("consumer_group") {
            None => return format!("iggy-connect-sink-{key}"),
            Some(Value::String(name)) if (1..=LONGEST_NAME).contains(&name.len()) => return name.clone(),
            Some(other) => self.wrong(
                path,
                format!(
                    "{other} is not the name of a group: put one of up to {LONGEST_NAME} bytes in quotes, or leave the key out"
                ),
            ),
        }
        String::new()
    }

    fn topics(&mut self, path: &str, value: Option<&Value>) -> Vec<String> {
        let hint = "write a list of names, such as [\"orders\"]";
        match value {
            None => self.wrong(path, format!("are required and not given: {hint}")),
            Some(Value::Array(topics)) if !topics.is_empty() => {
                let mut names = Vec::with_capacity(topics.len());
                for (index, topic) in topics.iter().enumerate() {
                    match topic.as_str().filter(|name| !name.is_empty()) {
                        Some(name) => names.push(name.to_owned()),
                        None => {
                            self.wrong(&format!("{path}[{index}]"), format!("{topic} is no name: {hint}"));
                        }
                    }
                }
                return names;
            }
            Some(other) => self.wrong(path, format!("{other} names no topic: {hint}")),
        }
        Vec::new()
    }

    fn schema(&mut self, path: &str, value: Option<&Value>) -> Schema {
        let Some(value) = value else {
            self.warn(path, "is not given, which the Iggy runtime requires: json is taken");
            return Schema::Json;
        };
        let name = value.as_str().unwrap_or_default();
        name.parse().unwrap_or_else(|_| {
            let near =
                nearest(name, &SCHEMAS).map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
            let known = SCHEMAS.join("\", \"");
            self.wrong(path, format!("{value} is not a schema: write one of \"{known}\"{near}"));
            Schema::Json
        })
    }
}
