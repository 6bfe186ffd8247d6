//! Finds the mistakes of a connector file, with their locations.

use std::collections::HashSet;

use iggy_connector_http_sink::config::{Config, Shape, nearest, shown_value};
use serde_json::{Map, Value};

use super::{
    environment::{self, Overrides},
    location::{Finding, Lines, Location, Part},
};

/// A connector file being checked.
pub(super) struct Check {
    pub(super) lines: Lines,
    pub(super) overrides: Overrides,
    /// The keys whose values are not secrets.
    public: HashSet<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) warnings: Vec<Finding>,
}

impl Check {
    pub(super) fn new(lines: Lines, overrides: Overrides, plugin_config: Option<&Value>) -> Self {
        Self { lines, overrides, public: public(plugin_config), findings: Vec::new(), warnings: Vec::new() }
    }

    fn location(&self, path: &str) -> Location {
        // A variable sets a list as a whole.
        let list =
            path.strip_suffix(']').and_then(|path| path.rsplit_once('[')).map_or(path, |(list, _)| list);
        if let Some(variable) = self.overrides.variable(path).or_else(|| self.overrides.variable(list)) {
            return Location::Environment(variable.to_owned());
        }
        // A nested key can also be given flat in the file.
        let flat = || {
            let nested = path.strip_prefix("plugin_config.")?;
            self.lines.exactly(&format!("plugin_config.{}", environment::flat(nested)))
        };
        let line = self.lines.exactly(path).or_else(flat).or_else(|| self.lines.of(path));
        line.map_or(Location::File, Location::Line)
    }

    pub(super) fn wrong(&mut self, path: &str, message: impl Into<String>) {
        let finding = self.finding(path, message.into());
        self.findings.push(finding);
    }

    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>) {
        let finding = self.finding(path, message.into());
        self.warnings.push(finding);
    }

    fn finding(&self, path: &str, message: String) -> Finding {
        let path = &*self.lines.spelled(path);
        let location = self.location(path);
        let of_key = ["unknown key", "is a key of"].iter().any(|begin| message.starts_with(begin));
        let part = if of_key { Part::Key } else { Part::Value };
        let is_public = |path: &str| {
            !path.starts_with("plugin_config.")
                || self.public.contains(path)
                || path.split_once('[').is_some_and(|(list, _)| self.public.contains(&format!("{list}[]")))
        };
        let is_in_file = matches!(location, Location::Line(_));
        let excerpt = self.lines.excerpt(path, part, is_public).filter(|_| is_in_file);
        Finding { location, path: path.to_owned(), message, excerpt }
    }

    /// Text that must be given; empty where there is a mistake.
    pub(super) fn required_text(
        &mut self,
        table: &Map<String, Value>,
        path: &str,
        key: &str,
        hint: &str,
    ) -> String {
        match table.get(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => return text.clone(),
            None => self.wrong(path, format!("is required and not given: write {hint}")),
            Some(other) => self.wrong(path, format!("{} does not do: write {hint}", shown_value(other))),
        }
        String::new()
    }

    /// Checks a key that the runtime requires, but that is not used here.
    pub(super) fn typed<T>(
        &mut self,
        table: &Map<String, Value>,
        key: &str,
        default: T,
        read: impl FnOnce(&Value) -> Option<T>,
        wrong: &str,
    ) -> T {
        let Some(value) = table.get(key) else {
            self.warn(key, "is not given, which the Iggy runtime requires");
            return default;
        };
        read(value).unwrap_or_else(|| {
            self.wrong(key, format!("{} is {wrong}", shown_value(value)));
            default
        })
    }

    pub(super) fn unknown(&mut self, path: &str, table: &Map<String, Value>, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let remedy = nearest(key, known)
                .map_or("remove it; keys of the sink stand under [plugin_config]".to_owned(), |near| {
                    format!("did you mean `{near}`?")
                });
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.wrong(&path, format!("unknown key: {remedy}"));
        }
    }
}

/// The keys of the sink whose values may be shown, by their paths; a trailing `[]` means that its items may.
fn public(plugin_config: Option<&Value>) -> HashSet<String> {
    let Some(Value::Object(table)) = plugin_config else { return HashSet::new() };
    let keys = Config::declared(table).into_iter().filter(|key| !key.can_be_secret);
    keys.map(|key| match key.shape {
        Shape::StatusCodes | Shape::Texts => key.path + "[]",
        _ => key.path,
    })
    .collect()
}
