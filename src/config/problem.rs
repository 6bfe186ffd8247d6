//! The problems of a configuration, each with its path and what to do.

use std::fmt;

use iggy_connector_sdk::shown;
use serde_json::Value;

/// The table of all keys, which is the first part of every path.
pub(super) const TABLE: &str = "plugin_config";

/// The maximum length of a refused value in a problem, in bytes.
const LONGEST_VALUE: usize = 60;

/// Formats a refused value of a key without secrets for a problem. A nested value may be a table of headers under the wrong
/// key, so only its kind is named.
pub fn shown_value(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
        Value::String(text) => format!("\"{}\"", shown(text, LONGEST_VALUE)),
        other => other.to_string(),
    }
}

/// Returns the part of a key that can be a name: the rest may be a value, put there by mistake.
pub fn shown_name(name: &str) -> String {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match name.find(|c| !is_of_a_name(c)) {
        Some(end) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Names the kind of a wrong value, without the value, which may be a secret.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
        Value::String(_) => "text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Null => "null",
    }
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted path of the key, such as `plugin_config.headers.X-Id`.
    pub path: String,
    /// The given value, what is allowed, and what to do. Never contains a resolved secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Every problem of a configuration, in the order of its keys. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Ok(value)` if there is no problem.
    pub(super) fn or_none<T>(problems: Vec<Problem>, value: T) -> Result<T, Self> {
        if problems.is_empty() { Ok(value) } else { Err(Self(problems)) }
    }

    /// The problems one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} problem{} in the configuration", if count == 1 { "" } else { "s" })?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
