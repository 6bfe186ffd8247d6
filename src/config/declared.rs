//! What reading a configuration asks for.

use serde_json::{Value, json};

/// A key that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its dotted path.
    pub path: String,
    /// What its value looks like.
    pub shape: Shape,
    /// The words that it takes; none where it takes others.
    pub choices: &'static [&'static str],
    /// Its default, as TOML; `None` where it has none, or one that depends on other keys.
    pub default: Option<String>,
    /// Whether its value is text or a table that can hold a secret as it is.
    pub can_be_secret: bool,
}

/// What a value looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// Such as `"1m 30s"`.
    Duration,
    /// A number of bytes, or text such as `"10 MiB"`.
    Size,
    /// A whole number from `least` to `most`, both in digits.
    Integer {
        /// The smallest.
        least: String,
        /// The largest.
        most: String,
    },
    /// One of the words that it takes.
    Choice,
    /// A list of HTTP status codes.
    StatusCodes,
    /// A number above zero.
    Rate,
    /// Text.
    Text,
    /// A list of texts, or a single one.
    Texts,
    /// A table.
    Table,
    /// Something else.
    Any,
}

impl Declared {
    /// Its value as a JSON Schema.
    pub(super) fn schema(&self) -> Value {
        match &self.shape {
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Duration => json!({ "type": "string", "examples": ["500ms", "30s", "1m 30s"] }),
            Shape::Size => {
                json!({ "type": ["integer", "string"], "minimum": 0, "examples": [65536, "10 MiB"] })
            }
            Shape::Integer { least, most } => {
                // What no number of JSON holds exactly is no bound.
                let bound = |digits: &String| digits.parse::<u64>().ok().filter(|bound| *bound <= 1 << 53);
                let mut schema = json!({ "type": "integer" });
                for (name, bound) in [("minimum", bound(least)), ("maximum", bound(most))] {
                    if let Some(bound) = bound {
                        schema[name] = bound.into();
                    }
                }
                schema
            }
            Shape::Choice => json!({ "enum": self.choices }),
            Shape::StatusCodes => {
                // The bounds are of numbers, the pattern of text.
                let item = json!({
                    "type": ["integer", "string"], "minimum": 200, "maximum": 599,
                    "pattern": "^ *[2-5][0-9]{2} *- *[2-5][0-9]{2} *$", "examples": [200, "202-204"],
                });
                json!({ "type": "array", "items": item })
            }
            Shape::Rate => json!({ "type": ["number", "string"], "exclusiveMinimum": 0 }),
            Shape::Text => json!({ "type": "string" }),
            Shape::Texts => {
                json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
            }
            Shape::Table => json!({ "type": "object" }),
            Shape::Any => json!({}),
        }
    }
}
