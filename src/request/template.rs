//! Parses the language of placeholders: text with `{stream}`, `{payload:/id|none}` and the like.

use std::fmt;

use iggy_connector_sdk::shown;

use super::{escape::Context, pointer::Pointer};
use crate::secret::{Text, TextPart};

/// What a template is for: which contexts there are in it, and how strict it is with braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A key: every brace begins a placeholder.
    Key,
    /// A URL. A brace that begins no placeholder is literal, as in a header.
    Url,
    /// The value of a header.
    Header,
    /// JSON texts, whole or in part. A brace that is not followed by a letter is literal, as in line protocol and text.
    Json,
    /// Line protocol of `InfluxDB`.
    Line,
    /// Any text.
    Text,
}

/// Text with placeholders.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl fmt::Debug for Template {
    /// Without its text, which may contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template of {} parts", self.parts.len())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    /// References to secrets, which are re-read from time to time.
    Secret(Text),
    Slot(Slot),
}

/// A placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// As written, with its braces.
    pub(crate) written: String,
    pub(crate) field: Field,
    /// The default for messages that lack the field, already escaped.
    pub(crate) default: Option<String>,
    pub(crate) context: Context,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Stream,
    Topic,
    Partition,
    Offset,
    Id,
    Timestamp(TimestampForm),
    Header(String),
    /// The whole payload.
    Payload,
    /// A placeholder.
    Pointer(Pointer),
    IdempotencyKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampForm {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
    Rfc3339,
}

/// All placeholders, for the message about an unknown one.
const ALL: &str = "{stream}, {topic}, {partition}, {offset}, {id}, {timestamp}, {header:name}, {payload}, {payload:/json/pointer} or \
                   {idempotency_key}";

const NAMES: [&str; 9] =
    ["stream", "topic", "partition", "offset", "id", "timestamp", "header", "payload", "idempotency_key"];

impl Template {
    /// Parses configured text. The value of a secret is never interpreted as a placeholder.
    ///
    /// # Errors
    /// Every invalid brace and placeholder, without the values of secrets.
    pub(crate) fn parse(text: &Text, kind: Kind) -> Result<Self, String> {
        let mut parser = Parser {
            kind,
            parts: Vec::new(),
            literal: String::new(),
            quoted: false,
            escaped: false,
            errors: Vec::new(),
        };
        for part in text.parts() {
            match part {
                TextPart::Literal(literal) => parser.text(literal),
                TextPart::Secret(secret) => {
                    parser.end_literal();
                    parser.parts.push(Part::Secret(secret));
                }
            }
        }
        parser.end_literal();
        if parser.errors.is_empty() {
            Ok(Self { parts: parser.parts })
        } else {
            Err(parser.errors.join("; and "))
        }
    }

    /// Text without placeholders.
    pub(crate) fn literal(text: &str) -> Self {
        let part = Part::Literal(text.to_owned());
        Self { parts: Some(part).filter(|_| !text.is_empty()).into_iter().collect() }
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.parts.iter().filter_map(|part| match part {
            Part::Slot(slot) => Some(slot),
            Part::Literal(_) | Part::Secret(_) => None,
        })
    }

    /// Whether it contains the request's idempotency key.
    pub(crate) fn has_idempotency_key(&self) -> bool {
        self.slots().any(|slot| slot.field == Field::IdempotencyKey)
    }

    /// Returns the template with the current values of its secrets.
    ///
    /// # Errors
    /// A secret that cannot be read.
    pub(crate) fn resolved(self) -> Result<Self, String> {
        let resolve = |part| match part {
            Part::Secret(secret) => secret.resolve().map(Part::Literal),
            part => Ok(part),
        };
        Ok(Self { parts: self.parts.into_iter().map(resolve).collect::<Result<_, _>>()? })
    }
}

struct Parser {
    kind: Kind,
    parts: Vec<Part>,
    literal: String,
    /// Whether the next character is in quotes, if that matters.
    quoted: bool,
    /// Whether it follows a backslash.
    escaped: bool,
    errors: Vec<String>,
}

