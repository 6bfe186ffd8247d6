//! What reading a configuration asks for, and the JSON Schema that follows from it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Config, TABLE};

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
    fn schema(&self) -> Value {
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

impl Config {
    /// Every key that any configuration can have: those of tables, and those that only go with a choice of another key.
    pub fn all_declared() -> Vec<Declared> {
        let mut all: BTreeMap<String, Declared> = BTreeMap::new();
        // A configuration, the table whose keys are visited, and whether a choice was made in it.
        let mut open = vec![(Map::new(), TABLE.to_owned(), false)];
        while let Some((context, table, chosen)) = open.pop() {
            for key in Self::declared(&context) {
                let inside = key.path.strip_prefix(&format!("{table}."));
                if inside.is_none_or(|name| name.contains('.')) {
                    continue;
                }
                let with = |value: Value| {
                    let mut context = context.clone();
                    set(&mut context, &key.path, value);
                    context
                };
                let is_new = !all.contains_key(&key.path);
                // Of keys that a choice brought, the choices may bring more.
                if !chosen || is_new {
                    // A preset is a matter of defaults, and brings no keys.
                    let choices = key.choices.iter().filter(|_| !key.path.ends_with(".preset"));
                    open.extend(choices.map(|choice| (with(json!(choice)), table.clone(), true)));
                }
                if is_new && key.shape == Shape::Table {
                    open.push((with(json!({})), key.path.clone(), false));
                }
                let known = all.entry(key.path.clone()).or_insert_with(|| key.clone());
                // Where a choice decides, the wider bounds hold.
                if let (Shape::Integer { most, .. }, Shape::Integer { most: other, .. }) =
                    (&mut known.shape, &key.shape)
                    && other.len() > most.len()
                {
                    most.clone_from(other);
                }
            }
        }
        all.into_values().collect()
    }

    /// The JSON Schema of `[plugin_config]`.
    pub fn json_schema() -> Value {
        let declared = Self::all_declared();
        let mut root = json!({ "type": "object", "properties": {}, "additionalProperties": false });
        for key in &declared {
            let path = key.path.strip_prefix(TABLE).unwrap_or(&key.path);
            let mut at = &mut root;
            for part in path.split('.').filter(|part| !part.is_empty()) {
                at = &mut at["properties"][part];
            }
            let properties = at.get("properties").cloned();
            *at = key.schema();
            at["description"] = key.meaning().into();
            // A default is written the same in both languages.
            if let Some(default) = key.default.as_ref().and_then(|default| serde_json::from_str(default).ok())
            {
                at["default"] = default;
            }
            if let Some(properties) = properties {
                at["properties"] = properties;
            }
        }
        close(&mut root);
        // Keys of tables can be written flat.
        let tables: Vec<&str> = declared
            .iter()
            .filter(|key| key.shape == Shape::Table)
            .filter_map(|key| key.path.rsplit('.').next())
            .collect();
        root["patternProperties"] = json!({ format!("^({})_", tables.join("|")): {} });
        root["properties"]["format"] = json!({ "description": "ignored" });
        root["required"] = json!(["url"]);
        root
    }
}

/// Tables whose keys are known have no others.
fn close(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for property in properties.values_mut() {
        close(property);
    }
    schema["additionalProperties"] = false.into();
}

/// Puts a value at a dotted path below the table.
fn set(table: &mut Map<String, Value>, path: &str, value: Value) {
    let path = path.strip_prefix(TABLE).unwrap_or(path);
    let mut parts = path.split('.').filter(|part| !part.is_empty()).peekable();
    let mut at = table;
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            at.insert(part.to_owned(), value);
            return;
        }
        let next = at.entry(part.to_owned()).or_insert_with(|| Map::new().into());
        if !next.is_object() {
            *next = Map::new().into();
        }
        let Value::Object(inner) = next else { return };
        at = inner;
    }
}
