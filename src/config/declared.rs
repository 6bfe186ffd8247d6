//! The declarations that reading a configuration makes.

use serde_json::{Value, json};

/// A declared key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its dotted path.
    pub path: String,
    /// The type of its value.
    pub shape: Shape,
    /// The words that it allows; empty if it allows others.
    pub choices: &'static [&'static str],
    /// Its default, as TOML; `None` if it has none, or one that depends on other keys.
    pub default: Option<String>,
    /// Whether its value is text or a table that can contain a secret directly.
    pub can_be_secret: bool,
}

/// The type of a value.
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
    /// One of the words that it allows.
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
    /// Returns the JSON Schema of its value.
    pub(super) fn schema(&self) -> Value {
        match &self.shape {
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Duration => json!({ "type": "string", "examples": ["500ms", "30s", "1m 30s"] }),
            Shape::Size => {
                json!({ "type": ["integer", "string"], "minimum": 0, "examples": [65536, "10 MiB"] })
            }
            Shape::Integer { least, most } => {
                // A bound that JSON numbers cannot represent exactly is omitted.
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
                // The bounds apply to numbers, the pattern to text.
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
