//! Applies the overrides of a connector file by environment variables, like the connectors runtime.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// The keys of the connector itself that a variable can set.
const KEYS: [&str; 5] = ["enabled", "version", "name", "path", "verbose"];
/// The keys of one `[[streams]]` entry that a variable can set.
const STREAM_KEYS: [&str; 6] =
    ["stream", "topics", "schema", "batch_length", "poll_interval", "consumer_group"];

/// Which variable set which key, by the key's dotted path.
#[derive(Debug, Default)]
pub(crate) struct Overrides(HashMap<String, String>);

impl Overrides {
    /// The variable that set this key, or set it flat: `plugin_config.headers.X-Id` as
    /// `plugin_config.headers_x_id`.
    pub(crate) fn variable(&self, path: &str) -> Option<&str> {
        if let Some(variable) = self.0.get(path) {
            return Some(variable);
        }
        let nested = path.strip_prefix("plugin_config.")?;
        self.0.get(&format!("plugin_config.{}", flat(nested))).map(String::as_str)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The flat key that stands for a nested one: `headers.X-Id` is `headers_x_id`.
pub(crate) fn flat(path: &str) -> String {
    path.replace(['.', '-'], "_").to_ascii_lowercase()
}

/// Applies those of `variables` that are meant for the connector `key` to its file.
pub(crate) fn apply(
    file: &mut Map<String, Value>,
    key: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Overrides {
    let key = key.to_uppercase();
    // Names that a shell can set contain no hyphen.
    let prefixes = [&key, &key.replace(|c: char| !c.is_ascii_alphanumeric(), "_")]
        .map(|key| format!("IGGY_CONNECTORS_SINK_{key}_"));
    let mut found: Vec<(String, String, String)> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let rest = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))?.to_owned();
            Some((rest, name, value))
        })
        .collect();
    // The environment is unordered; indexes of streams must be ascending.
    found.sort();

    let mut overrides = Overrides::default();
    for (rest, name, value) in found {
        if let Some(path) = set(file, &rest.to_ascii_lowercase(), &value) {
            overrides.0.insert(path, name);
        }
    }
    overrides
}

/// Sets the key for the rest of a variable's name. Returns its path; `None` if there is none.
fn set(file: &mut Map<String, Value>, rest: &str, value: &str) -> Option<String> {
    if let Some(key) = rest.strip_prefix("plugin_config_") {
        let table = file.entry("plugin_config").or_insert_with(|| Map::new().into());
        table.as_object_mut()?.insert(key.to_owned(), plugin_value(key, value));
        return Some(format!("plugin_config.{key}"));
    }
    if let Some((index, key)) = rest.strip_prefix("streams_").and_then(|rest| rest.split_once('_')) {
        let index: usize = index.parse().ok()?;
        let key = STREAM_KEYS.into_iter().find(|known| *known == key)?;
        let streams = file.entry("streams").or_insert_with(|| Value::Array(Vec::new())).as_array_mut()?;
        if index == streams.len() {
            streams.push(Map::new().into());
        }
        let value = match (key, infer(value)) {
            ("topics", Value::Array(topics)) => topics.iter().map(text).collect(),
            ("topics", topic) => Value::Array(vec![text(&topic)]),
            ("batch_length", value) => value,
            // A stream may be called 2024.
            _ => Value::String(value.to_owned()),
        };
        streams.get_mut(index)?.as_object_mut()?.insert(key.to_owned(), value);
        return Some(format!("streams[{index}].{key}"));
    }
    let key = KEYS.into_iter().find(|known| *known == rest)?;
    let value = match key {
        "name" | "path" => Value::String(value.to_owned()),
        _ => infer(value),
    };
    file.insert(key.to_owned(), value);
    Some(key.to_owned())
}

/// Returns the value for a key of the plugin. Unlike in the runtime, text that could be a number stays as written, and a key
/// that only takes text gets text: a secret such as `0123456` must arrive digit by digit.
fn plugin_value(key: &str, text: &str) -> Value {
    let key = key.strip_prefix("dead_letter_").unwrap_or(key);
    if key == "url" || key.starts_with("headers_") || key.starts_with("auth_") {
        return Value::String(text.to_owned());
    }
    match infer(text) {
        Value::Number(number) if number.to_string() != text => Value::String(text.to_owned()),
        value => value,
    }
}

/// Infers the value of a variable's text: `true`, `false`, a number, a list in brackets, or the text itself. JSON objects
/// stay text.
fn infer(text: &str) -> Value {
    match text {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    // Integers beyond 64 bits keep their digits; words such as "inf" are words.
    let like_float = text.contains(['.', 'e', 'E'])
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if like_float && let Some(number) = text.parse().ok().and_then(serde_json::Number::from_f64) {
        return Value::Number(number);
    }
    if let Some(items) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return serde_json::from_str(text).unwrap_or_else(|_| {
            let items = items.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(|item| infer(item.trim_matches(['"', '\'']))).collect()
        });
    }
    Value::String(text.to_owned())
}

