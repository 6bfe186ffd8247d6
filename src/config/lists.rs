//! Keys that hold lists.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde_json::Value;

use super::{
    declared::Shape,
    problem::shown_value,
    reader::{Reader, as_text},
};
use crate::secret::Text;

impl Reader<'_> {
    /// A list of HTTP status codes, 200 to 599, and ranges of them, such as `"202-204"`. Empty only where `may_be_empty`.
    pub(super) fn status_codes(
        &mut self,
        key: &'static str,
        may_be_empty: bool,
        default: &[u16],
    ) -> BTreeSet<u16> {
        let codes = self.read_as(key, Shape::StatusCodes, |value| {
            let Some(codes) = value.as_array() else {
                let value = shown_value(value);
                return Err(format!("{value} is not a list of status codes: write one such as [200, 202]"));
            };
            if codes.is_empty() && !may_be_empty {
                return Err(
                    "[] would make every answer a failure: name at least one status code, such as [200, 202]"
                        .to_owned(),
                );
            }
            Ok(codes.clone())
        });
        // A longer default is described in words.
        if default.len() <= 10 {
            self.default(format_args!("{default:?}"));
        }
        let Some(codes) = codes else { return default.iter().copied().collect() };
        let mut read = BTreeSet::new();
        for (index, code) in codes.iter().enumerate() {
            match range(code) {
                Some(range) => read.extend(range),
                None => self.problem(
                    &format!("{key}[{index}]"),
                    format!(
                        "{} is not a status code from 200 to 599, nor a range of them such as \"202-204\"",
                        shown_value(code)
                    ),
                ),
            }
        }
        read
    }

    /// Strings with unresolved references: a list, or a single one. An environment override of a list arrives as a string
    /// that contains JSON. `check` gets each with its path, such as `key[1]`.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        mut check: impl FnMut(&str, &Text) -> Result<(), String>,
    ) -> Option<Vec<Text>> {
        let value = self.take_unresolved(key);
        self.declare(|key| key.shape = Shape::Texts);
        let value = match value? {
            Value::String(json) if json.trim_start().starts_with('[') => {
                serde_json::from_str(&json).unwrap_or(Value::String(json))
            }
            value => value,
        };
        let (values, is_list) = match value {
            Value::Array(values) => (values, true),
            value => (vec![value], false),
        };
        let mut texts = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let path = if is_list { format!("{key}[{index}]") } else { key.to_owned() };
            match as_text(value).and_then(|text| check(&path, &text).map(|()| text)) {
                Ok(text) => texts.push(text),
                Err(why) => self.problem(&path, why),
            }
        }
        Some(texts)
    }
}

/// Returns the status codes of a list item: a number, or text such as `202-204`.
fn range(item: &Value) -> Option<RangeInclusive<u16>> {
    let (first, last) = match item {
        Value::String(text) => {
            let (first, last) = text.split_once('-')?;
            let code = |digits: &str| digits.trim().parse().ok().filter(|_| !digits.contains('+'));
            (code(first)?, code(last)?)
        }
        number => {
            let code = u16::try_from(number.as_u64()?).ok()?;
            (code, code)
        }
    };
    (200 <= first && first <= last && last <= 599).then_some(first..=last)
}
