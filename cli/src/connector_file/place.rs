//! A TOML file as JSON, and where in the file each key stands.

use std::{collections::HashMap, fmt, path::Path};

use iggy_connector_http_sink::config::shown_name;
use serde::Serialize;
use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where a mistake is to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// Somewhere in the file: what is missing has no line.
    File,
    /// This line of the file, counted from 1.
    Line(usize),
    /// This variable of the environment.
    Environment(String),
}

/// Something to mend, or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Where.
    pub(crate) place: Place,
    /// The dotted path of the key; empty for the file as a whole.
    pub(crate) path: String,
    /// What stands there, what is allowed, and what to do.
    pub(crate) message: String,
}

impl Finding {
    /// The finding as one line: `config.toml:12: plugin_config.timeout: …`.
    pub(crate) fn in_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        struct Line<'a>(&'a Finding, &'a Path);
        impl fmt::Display for Line<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self(finding, file) = self;
                match &finding.place {
                    Place::File => write!(f, "{}", file.display())?,
                    Place::Line(line) => write!(f, "{}:{line}", file.display())?,
                    Place::Environment(_) => write!(f, "environment")?,
                }
                if !finding.path.is_empty() {
                    write!(f, ": {}", finding.path)?;
                }
                write!(f, ": {}", finding.message)?;
                match &finding.place {
                    Place::Environment(variable) => write!(f, " (set by {variable})"),
                    Place::File | Place::Line(_) => Ok(()),
                }
            }
        }
        Line(self, file)
    }
}

/// One line for each finding.
pub(crate) fn lines(findings: &[Finding], file: &Path) -> String {
    findings.iter().map(|finding| finding.in_file(file).to_string()).collect::<Vec<_>>().join("\n")
}

/// The line of each key, by its dotted path; items of lists are `streams[0]`.
#[derive(Debug, Default)]
pub(crate) struct Lines(HashMap<String, usize>);

impl Lines {
    /// The line of a key or, where it does not stand in the file, of the table that it belongs into.
    pub(crate) fn of(&self, path: &str) -> Option<usize> {
        // What can be no key is shown only in part.
        let alike = self.0.iter().filter(|(key, _)| path.ends_with('…') && shown_name(key) == path);
        if let Some(line) = alike.map(|(_, line)| *line).min() {
            return Some(line);
        }
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// The line of exactly this key.
    pub(crate) fn exactly(&self, path: &str) -> Option<usize> {
        self.0.get(path).copied()
    }
}

/// Reads TOML.
///
/// # Errors
/// Every mistake in the syntax, with its line.
pub(crate) fn read(text: &str) -> Result<(Map<String, Value>, Lines), Vec<Finding>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, lines: Lines::default(), findings: Vec::new() };
    for error in errors {
        let line = error.span().map_or(Place::File, |span| Place::Line(reader.line(span.start)));
        // Advice on several lines would tear the list of findings.
        let message = format!("the TOML cannot be read: {}", error.message().replace('\n', "; "));
        reader.findings.push(Finding { place: line, path: String::new(), message });
    }
    let table = reader.table("", document.get_ref());
    if reader.findings.is_empty() { Ok((table, reader.lines)) } else { Err(reader.findings) }
}