/// Returns a name as text, if inference made something else of it.
fn text(value: &Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => Value::String(value.to_string()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file() -> Map<String, Value> {
        let json = json!({
            "key": "my-http",
            "path": "a",
            "streams": [{ "stream": "s", "topics": ["t"], "schema": "json" }],
            "plugin_config": { "url": "http://a", "headers": { "X-Id": "1" } },
        });
        json.as_object().expect("an object").clone()
    }

    fn applied(variables: &[(&str, &str)]) -> (Map<String, Value>, Overrides) {
        let mut file = file();
        let variables = variables
            .iter()
            .map(|(name, value)| (format!("IGGY_CONNECTORS_SINK_{name}"), (*value).to_owned()));
        let overrides = apply(&mut file, "my-http", variables);
        (file, overrides)
    }

    #[test]
    fn values_are_inferred() {
        for (text, value) in [
            ("true", json!(true)),
            ("false", json!(false)),
            ("True", json!("True")),
            ("007", json!(7)),
            ("-3", json!(-3)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("99999999999999999999", json!("99999999999999999999")),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("e", json!("e")),
            ("inf", json!("inf")),
            ("10s", json!("10s")),
            ("", json!("")),
            ("[200, 201]", json!([200, 201])),
            ("[a, \"b\", 3]", json!(["a", "b", 3])),
            ("[]", json!([])),
            (r#"{"a":1}"#, json!(r#"{"a":1}"#)),
        ] {
            assert_eq!(infer(text), value, "{text}");
        }
    }

    #[test]
    fn plugin_config_gets_flat_keys() {
        let (file, overrides) = applied(&[
            ("MY_HTTP_PLUGIN_CONFIG_TIMEOUT", "5s"),
            ("MY_HTTP_PLUGIN_CONFIG_HEADERS_X_ID", "42"),
            ("MY_HTTP_PLUGIN_CONFIG_SUCCESS_STATUS_CODES", "[200]"),
            ("MY_HTTP_PLUGIN_CONFIG_HEADERS", r#"{"A":"b"}"#),
            ("OTHER_PLUGIN_CONFIG_URL", "http://b"),
        ]);
        let expected = json!({
            "url": "http://a",
            "headers": r#"{"A":"b"}"#,
            "timeout": "5s",
            "headers_x_id": "42",
            "success_status_codes": [200],
        });
        assert_eq!(file["plugin_config"], expected);
        let variable = "IGGY_CONNECTORS_SINK_MY_HTTP_PLUGIN_CONFIG_HEADERS_X_ID";
        assert_eq!(overrides.variable("plugin_config.headers_x_id"), Some(variable));
        assert_eq!(overrides.variable("plugin_config.headers.X-Id"), Some(variable));
        assert_eq!(overrides.variable("plugin_config.url"), None);
        assert_eq!(overrides.len(), 4);
    }

    #[test]
    fn digits_of_secrets_stay_as_they_are_written() {
        for (key, text, value) in [
            ("headers_x_pin", "0123456", json!("0123456")),
            ("headers_x_pin", "123456", json!("123456")),
            ("headers_x_pin", "[1]", json!("[1]")),
            ("auth_password", "00", json!("00")),
            ("dead_letter_auth_token", "1e3", json!("1e3")),
            ("proxy_password", "007", json!("007")),
            ("proxy_from_environment", "true", json!(true)),
            ("max_retries", "7", json!(7)),
            ("max_retries", "007", json!("007")),
            ("rate_limit_requests_per_second", "1.50", json!("1.50")),
        ] {
            assert_eq!(plugin_value(key, text), value, "{key}={text}");
        }
    }

    #[test]
    fn the_connector_and_its_streams_are_overridden() {
        let (file, overrides) = applied(&[
            ("MY-HTTP_ENABLED", "false"),
            ("MY_HTTP_PATH", "2"),
            ("MY_HTTP_STREAMS_0_TOPICS", "[x,y]"),
            ("MY_HTTP_STREAMS_0_BATCH_LENGTH", "7"),
            ("MY_HTTP_STREAMS_1_STREAM", "2024"),
            ("MY_HTTP_STREAMS_1_TOPICS", "one"),
            ("MY_HTTP_STREAMS_9_STREAM", "too far"),
            ("MY_HTTP_STREAMS_0_NO_SUCH", "1"),
            ("MY_HTTP_NO_SUCH", "1"),
        ]);
        assert_eq!(file["enabled"], json!(false));
        assert_eq!(file["path"], json!("2"));
        let streams = json!([
            { "stream": "s", "topics": ["x", "y"], "schema": "json", "batch_length": 7 },
            { "stream": "2024", "topics": ["one"] },
        ]);
        assert_eq!(file["streams"], streams);
        assert_eq!(overrides.len(), 6);
        assert!(overrides.variable("streams[1].stream").is_some());
        assert!(!file.contains_key("no_such"));
    }
}
