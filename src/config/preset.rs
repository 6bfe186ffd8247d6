//! Presets: defaults for well-known endpoints. Any key that is given takes precedence.

use serde_json::{Map, Value, json};
use strum::{Display, EnumString, VariantNames};

use super::query::with_parameters;

/// A well-known endpoint with its own defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "docs/presets.md has them")]
pub enum Preset {
    Elasticsearch,
    Opensearch,
    #[strum(serialize = "clickhouse")]
    ClickHouse,
    SplunkHec,
    Loki,
    Datadog,
    #[strum(serialize = "influxdb")]
    InfluxDb,
    #[strum(serialize = "victoriametrics")]
    VictoriaMetrics,
    OtlpLogs,
    Slack,
    StandardWebhooks,
    #[strum(serialize = "cloudevents")]
    CloudEvents,
    #[strum(serialize = "cloudevents_binary")]
    CloudEventsBinary,
    #[strum(serialize = "cloudevents_batch")]
    CloudEventsBatch,
}

impl Preset {
    /// The keys that it stands for.
    ///
    /// # Panics
    /// Never: each is a table.
    pub fn keys(self) -> Map<String, Value> {
        let keys = match self {
            // The documents of both have the same form, and so have their answers.
            Self::Elasticsearch | Self::Opensearch => elasticsearch(),
            Self::ClickHouse => json!({
                "batch_mode": "nd_json",
                "include_metadata": false,
                "success_status_codes": [200],
            }),
            Self::SplunkHec => json!({
                "batch_mode": "nd_json",
                "message_template": "{\"time\":{timestamp:s},\"source\":\"{stream}/{topic}\",\"event\":{payload},\"fields\":{\"iggy_partition\":\"{partition}\",\"iggy_offset\":\"{offset}\"}}",
                "success_status_codes": [200],
                "response": { "expect_pointer": "/code", "expect_value": 0 },
            }),
            Self::Loki => json!({
                "batch_mode": "json_array",
                "body_prefix": "{\"streams\":[{\"stream\":{\"iggy_stream\":{stream},\"iggy_topic\":{topic}},\"values\":[",
                "message_template": "[\"{timestamp:ns}\",\"{payload}\"]",
                "body_suffix": "]}]}",
                "success_status_codes": [200, 204],
            }),
            Self::Datadog => json!({
                "batch_mode": "json_array",
                "message_template": "{\"message\":\"{payload}\",\"ddsource\":\"iggy\",\"service\":{stream},\"ddtags\":\"topic:{topic},partition:{partition}\"}",
                "max_batch_messages": 1000,
                "max_payload_size_bytes": 5_000_000,
                "compression": "gzip",
                "success_status_codes": [202],
            }),
            Self::InfluxDb => json!({
                "batch_mode": "nd_json",
                "template_format": "line_protocol",
                "message_template": "{topic},stream={stream},partition={partition} offset={offset}i,payload=\"{payload}\" {timestamp:ns}",
                "success_status_codes": [204],
            }),
            Self::VictoriaMetrics => json!({
                "batch_mode": "nd_json",
                "template_format": "line_protocol",
                "message_template": "{topic},stream={stream},partition={partition} value={payload:/value} {timestamp:ns}",
                "success_status_codes": [200, 204],
            }),
            Self::OtlpLogs => json!({
                "batch_mode": "json_array",
                "body_prefix": "{\"resourceLogs\":[{\"resource\":{\"attributes\":[{\"key\":\"iggy.stream\",\"value\":{\"stringValue\":{stream}}},{\"key\":\"iggy.topic\",\"value\":{\"stringValue\":{topic}}}]},\"scopeLogs\":[{\"scope\":{\"name\":\"iggy\"},\"logRecords\":[",
                "message_template": "{\"timeUnixNano\":\"{timestamp:ns}\",\"body\":{\"stringValue\":\"{payload}\"},\"attributes\":[{\"key\":\"iggy.partition\",\"value\":{\"intValue\":\"{partition}\"}},{\"key\":\"iggy.offset\",\"value\":{\"intValue\":\"{offset}\"}}]}",
                "body_suffix": "]}]}]}",
                "success_status_codes": [200],
                "retry_status_codes": [429, 502, 503, 504],
            }),
            Self::Slack => json!({
                "message_template": "{\"text\":\"{payload}\"}",
                "success_status_codes": [200],
                "rate_limit": { "requests_per_second": 1 },
            }),
            Self::StandardWebhooks => json!({
                "message_template": "{\"type\":\"{header:type|message}\",\"timestamp\":\"{timestamp:rfc3339}\",\"data\":{payload}}",
                "auth": { "type": "webhook_signature" },
            }),
            Self::CloudEvents => cloudevents(false),
            Self::CloudEventsBatch => cloudevents(true),
            Self::CloudEventsBinary => cloudevents_binary(),
        };
        match keys {
            Value::Object(keys) => keys,
            _ => Map::new(),
        }
    }