impl Parser {
    fn text(&mut self, text: &str) {
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            self.push(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("{{") {
                self.push("{");
                rest = &rest[2..];
                continue;
            }
            let Some(name) = NAMES.into_iter().find(|name| begins(rest, name)) else {
                self.errors.extend(self.check_brace(rest).err());
                self.push("{");
                rest = &rest[1..];
                continue;
            };
            let Some(end) = rest.find('}') else {
                // The text after it may be a credential.
                self.errors.push(format!("\"{{{name}\" stands without its \"}}\""));
                return;
            };
            let slot = self.slot(&rest[..=end], name);
            self.errors.extend(slot.err());
            rest = &rest[end + 1..];
        }
        self.push(rest);
    }

    /// Checks a brace that begins no placeholder.
    fn check_brace(&self, rest: &str) -> Result<(), String> {
        let strict = match self.kind {
            Kind::Url | Kind::Header => false,
            Kind::Json | Kind::Line | Kind::Text => {
                rest[1..].starts_with(|next: char| next.is_ascii_alphabetic())
            }
            Kind::Key => true,
        };
        match rest.find('}') {
            _ if !strict => Ok(()),
            Some(end) => {
                Err(format!("{} is no placeholder: write {ALL}, or {{{{ for a brace", &rest[..=end]))
            }
            None => Err(format!("\"{rest}\" has a \"{{\" without its \"}}\"")),
        }
    }

    fn push(&mut self, literal: &str) {
        self.literal.push_str(literal);
        if matches!(self.kind, Kind::Json | Kind::Line) {
            for character in literal.chars() {
                match character {
                    _ if self.escaped => self.escaped = false,
                    '\\' => self.escaped = true,
                    '"' => self.quoted = !self.quoted,
                    _ => {}
                }
            }
        }
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.parts.push(Part::Literal(std::mem::take(&mut self.literal)));
        }
    }

    fn slot(&mut self, written: &str, name: &str) -> Result<(), String> {
        let inside = &written[1..written.len() - 1];
        let (inside, default) = match inside.split_once('|') {
            Some((inside, default)) => (inside, Some(default)),
            None => (inside, None),
        };
        let field = field(name, inside.split_once(':').map(|(_, argument)| argument))
            .map_err(|why| format!("{} {why}", shown(written, 60)))?;
        if field == Field::IdempotencyKey && self.kind == Kind::Key {
            return Err(format!(
                "{written} is of a whole request, and cannot say which messages belong together"
            ));
        }
        let context = match (self.kind, self.quoted) {
            (Kind::Key | Kind::Text, _) => Context::Text,
            (Kind::Url, _) => Context::Url,
            (Kind::Header, _) => Context::Header,
            (Kind::Json, false) => Context::Json,
            (Kind::Json, true) => Context::JsonString,
            (Kind::Line, false) => Context::Line,
            (Kind::Line, true) => Context::LineString,
        };
        let default = default.map(|default| escaped(default, context)).transpose();
        let default = default.map_err(|why| format!("{}: the default {why}", shown(written, 60)))?;
        self.end_literal();
        self.parts.push(Part::Slot(Slot { written: written.to_owned(), field, default, context }));
        Ok(())
    }
}

/// Whether text begins with a brace and exactly this placeholder's name.
fn begins(text: &str, name: &str) -> bool {
    text[1..].strip_prefix(name).is_some_and(|rest| rest.starts_with(['}', ':', '|']) || rest.is_empty())
}

fn field(name: &str, argument: Option<&str>) -> Result<Field, String> {
    Ok(match (name, argument) {
        ("stream", None) => Field::Stream,
        ("topic", None) => Field::Topic,
        ("partition", None) => Field::Partition,
        ("offset", None) => Field::Offset,
        ("id", None) => Field::Id,
        ("timestamp", form) => Field::Timestamp(match form {
            Some("s") => TimestampForm::Seconds,
            Some("ms") => TimestampForm::Milliseconds,
            None | Some("us") => TimestampForm::Microseconds,
            Some("ns") => TimestampForm::Nanoseconds,
            Some("rfc3339") => TimestampForm::Rfc3339,
            Some(_) => {
                return Err(
                    "has no such form: write {timestamp} with :s, :ms, :us, :ns or :rfc3339".to_owned()
                );
            }
        }),
        ("header", Some(name)) if !name.is_empty() => Field::Header(name.to_owned()),
        ("header", _) => return Err("names no header: write {header:name}".to_owned()),
        ("payload", None | Some("")) => Field::Payload,
        ("payload", Some(pointer)) => Field::Pointer(
            Pointer::parse(pointer).map_err(|why| format!("{why}, as in {{payload:/json/pointer}}"))?,
        ),
        ("idempotency_key", None) => Field::IdempotencyKey,
        (name, _) => return Err(format!("takes nothing behind a colon: write {{{name}}}")),
    })
}

