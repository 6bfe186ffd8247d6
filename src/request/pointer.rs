//! JSON pointers (RFC 6901), resolved without parsing the text into a tree.

use std::borrow::Cow;

use iggy_connector_sdk::shown;

use super::structure::Structure;

/// The reference tokens of a JSON pointer. Without tokens, it points to the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    tokens: Vec<String>,
    /// Whether `*` means the only member of an object.
    wild: bool,
}

impl Pointer {
    /// # Errors
    /// It does not begin with a slash, or has a tilde that is not followed by 0 or 1.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { tokens: Vec::new(), wild: false });
        }
        let Some(tokens) = text.strip_prefix('/') else {
            return Err(format!(
                "\"{}\" is no JSON pointer: write one such as \"/customer/id\"",
                shown(text, 60)
            ));
        };
        let unescaped = |token: &str| {
            let escapes = token.match_indices('~').all(|(at, _)| token[at + 1..].starts_with(['0', '1']));
            escapes.then(|| token.replace("~1", "/").replace("~0", "~")).ok_or_else(|| {
                format!(
                    "\"{}\" is no JSON pointer: write ~0 for a tilde and ~1 for a slash in a name",
                    shown(text, 60)
                )
            })
        };
        let tokens = tokens.split('/').map(unescaped).collect::<Result<_, _>>()?;
        Ok(Self { tokens, wild: false })
    }

    /// Like [`parse`](Self::parse), with `*` for the only member of an object, as in `/*/status`.
    pub(crate) fn parse_wild(text: &str) -> Result<Self, String> {
        Ok(Self { wild: true, ..Self::parse(text)? })
    }

    /// Returns the value it points to in a valid JSON text, as written there. If members have the same name, the first
    /// counts. For text that is not JSON, the result is meaningless.
    pub(crate) fn find<'j>(&self, json: &'j str) -> Option<&'j str> {
        let mut structure = Structure::of(json);
        let bytes = json.as_bytes();
        let mut at = skip_space(bytes, 0);
        for token in &self.tokens {
            at = match bytes.get(at)? {
                b'{' if self.wild && token == "*" => only_member(&mut structure, at)?,
                b'{' => member(json, &mut structure, at, token)?,
                b'[' => element(&mut structure, at, token)?,
                _ => return None,
            };
        }
        json.get(at..value_end(&mut structure, at)?)
    }
}

/// Decodes a JSON string, given as written, with its quotes.
pub(crate) fn unquoted(string: &str) -> Option<Cow<'_, str>> {
    let inside = string.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        // A lone surrogate is valid JSON, but not text.
        serde_json::from_str(string).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

/// Iterates over the elements of a JSON array, as written; `None` if it is not an array.
pub(crate) fn elements(array: &str) -> Option<impl Iterator<Item = &str>> {
    let bytes = array.as_bytes();
    let mut next = Some(skip_space(bytes, array.starts_with('[').then_some(1)?));
    next = next.filter(|at| bytes.get(*at) != Some(&b']'));
    let mut structure = Structure::of(array);
    Some(std::iter::from_fn(move || {
        let start = next?;
        let end = value_end(&mut structure, start)?;
        next = behind_comma(bytes, end);
        array.get(start..end)
    }))
}

/// Where the value of the only member begins.
fn only_member(structure: &mut Structure<'_>, object: usize) -> Option<usize> {
    let bytes = structure.bytes();
    let name = skip_space(bytes, object + 1);
    if bytes.get(name) != Some(&b'"') {
        return None;
    }
    let value = behind_colon(bytes, structure.string_end(name)?)?;
    // The next search reads the value again from its start.
    let end = value_end(&mut structure.clone(), value)?;
    behind_comma(bytes, end).is_none().then_some(value)
}

/// Where the value of a member begins.
fn member(json: &str, structure: &mut Structure<'_>, object: usize, name: &str) -> Option<usize> {
    let bytes = json.as_bytes();
    let mut at = skip_space(bytes, object + 1);
    while bytes.get(at) == Some(&b'"') {
        let end = structure.string_end(at)?;
        let value = behind_colon(bytes, end)?;
        if is_name(json.get(at..end)?, name) {
            return Some(value);
        }
        at = behind_comma(bytes, value_end(structure, value)?)?;
    }
    None
}

/// Whether a JSON string decodes to this text.
fn is_name(string: &str, name: &str) -> bool {
    string.strip_prefix('"').and_then(|string| string.strip_suffix('"')) == Some(name) && !name.contains('\\')
        || string.contains('\\') && unquoted(string).is_some_and(|key| key == name)
}

