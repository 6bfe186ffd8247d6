//! Reads a TOML file as JSON, with the location of each key.

use std::{collections::HashMap, fmt, ops::Range, path::Path};

use iggy_connector_http_sink::config::shown_name;
use serde::Serialize;
use serde_json::{Map, Number, Value};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where a mistake has to be corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Location {
    /// The file as a whole: something that is missing has no line.
    File,
    /// This line of the file, counted from 1.
    Line(usize),
    /// This environment variable.
    Environment(String),
}

/// A mistake or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Where.
    pub(crate) location: Location,
    /// The dotted path of the key; empty for the file as a whole.
    pub(crate) path: String,
    /// The given value, what is allowed, and what to do.
    pub(crate) message: String,
    /// The part of the line to show, if it has one that may be shown.
    pub(crate) excerpt: Option<Excerpt>,
}

/// A line of the file without possible secrets, with the marked part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// Counted from 1, in characters.
    pub(crate) column: usize,
    pub(crate) text: String,
    /// In bytes of the text.
    pub(crate) marked: Range<usize>,
}

impl Finding {
    /// The finding as one line: `config.toml:12: plugin_config.timeout: …`.
    pub(crate) fn in_file<'a>(&'a self, file: &'a Path) -> impl fmt::Display + 'a {
        struct Line<'a>(&'a Finding, &'a Path);
        impl fmt::Display for Line<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self(finding, file) = self;
                match &finding.location {
                    Location::File => write!(f, "{}", file.display())?,
                    Location::Line(line) => write!(f, "{}:{line}", file.display())?,
                    Location::Environment(_) => write!(f, "environment")?,
                }
                if !finding.path.is_empty() {
                    write!(f, ": {}", finding.path)?;
                }
                write!(f, ": {}", finding.message)?;
                match &finding.location {
                    Location::Environment(variable) => write!(f, " (set by {variable})"),
                    Location::File | Location::Line(_) => Ok(()),
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

/// The positions of a key and its value in the file, in bytes.
#[derive(Debug, Clone)]
struct Spans {
    line: usize,
    key: Range<usize>,
    value: Range<usize>,
    /// Whether it contains no other keys.
    is_leaf: bool,
}

/// What a finding points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

/// The position of each key, by its dotted path; items of lists are `streams[0]`.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    text: String,
    keys: HashMap<String, Spans>,
}

impl Lines {
    /// Returns the position of a key or, if it is not in the file, of the table that it belongs to; and whether it is the key
    /// itself.
    fn find(&self, path: &str) -> Option<(&Spans, bool)> {
        // A name that cannot be a key is only shown in part.
        let alike = self.keys.iter().filter(|(key, _)| path.ends_with('…') && shown_name(key) == path);
        if let Some(spans) = alike.map(|(_, spans)| spans).min_by_key(|spans| spans.line) {
            return Some((spans, false));
        }
        let (mut path, mut is_it) = (path, true);
        loop {
            if let Some(spans) = self.keys.get(path) {
                return Some((spans, is_it));
            }
            path = &path[..path.rfind(['.', '['])?];
            is_it = false;
        }
    }

    /// A path as it is spelled in the file: names of headers do not differ by case.
    pub(crate) fn spelled(&self, path: &str) -> String {
        let mut alike =
            self.keys.keys().filter(|key| path.contains("headers.") && key.eq_ignore_ascii_case(path));
        if self.keys.contains_key(path) {
            path.to_owned()
        } else {
            alike.next().map_or(path, |key| key).to_owned()
        }
    }

    /// Returns the line of a key or, if it is not in the file, of the table that it belongs to.
    pub(crate) fn of(&self, path: &str) -> Option<usize> {
        self.find(path).map(|(spans, _)| spans.line)
    }

    /// The line of exactly this key.
    pub(crate) fn exactly(&self, path: &str) -> Option<usize> {
        self.keys.get(path).map(|spans| spans.line)
    }

    /// Returns the line of a key with a mark under the key or its value or, if it is not there, under its table. Values whose
    /// paths are not `public` are left out.
    pub(crate) fn excerpt(&self, path: &str, part: Part, public: impl Fn(&str) -> bool) -> Option<Excerpt> {
        if path.ends_with('…') {
            // A part of the key may be a secret that was put there by mistake.
            return None;
        }
        let (spans, is_it) = self.find(path)?;
        let target = if is_it && part == Part::Value { &spans.value } else { &spans.key };
        let start = self.text[..target.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let on_line = |span: &Range<usize>| span.start < end && span.end > start;
        // The text after the last of them is a comment, or closes a list.
        let leaves = self.keys.values().filter(|spans| spans.is_leaf).map(|spans| &spans.value);
        let all = self.keys.values().map(|spans| &spans.key).chain(leaves);
        let last = all.chain([target]).filter(|span| on_line(span)).map(|span| span.end.min(end)).max()?;
        let behind = self.text[last..end].trim_end();
        let behind = behind.split('#').next().unwrap_or_default().trim_end();
        let mut hidden: Vec<Range<usize>> = self
            .keys
            .iter()
            .filter(|(path, spans)| spans.is_leaf && on_line(&spans.value) && !public(path))
            .map(|(_, spans)| spans.value.start.max(start)..spans.value.end.min(last))
            .collect();
        hidden.sort_by_key(|span| span.start);
        let mut shown =
            Shown { text: String::new(), marked: None, target: target.start..target.end.min(end) };
        let mut at = start;
        for span in hidden.into_iter().chain(std::iter::once(last..last)) {
            let span = span.start.max(at)..span.end.max(at);
            shown.add(at..span.start, &self.text[at..span.start]);
            if !span.is_empty() {
                shown.add(span.clone(), HIDDEN);
            }
            at = span.end;
        }
        shown.text.push_str(behind);
        let column = self.text[start..target.start].chars().count() + 1;
        let marked = shown.marked.unwrap_or(shown.text.len()..shown.text.len());
        Some(Excerpt { column, text: shown.text, marked })
    }
}

/// Stands for what may be a secret.
const HIDDEN: &str = "…";

/// A line that is built piece by piece.
struct Shown {
    text: String,
    marked: Option<Range<usize>>,
    /// What is to be marked, in bytes of the file.
    target: Range<usize>,
}

impl Shown {
    /// Adds what is shown for these bytes of the file.
    fn add(&mut self, bytes: Range<usize>, shown: &str) {
        let (start, end) = (self.target.start.max(bytes.start), self.target.end.min(bytes.end));
        if start < end {
            let from = self.text.len();
            let part = if shown.len() == bytes.len() {
                from + start - bytes.start..from + end - bytes.start
            } else {
                from..from + shown.len()
            };
            self.marked = Some(self.marked.take().map_or(part.clone(), |marked| marked.start..part.end));
        }
        self.text.push_str(shown);
    }
}

/// Returns the line of a syntax error. The text after its first `=` may be a secret.
fn of_syntax(text: &str, at: usize) -> Excerpt {
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    let line = text[start..end].trim_end();
    let column = text[start..at].chars().count() + 1;
    let shown = match line.find('=') {
        Some(equals) if line.len() > equals + 1 => format!("{} {HIDDEN}", &line[..=equals]),
        None if !line.trim_start().starts_with('[') => HIDDEN.to_owned(),
        _ => line.to_owned(),
    };
    let from = (at - start).min(shown.len());
    let from = (0..=from).rev().find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
    let marked = from..shown[from..].chars().next().map_or(from, |first| from + first.len_utf8());
    Excerpt { column, text: shown, marked }
}

/// Reads TOML.
///
/// # Errors
/// Every mistake in the syntax, with its line.
pub(crate) fn read(text: &str) -> Result<(Map<String, Value>, Lines), Vec<Finding>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let lines = Lines { text: text.to_owned(), keys: HashMap::new() };
    let mut reader = Reader { text, lines, findings: Vec::new() };
    let mut repeated = 0;
    for error in errors {
        if let Some(at) = error.span().map(|span| span.start).filter(|_| error.message() == "duplicate key") {
            // All keys of a repeated table are repeated, too: that is one mistake.
            if at < repeated {
                continue;
            }
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            if text[line..].trim_start().starts_with('[') {
                repeated = text[at..].find("\n[").map_or(text.len(), |next| at + next);
            }
        }
        let location = error.span().map_or(Location::File, |span| Location::Line(reader.line(span.start)));
        // Advice on several lines would break the list of findings.
        let message = format!("the TOML cannot be read: {}", error.message().replace('\n', "; "));
        let excerpt = error.span().map(|span| of_syntax(text, span.start));
        reader.findings.push(Finding { location, path: String::new(), message, excerpt });
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

    fn add(&mut self, path: &str, key: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let is_leaf = !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        let spans = Spans { line: self.line(key.start), key, value: value.span(), is_leaf };
        self.lines.keys.insert(path.to_owned(), spans);
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Map<String, Value> {
        let mut map = Map::new();
        for (key, value) in table {
            let name = key.get_ref();
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            self.add(&path, key.span(), value);
            map.insert(name.to_string(), self.value(&path, value));
        }
        map
    }

    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            // JSON has no dates.
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
                    self.add(&path, item.span(), item);
                    self.value(&path, item)
                });
                Value::Array(items.collect())
            }
            DeValue::Table(table) => Value::Object(self.table(path, table)),
        }
    }

    fn out_of_range(&mut self, path: &str, value: &Spanned<DeValue<'_>>, text: &str) -> Value {
        let location = Location::Line(self.line(value.span().start));
        // It may be a secret without its quotes.
        let message = if path.starts_with("plugin_config.") {
            "is not a number that can be used: write a finite one of 64 bits, or put it in quotes".to_owned()
        } else {
            format!("{text} is not a number that can be used: write a finite one of 64 bits")
        };
        let is_public = !path.starts_with("plugin_config.");
        let excerpt = self.lines.excerpt(path, Part::Value, |_| is_public);
        self.findings.push(Finding { location, path: path.to_owned(), message, excerpt });
        Value::Null
    }
}

#[cfg(test)]
mod tests;