    /// Parameters that it adds to the query of `url`, unless they are there.
    pub fn query(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::ClickHouse => {
                &[("insert_deduplication_token", "{idempotency_key}"), ("wait_end_of_query", "1")]
            }
            _ => &[],
        }
    }

    /// Returns its keys as in a connector file.
    pub fn to_toml(self) -> String {
        let (mut text, mut tables) = (String::new(), String::new());
        for (key, value) in self.keys() {
            match value {
                Value::Object(table) => {
                    tables.extend(["\n[plugin_config.", &key, "]\n"]);
                    for (key, value) in table {
                        tables.extend([&*key, " = ", &toml_value(&value), "\n"]);
                    }
                }
                value => text.extend([&*key, " = ", &toml_value(&value), "\n"]),
            }
        }
        if !self.query().is_empty() {
            let query: Vec<String> =
                self.query().iter().map(|(name, value)| format!("{name}={value}")).collect();
            text.extend(["# added to the query of url: ", &query.join("&"), "\n"]);
        }
        text + &tables
    }

    /// The names of all presets.
    pub fn names() -> &'static [&'static str] {
        <Self as VariantNames>::VARIANTS
    }

    /// Adds its defaults to a table, for keys that are not given.
    ///
    /// # Errors
    /// What is wrong with `url`, whose query it adds to.
    pub(super) fn apply(self, table: &mut Map<String, Value>) -> Result<(), String> {
        for (key, default) in self.keys() {
            match (table.get_mut(&key), default) {
                (None | Some(Value::Null), Value::Object(defaults)) => {
                    let left = defaults.into_iter().filter(|(name, _)| !is_overridden(table, &key, name));
                    let left: Map<String, Value> = left.collect();
                    table.insert(key, Value::Object(left));
                }
                (None | Some(Value::Null), default) => {
                    table.insert(key, default);
                }
                (Some(_), Value::Object(defaults)) => fill(table, &key, defaults),
                (Some(_), _) => {}
            }
        }
        if let Some(Value::String(url)) = table.get_mut("url") {
            *url = with_parameters(url, self.query())?;
        }
        Ok(())
    }
}

fn elasticsearch() -> Value {
    json!({
        "batch_mode": "nd_json",
        "message_template": "{\"create\":{\"_id\":\"{idempotency_key}\"}}\n{payload}",
        "success_status_codes": [200, 201, 409],
        "response": {
            "expect_pointer": "/errors",
            "expect_value": false,
            "items": "/items",
            "item_status": "/*/status",
            "item_reason": "/*/error/reason",
        },
    })
}

/// With one event per request, or a `batch` of them.
fn cloudevents(batch: bool) -> Value {
    json!({
        "batch_mode": if batch { "json_array" } else { "individual" },
        "message_template": "{\"specversion\":\"1.0\",\"id\":\"{idempotency_key}\",\"source\":\"iggy\",\"type\":\"{header:ce_type|iggy.message}\",\"subject\":\"{stream}/{topic}/{partition}\",\"time\":\"{timestamp:rfc3339}\",\"data\":{payload}}",
        "headers": {
            "Content-Type": if batch { "application/cloudevents-batch+json" } else { "application/cloudevents+json" },
        },
    })
}

