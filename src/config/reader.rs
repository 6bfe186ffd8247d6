//! Takes keys out of a table one by one, and records everything that is wrong with them.
//!
//! Reading a key declares it: a key that is never read is unknown, and is reported with the most similar declared one.

use std::{cell::RefCell, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use serde_json::{Map, Value};
use strum::VariantNames;

use super::{
    declared::{Declared, Shape},
    problem::{self, Problem, shown_name, shown_value},
    typo::{nearest, unknown_key},
    units,
};
use crate::secret::Text;

/// A table that is being read. All problems go to one list, shared by all tables.
pub(super) struct Reader<'p> {
    path: String,
    left: Map<String, Value>,
    known: Vec<&'static str>,
    /// The resolved values of references, with the configured text, which problems show instead.
    secrets: Vec<(&'static str, String, Text)>,
    problems: &'p RefCell<Vec<Problem>>,
    declared: &'p RefCell<Vec<Declared>>,
}

impl<'p> Reader<'p> {
    pub(super) fn new(
        path: &str,
        table: Map<String, Value>,
        problems: &'p RefCell<Vec<Problem>>,
        declared: &'p RefCell<Vec<Declared>>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            left: table,
            known: Vec::new(),
            secrets: Vec::new(),
            problems,
            declared,
        }
    }

    /// Adds to the declaration of the key that was read last.
    pub(super) fn declare(&self, more: impl FnOnce(&mut Declared)) {
        if let Some(last) = self.declared.borrow_mut().last_mut() {
            more(last);
        }
    }

    /// Declares the default of the key that was read last, as TOML.
    pub(super) fn default(&self, default: impl Display) {
        self.declare(|key| key.default = Some(default.to_string()));
    }

    /// Reports a problem of `key`.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        let mut message = message.into();
        for (_, resolved, configured) in self.secrets.iter().filter(|(secret, ..)| *secret == key) {
            let escaped = Value::String(resolved.clone()).to_string();
            for shown in [escaped.trim_matches('"'), resolved].into_iter().filter(|shown| !shown.is_empty()) {
                message = message.replace(shown, &configured.to_string());
            }
        }
        self.problems.borrow_mut().push(Problem { path: format!("{}.{key}", self.path), message });
    }

    /// Whether nothing is wrong with any key of this table.
    pub(super) fn has_no_problem(&self) -> bool {
        let table = format!("{}.", self.path);
        !self.problems.borrow().iter().any(|problem| problem.path.starts_with(&table))
    }

    /// Whether something is wrong with `key`, or with an item of it.
    pub(super) fn has_problem(&self, key: &str) -> bool {
        let path = format!("{}.{key}", self.path);
        let of_item = format!("{path}[");
        self.problems.borrow().iter().any(|Problem { path: at, .. }| *at == path || at.starts_with(&of_item))
    }

    /// Takes a key that must not be there, and reports that with the message, if given.
    pub(super) fn misplaced(&mut self, key: &'static str, message: Option<String>) {
        self.known.push(key);
        let is_given = self.left.shift_remove(key).is_some_and(|value| !value.is_null());
        if let Some(message) = message.filter(|_| is_given) {
            self.problem(key, message);
        }
    }

    /// Takes a key's value, with references to secrets resolved; `null` counts as not given.
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let value = self.take_unresolved(key);
        self.declare(|key| key.can_be_secret = false);
        match value? {
            Value::String(configured) => {
                match Text::parse(&configured).and_then(|text| Ok((text.resolve()?, text))) {
                    Ok((resolved, text)) => {
                        if text.is_secret() {
                            self.secrets.push((key, resolved.clone(), text));
                        }
                        Some(Value::String(resolved))
                    }
                    Err(why) => {
                        self.problem(key, why);
                        None
                    }
                }
            }
            value => Some(value),
        }
    }

    /// Whether a key that was not taken yet is given.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|value| !value.is_null())
    }

    /// Takes a key's value as it stands; `null` counts as not given.
    pub(super) fn take_unresolved(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let path = format!("{}.{key}", self.path);
        self.declared.borrow_mut().push(Declared {
            path,
            shape: Shape::Any,
            choices: &[],
            default: None,
            can_be_secret: true,
        });
        self.left.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Reads a key with `read`; a wrong value is reported and counts as not given.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        read(&value).map_err(|why| self.problem(key, why)).ok()
    }

    /// The same for a key of this shape.
    pub(super) fn read_as<T>(
        &mut self,
        key: &'static str,
        shape: Shape,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key);
        self.declare(|key| key.shape = shape);
        read(&value?).map_err(|why| self.problem(key, why)).ok()
    }

    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let value = self.read_as(key, Shape::Boolean, |value| match value {
            Value::Bool(yes) => Ok(*yes),
            other => Err(format!("{} is neither true nor false", shown_value(other))),
        });
        self.default(default);
        value.unwrap_or(default)
    }

    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.read_as(key, Shape::Duration, units::duration);
        self.default(format_args!("\"{}\"", humantime::format_duration(default)));
        value.unwrap_or(default)
    }

    /// A duration that must not be zero.
    pub(super) fn positive_duration(&mut self, key: &'static str, default: Duration) -> Duration {
        let value = self.read_as(key, Shape::Duration, |value| match units::duration(value)? {
            Duration::ZERO => Err(format!(
                "{} leaves no time at all: write a duration above zero, such as \"30s\"",
                shown_value(value)
            )),
            duration => Ok(duration),
        });
        self.default(format_args!("\"{}\"", humantime::format_duration(default)));
        value.unwrap_or(default)
    }

    pub(super) fn size(&mut self, key: &'static str, default: u64) -> u64 {
        let value = self.read_as(key, Shape::Size, units::size);
        self.default(default);
        value.unwrap_or(default)
    }

    pub(super) fn integer<T>(&mut self, key: &'static str, allowed: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<u64> + PartialOrd + Display + Copy,
    {
        let bounds = Shape::Integer { least: allowed.start().to_string(), most: allowed.end().to_string() };
        let value = self.read_as(key, bounds, |value| {
            // Digits that a number would change, such as 007, arrive from the environment as text.
            let digits = value.as_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            value
                .as_u64()
                .or_else(|| digits?.parse().ok())
                .and_then(|number| T::try_from(number).ok())
                .filter(|number| allowed.contains(number))
                .ok_or_else(|| {
                    let value = shown_value(value);
                    format!("{value} is not a whole number from {} to {}", allowed.start(), allowed.end())
                })
        });
        self.default(default);
        value.unwrap_or(default)
    }

    /// One of the names of `T`, spelled exactly.
    pub(super) fn choice<T: FromStr + VariantNames + Display>(&mut self, key: &'static str, default: T) -> T {
        let value = self.optional_choice(key);
        self.default(format_args!("\"{default}\""));
        value.unwrap_or(default)
    }

    /// One of the names of `T`, that may be missing.
    pub(super) fn optional_choice<T: FromStr + VariantNames>(&mut self, key: &'static str) -> Option<T> {
        let value = self.read(key, |value| {
            let name = value.as_str().unwrap_or_default();
            name.parse().map_err(|_| {
                // `1.2` without quotes, or `TLSv1.2`.
                let written = value.as_str().map_or_else(|| value.to_string(), str::to_lowercase);
                let inside = || T::VARIANTS.iter().copied().find(|choice| written.contains(choice));
                let near = nearest(name, T::VARIANTS)
                    .or_else(inside)
                    .map_or(String::new(), |near| format!("; did you mean \"{near}\"?"));
                let value = shown_value(value);
                format!("{value} is not known here: write one of \"{}\"{near}", T::VARIANTS.join("\", \""))
            })
        });
        self.declare(|key| (key.shape, key.choices) = (Shape::Choice, T::VARIANTS));
        value
    }

    /// A string without references, or with references that are resolved once.
    pub(super) fn string(&mut self, key: &'static str, default: &str) -> String {
        let value = self.optional_string(key);
        self.default(format_args!("\"{default}\""));
        value.unwrap_or_else(|| default.to_owned())
    }

    /// A string that may be missing.
    pub(super) fn optional_string(&mut self, key: &'static str) -> Option<String> {
        self.read_as(key, Shape::Text, |value| as_text(value)?.resolve())
    }

    /// A string that must be given and is not empty.
    pub(super) fn required_string(&mut self, key: &'static str, hint: &str) -> Option<String> {
        let value = self.optional_string(key);
        if value.as_ref().is_none_or(String::is_empty) && !self.has_problem(key) {
            self.problem(key, format!("is required and not given: write {hint}"));
        }
        value.filter(|value| !value.is_empty())
    }

    /// A string that may be missing and keeps its references.
    pub(super) fn optional_text(
        &mut self,
        key: &'static str,
        check: impl FnOnce(&Text) -> Result<(), String>,
    ) -> Option<Text> {
        let value = self.take_unresolved(key);
        self.declare(|key| key.shape = Shape::Text);
        let value = value?;
        let text = as_text(&value).and_then(|text| check(&text).map(|()| text));
        text.map_err(|why| self.problem(key, why)).ok()
    }

    /// A number above zero that may be missing.
    pub(super) fn optional_rate(&mut self, key: &'static str) -> Option<f64> {
        self.read_as(key, Shape::Rate, |value| {
            let size = units::size(value).ok().and_then(|size| u32::try_from(size).ok()).map(f64::from);
            let text = || value.as_str()?.trim().parse().ok();
            value.as_f64().or(size).or_else(text).filter(|rate| *rate > 0.0 && rate.is_finite()).ok_or_else(
                || {
                    let value = shown_value(value);
                    format!(
                        "{value} is not a rate: write a number above zero, or leave the key out for no limit"
                    )
                },
            )
        })
    }

    /// Any value; the caller reports what is wrong with it by [`Self::problem`].
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.take(key)
    }

    /// Reads a table with its own keys, together with the flat keys `{key}_…` that override them. `None` if there is neither.
    /// Must be called after all flat keys of this table were read.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Reader<'p>> {
        let named = self.left.get(key).is_some_and(|value| !value.is_null());
        let FreeTable { entries, overrides } = self.free_table(key);
        // If it is not a table, none of its keys is missing.
        let given = named && !self.has_problem(key) || !overrides.is_empty();
        let mut table: Map<String, Value> = entries.into_iter().collect();
        table.extend(overrides);
        given.then(|| Reader::new(&format!("{}.{key}", self.path), table, self.problems, self.declared))
    }

    /// A string that must be given and pass `check`, with unresolved references. Empty if there is a problem.
    pub(super) fn required_text(
        &mut self,
        key: &'static str,
        hint: &str,
        check: impl FnOnce(&Text) -> Result<(), String>,
    ) -> Text {
        let value = self.take_unresolved(key);
        self.declare(|key| key.shape = Shape::Text);
        let text = match value {
            None => Err(format!("is required and not given: write {hint}")),
            Some(value) => as_text(&value),
        };
        text.and_then(|text| check(&text).map(|()| text)).unwrap_or_else(|why| {
            self.problem(key, why);
            Text::default()
        })
    }

    /// Reads a table with free keys, together with the flat keys `{key}_…` of the runtime's environment overrides. Must be
    /// called after all flat keys of this table were read.
    pub(super) fn free_table(&mut self, key: &'static str) -> FreeTable {
        let mut table = FreeTable::default();
        let value = self.take_unresolved(key);
        self.declare(|key| key.shape = Shape::Table);
        match value {
            None => {}
            Some(Value::Object(entries)) => table.entries.extend(entries),
            // An override of the whole table arrives as a string that holds JSON.
            Some(Value::String(json)) => match serde_json::from_str(&json) {
                Ok(Value::Object(entries)) => table.entries.extend(entries),
                read => {
                    // Neither the text nor the parser's error is shown: they may contain a secret.
                    let what = match read {
                        Err(why) if json.trim_start().starts_with('{') => {
                            format!("text that breaks off as JSON at column {}", why.column())
                        }
                        _ => "text".to_owned(),
                    };
                    self.problem(key, format!("is {what}, {}", not_a_table(&self.path, key)));
                }
            },
            Some(other) => {
                self.problem(key, format!("is {}, {}", problem::kind(&other), not_a_table(&self.path, key)));
            }
        }
        let prefix = format!("{key}_");
        let flat: Vec<String> = self.left.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        for name in flat {
            if let Some(value) = self.left.shift_remove(&name) {
                table.overrides.push((name[prefix.len()..].to_owned(), value));
            }
        }
        table
    }

    /// Reports every key that was not read. Returns those that were.
    pub(super) fn finish(mut self, ignored: &[&str]) -> Vec<&'static str> {
        for (key, _) in std::mem::take(&mut self.left) {
            if !ignored.contains(&key.as_str()) {
                self.problem(&shown_name(&key), unknown_key(&key, &self.known));
            }
        }
        self.known
    }
}

fn not_a_table(path: &str, key: &str) -> String {
    format!("and not a table: write [{path}.{key}] with one line a key")
}

/// A table whose keys the user chooses.
#[derive(Default)]
pub(super) struct FreeTable {
    /// The table as configured.
    pub(super) entries: Vec<(String, Value)>,
    /// What the environment overrides: the rest of each flat key, and its value.
    pub(super) overrides: Vec<(String, Value)>,
}

/// A string; a number or boolean counts as one, since environment overrides arrive as such.
pub(super) fn as_text(value: &Value) -> Result<Text, String> {
    match value {
        Value::String(text) => Text::parse(text),
        Value::Number(_) | Value::Bool(_) => Text::parse(&value.to_string()),
        // The value itself is not shown: it may hold a credential.
        Value::Array(_) => Err("a list stands where a string belongs: put one value in quotes".to_owned()),
        Value::Object(_) => Err("a table stands where a string belongs: put one value in quotes".to_owned()),
        Value::Null => Err("null stands where a string belongs: put a value in quotes".to_owned()),
    }
}