/// Where an element begins.
fn element(structure: &mut Structure<'_>, array: usize, index: &str) -> Option<usize> {
    if index.len() > 1 && index.starts_with('0') || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bytes = structure.bytes();
    let mut at = skip_space(bytes, array + 1);
    if bytes.get(at) == Some(&b']') {
        return None;
    }
    for _ in 0..index.parse::<usize>().ok()? {
        at = behind_comma(bytes, value_end(structure, at)?)?;
    }
    Some(at)
}

/// Where the value of a member begins, after its name.
fn behind_colon(bytes: &[u8], at: usize) -> Option<usize> {
    let at = skip_space(bytes, at);
    (bytes.get(at) == Some(&b':')).then(|| skip_space(bytes, at + 1))
}

/// Where the next value begins, if a comma says that there is one.
fn behind_comma(bytes: &[u8], at: usize) -> Option<usize> {
    let at = skip_space(bytes, at);
    (bytes.get(at) == Some(&b',')).then(|| skip_space(bytes, at + 1))
}

/// Where a value ends.
fn value_end(structure: &mut Structure<'_>, start: usize) -> Option<usize> {
    let bytes = structure.bytes();
    match bytes.get(start)? {
        b'"' => structure.string_end(start),
        b'{' | b'[' => structure.container_end(start),
        _ => {
            let rest = &bytes[start..];
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b':');
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            (length > 0).then_some(start + length)
        }
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use arbtest::{
        arbitrary::{self, Unstructured},
        arbtest,
    };
    use serde_json::Value;

    use super::*;

    /// Any JSON of at most this depth.
    fn json(u: &mut Unstructured<'_>, depth: usize) -> arbitrary::Result<Value> {
        Ok(match u.int_in_range(0..=if depth == 0 { 3 } else { 5 })? {
            0 => Value::Null,
            1 => u.arbitrary::<bool>()?.into(),
            2 => u.arbitrary::<i64>()?.into(),
            3 => u.arbitrary::<String>()?.into(),
            4 => {
                let items = u.int_in_range(0..=5)?;
                Value::Array((0..items).map(|_| json(u, depth - 1)).collect::<Result<_, _>>()?)
            }
            _ => {
                let members = u.int_in_range(0..=5)?;
                let member = |_| Ok((name(u)?, json(u, depth - 1)?));
                Value::Object((0..members).map(member).collect::<Result<_, _>>()?)
            }
        })
    }

    fn name(u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
        let short = |name: String| name.chars().take(3).collect();
        Ok(match u.int_in_range(0..=4)? {
            0 => "a".to_owned(),
            1 => "b/~".to_owned(),
            // Looks like an escape.
            2 => "~1".to_owned(),
            3 => String::new(),
            _ => short(u.arbitrary()?),
        })
    }

    /// Every pointer into a value, with what it points to.
    fn pointers<'v>(value: &'v Value, pointer: String, all: &mut Vec<(String, &'v Value)>) {
        let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    pointers(item, format!("{pointer}/{index}"), all);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    pointers(member, format!("{pointer}/{}", escaped(name)), all);
                }
            }
            _ => {}
        }
        all.push((pointer, value));
    }

    #[test]
    fn every_place_is_found_as_the_parser_finds_it() {
        arbtest(|u| {
            let value = json(u, 4)?;
            let pretty = u.arbitrary()?;
            let text =
                if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.expect("JSON");
            let mut all = Vec::new();
            pointers(&value, String::new(), &mut all);
            for (pointer, expected) in all {
                let found = Pointer::parse(&pointer).expect("a pointer").find(&text);
                let found: Value = serde_json::from_str(found.expect("it is there")).expect("JSON");
                assert_eq!(&found, expected, "{pointer} in {text}");
                for none in ["/no such", "/99", "/00", "/-"] {
                    let pointer = format!("{pointer}{none}");
                    let found = Pointer::parse(&pointer).expect("a pointer").find(&text);
                    assert_eq!(found.is_some(), value.pointer(&pointer).is_some(), "{pointer} in {text}");
                }
            }
            Ok(())
        })
        .size_min(200)
        .budget_ms(300);
    }

    #[test]
    fn any_text_is_safe() {
        arbtest(|u| {
            let length = u.int_in_range(0..=20)?;
            let text = (0..length).map(|_| u.choose(b"{}[],:\"\\0a ").map(|byte| char::from(*byte)));
            let text = text.collect::<Result<String, _>>()?;
            for pointer in ["", "/a", "/0", "/0/a/1", "/a/a"] {
                let _ = Pointer::parse(pointer).expect("a pointer").find(&text);
            }
            Ok(())
        });
    }

    #[test]
    fn wrong_pointers_are_told() {
        for wrong in ["a", "a/b", "/~", "/a~2"] {
            assert!(Pointer::parse(wrong).is_err(), "{wrong}");
        }
    }
}