fn cloudevents_binary() -> Value {
    json!({
        "batch_mode": "raw",
        "headers": {
            "ce-specversion": "1.0",
            "ce-id": "{idempotency_key}",
            "ce-source": "iggy",
            "ce-type": "{header:ce_type|iggy.message}",
            "ce-subject": "{stream}/{topic}/{partition}",
            "ce-time": "{timestamp:rfc3339}",
        },
    })
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('"') && !text.contains(['\n', '\'']) => format!("'{text}'"),
        // Escapes of JSON are those of TOML.
        value => value.to_string(),
    }
}

/// Adds defaults to a nested table.
fn fill(table: &mut Map<String, Value>, key: &str, defaults: Map<String, Value>) {
    // An override of the whole table arrives as a string that contains JSON.
    if let Some(Value::String(json)) = table.get(key)
        && let Ok(parsed @ Value::Object(_)) = serde_json::from_str(json)
    {
        table.insert(key.to_owned(), parsed);
    }
    let given: Vec<String> = match table.get(key) {
        Some(Value::Object(given)) => given
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect(),
        _ => return,
    };
    for (name, default) in defaults {
        if !given.contains(&name.to_ascii_lowercase())
            && !is_overridden(table, key, &name)
            && let Some(Value::Object(inner)) = table.get_mut(key)
        {
            inner.insert(name, default);
        }
    }
}

/// Whether an environment variable sets a key of a table, as a flat key.
fn is_overridden(table: &Map<String, Value>, key: &str, name: &str) -> bool {
    let flat = format!("{key}_{}", name.to_ascii_lowercase().replace('-', "_"));
    table.keys().any(|other| other.to_ascii_lowercase() == flat)
}

#[cfg(test)]
mod tests {
    use strum::VariantNames;

    use super::*;
    use crate::config::Config;

    fn all() -> impl Iterator<Item = Preset> {
        Preset::VARIANTS.iter().map(|name| name.parse().expect("a name of its own"))
    }

    #[test]
    fn every_preset_opens_with_a_url_and_what_only_the_user_has() {
        for preset in all() {
            let mut config = json!({ "url": "http://localhost/?query=INSERT INTO t FORMAT x", "preset": preset.to_string() });
            if preset == Preset::StandardWebhooks {
                config["auth"] = json!({ "secrets": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" });
            }
            let read = Config::from_json(&config).unwrap_or_else(|why| panic!("{preset}: {why}"));
            assert_eq!(read.warnings, Vec::<String>::new(), "{preset}");
        }
    }

    #[test]
    fn any_key_given_wins() {
        let mut table = json!({
            "url": "http://localhost/?insert_deduplication_token=x", "batch_mode": "raw", "response": { "items": "/other" },
            "headers": "{\"content-type\":\"text/plain\"}", "headers_ce_type": "mine", "auth_type": "hmac",
        });
        let table = table.as_object_mut().expect("a table");
        for preset in all() {
            assert_eq!(preset.apply(table), Ok(()));
        }
        assert_eq!(table["batch_mode"], "raw");
        assert_eq!(
            (&table["response"]["items"], &table["response"]["item_status"]),
            (&json!("/other"), &json!("/*/status"))
        );
        assert_eq!(
            (&table["headers"]["content-type"], table["headers"].get("Content-Type")),
            (&json!("text/plain"), None)
        );
        assert_eq!(
            (&table["headers"]["ce-id"], table["headers"].get("ce-type")),
            (&json!("{idempotency_key}"), None)
        );
        assert_eq!(table["auth"].get("type"), None);
        assert_eq!(table["url"], "http://localhost/?insert_deduplication_token=x&wait_end_of_query=1");
    }
}
