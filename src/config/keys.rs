//! Every key that a configuration can have, and the JSON Schema that follows from them.

use std::{cell::RefCell, collections::BTreeMap};

use serde_json::{Map, Value, json};

use super::{Config, Declared, Shape, problem::TABLE, reader::Reader, routes::Scope};

impl Config {
    /// The names of all keys and tables of `[plugin_config]`.
    pub fn keys() -> Vec<&'static str> {
        let (problems, declared) = (RefCell::default(), RefCell::default());
        let keys = Reader::new(TABLE, Map::new(), &problems, &declared);
        Self::read(keys, Scope::Connector).1
    }

    /// Returns the keys that reading this configuration declares. Keys of a table are declared if it is given, and some only
    /// together with a certain choice of another key.
    pub fn declared(json: &Map<String, Value>) -> Vec<Declared> {
        let (problems, declared) = (RefCell::default(), RefCell::default());
        Self::read(Reader::new(TABLE, json.clone(), &problems, &declared), Scope::Connector);
        declared.into_inner()
    }

    /// Returns every key that any configuration can have: including those of tables, and those that require a certain choice
    /// of another key.
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
                // The choices of a key that a choice declared may declare more.
                if !chosen || is_new {
                    // A preset only sets defaults, and declares no keys.
                    let choices = key.choices.iter().filter(|_| !key.path.ends_with(".preset"));
                    open.extend(choices.map(|choice| (with(json!(choice)), table.clone(), true)));
                }
                if is_new && key.shape == Shape::Table {
                    open.push((with(json!({})), key.path.clone(), false));
                }
                let known = all.entry(key.path.clone()).or_insert_with(|| key.clone());
                // If a choice decides, the wider bounds apply.
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
            // A default is written the same way in TOML and JSON.
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

/// Disallows other keys in tables whose keys are known.
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