struct Reader<'t> {
    text: &'t str,
    lines: Lines,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn line(&self, byte: usize) -> usize {
        let before = &self.text.as_bytes()[..byte.min(self.text.len())];
        memchr::memchr_iter(b'\n', before).count() + 1
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let line = self.line(key.span().start);
            self.lines.0.insert(path.clone(), line);
            map.insert(name.to_string(), self.value(&path, value));
        }
        map
    }

    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            // Dates have no form of their own in JSON.
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => self.out_of_range(path, value, &integer.to_string()),
            },
            DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
                Some(number) => Value::Number(number),
                None => self.out_of_range(path, value, float.as_str()),
            },
            DeValue::Array(items) => {
                let items = items.iter().enumerate().map(|(index, item)| {
                    let path = format!("{path}[{index}]");
                    let line = self.line(item.span().start);
                    self.lines.0.insert(path.clone(), line);
                    self.value(&path, item)
                });
                Value::Array(items.collect())
            }
            DeValue::Table(table) => Value::Object(self.table(path, table)),
        }
    }

    fn out_of_range(&mut self, path: &str, value: &Spanned<DeValue<'_>>, text: &str) -> Value {
        let place = Place::Line(self.line(value.span().start));
        // It may be a secret without its quotes.
        let message = if path.starts_with("plugin_config.") {
            "is not a number that can be used: write a finite one of 64 bits, or put it in quotes".to_owned()
        } else {
            format!("{text} is not a number that can be used: write a finite one of 64 bits")
        };
        self.findings.push(Finding { place, path: path.to_owned(), message });
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"type = "sink"
# a comment

[[streams]]
stream = "a"
topics = [
  "x",
  "y",
]

[[streams]]
stream = "b"

[plugin_config]
url = "http://localhost"
count = 0x1f
ratio = 1.5
since = 2026-01-02

[plugin_config.headers]
"X.Dotted" = "1"
Authorization = "é"
"é" = "1"
"#;

    #[test]
    fn each_key_has_its_line() {
        let (_, lines) = read(FILE).expect("valid TOML");
        for (path, line) in [
            ("type", 1),
            ("streams[0]", 4),
            ("streams[0].topics", 6),
            ("streams[0].topics[1]", 8),
            ("streams[1]", 11),
            ("streams[1].stream", 12),
            ("plugin_config", 14),
            ("plugin_config.url", 15),
            ("plugin_config.headers", 20),
            ("plugin_config.headers.X.Dotted", 21),
            ("plugin_config.headers.Authorization", 22),
        ] {
            assert_eq!(lines.exactly(path), Some(line), "{path}");
        }
    }

    #[test]
    fn what_is_missing_is_in_its_table() {
        let (_, lines) = read(FILE).expect("valid TOML");
        assert_eq!(lines.of("streams[1].topics"), Some(11));
        assert_eq!(lines.of("plugin_config.headers.None.Such"), Some(20));
        assert_eq!(lines.of("plugin_config.headers.…"), Some(23));
        assert_eq!(lines.of("key"), None);
    }

    #[test]
    fn values_become_json() {
        let (table, _) = read(FILE).expect("valid TOML");
        let config = &table["plugin_config"];
        assert_eq!(config["count"], 31);
        assert_eq!(config["ratio"], 1.5);
        assert_eq!(config["since"], "2026-01-02");
        assert_eq!(config["headers"]["Authorization"], "é");
        assert_eq!(table["streams"][0]["topics"], serde_json::json!(["x", "y"]));
    }

    #[test]
    fn mistakes_in_the_syntax_have_their_lines() {
        let findings = read("a = 1\nb = \nc = 2\na = 3\n").expect_err("two mistakes");
        let lines: Vec<_> = findings.iter().map(|finding| finding.place.clone()).collect();
        assert_eq!(lines, [Place::Line(2), Place::Line(4)], "{findings:?}");
        let findings = read("a = nan\nb = 99999999999999999999\n").expect_err("two numbers");
        assert_eq!(findings.len(), 2);
        assert!(findings[1].message.contains("99999999999999999999"), "{findings:?}");
    }

    #[test]
    fn findings_are_shown_with_their_place() {
        let mut finding = Finding {
            place: Place::Line(3),
            path: "plugin_config.timeout".to_owned(),
            message: "no".to_owned(),
        };
        let file = Path::new("dir/c.toml");
        assert_eq!(finding.in_file(file).to_string(), "dir/c.toml:3: plugin_config.timeout: no");
        finding.place = Place::Environment("X_TIMEOUT".to_owned());
        assert_eq!(
            finding.in_file(file).to_string(),
            "environment: plugin_config.timeout: no (set by X_TIMEOUT)"
        );
    }
}