fn escaped(default: &str, context: Context) -> Result<String, String> {
    if context == Context::Json {
        return match serde_json::from_str::<&serde_json::value::RawValue>(default) {
            Ok(_) => Ok(default.to_owned()),
            Err(_) => Err(format!(
                "stands where JSON does: write null, a number, or \"{}\" with quotes",
                shown(default, 60)
            )),
        };
    }
    let mut out = Vec::new();
    context.write(default, &mut out)?;
    String::from_utf8(out).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(template: &str, kind: Kind) -> Result<Template, String> {
        Template::parse(&Text::parse(template)?, kind)
    }

    fn literal(template: &str, kind: Kind) -> String {
        let parsed = parse(template, kind).expect("a template");
        parsed
            .parts()
            .iter()
            .map(|part| match part {
                Part::Literal(text) => text.as_str(),
                Part::Slot(_) => "<slot>",
                Part::Secret(_) => "<secret>",
            })
            .collect()
    }

    #[test]
    fn braces_that_begin_no_placeholder_stay_as_they_are() {
        for kind in [Kind::Url, Kind::Header] {
            assert_eq!(literal("/{user}/{topics}/{{topic}/{}}", kind), "/{user}/{topics}/{topic}/{}}");
        }
        assert_eq!(literal(r#"{"a":{"b":{}}}"#, Kind::Json), r#"{"a":{"b":{}}}"#);
        assert_eq!(literal(r#"{"a":{topic}}{{x}"#, Kind::Json), r#"{"a":<slot>}{x}"#);
    }

    #[test]
    fn places_follow_the_quotes() {
        let contexts = |template: &str, kind| -> Vec<Context> {
            parse(template, kind).expect("a template").slots().map(|slot| slot.context).collect()
        };
        assert_eq!(
            contexts(r#"{"a":{id},"b":"x\"{id}","{id}":1,"c":{id}}"#, Kind::Json),
            [Context::Json, Context::JsonString, Context::JsonString, Context::Json]
        );
        assert_eq!(
            contexts(r#"m,t={id} v="{id}",w={id}"#, Kind::Line),
            [Context::Line, Context::LineString, Context::Line]
        );
    }

    #[test]
    fn what_secrets_hold_is_no_placeholder() {
        assert_eq!(literal("/${env:CARGO_PKG_NAME}/{topic}", Kind::Url), "/<secret>/<slot>");
    }

    #[test]
    fn wrong_placeholders_are_told() {
        for (template, kind, words) in [
            ("{payload:id}", Kind::Url, "/json/pointer"),
            ("{header:}", Kind::Header, "{header:name}"),
            ("{header}", Kind::Header, "{header:name}"),
            ("{timestamp:h}", Kind::Url, ":rfc3339"),
            ("{topic:x}", Kind::Url, "{topic}"),
            ("{topic", Kind::Url, "without"),
            ("{user}", Kind::Json, "{stream}"),
            ("{\"a\":{payload:/a|none}}", Kind::Json, "with quotes"),
            ("{user}", Kind::Key, "{stream}"),
            ("}{", Kind::Key, "without"),
            ("{idempotency_key}", Kind::Key, "whole request"),
        ] {
            let parsed = parse(template, kind);
            assert!(parsed.as_ref().is_err_and(|why| why.contains(words)), "{template}: {parsed:?}");
        }
    }

    #[test]
    fn defaults_are_escaped_for_their_place() {
        let default = |template: &str, kind| {
            let parsed = parse(template, kind).expect("a template");
            parsed.slots().next().and_then(|slot| slot.default.clone())
        };
        assert_eq!(default("/{header:a|b/c}", Kind::Url).as_deref(), Some("b%2Fc"));
        assert_eq!(default("{header:a|}", Kind::Header).as_deref(), Some(""));
        assert_eq!(default("\"{header:a|\\}\"", Kind::Json).as_deref(), Some("\\\\"));
        assert_eq!(default("{payload:/a|null}", Kind::Json).as_deref(), Some("null"));
    }
}
