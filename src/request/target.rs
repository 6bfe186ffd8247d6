//! The URL and headers of a request, as far as they depend on its messages.

use std::ops::Range;

use iggy_connector_sdk::BorrowedMessage;
use reqwest::header::HeaderName;

use super::{
    Ordering,
    escape::Context,
    fields::Source,
    header::header,
    template::{Field, Part, Slot, Template},
};
use crate::payload::{Known, Refusal};

/// The longest URL that is sent: the HTTP library accepts 65,534 bytes, and few servers accept that many.
const LONGEST_URL: usize = 60_000;

/// The URL and the headers of requests, with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTemplate {
    /// The URL.
    pub(crate) url: Template,
    /// The headers with placeholders.
    pub(crate) headers: Vec<(HeaderName, Template)>,
    /// The message headers that are sent as HTTP headers, if a message has them.
    pub(crate) forwarded: Vec<Forwarded>,
    /// The text before and after the messages of a body, if it has placeholders.
    pub(crate) frame: Vec<Template>,
    /// What is kept in order: a message must not join a request that overtakes another one of its key or partition.
    pub(crate) ordering: Ordering,
}

/// A message header that is sent as an HTTP header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// Its name in messages.
    pub(crate) key: String,
    /// Its name as an HTTP header.
    pub(crate) name: HeaderName,
}

/// Precedes the value of a forwarded header, so that an empty value differs from a missing one.
const PRESENT: char = '=';

/// The values of the placeholders of a request, which are the same for all its messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The fields, one after the other, escaped.
    text: String,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// How many bytes of the text belong to the URL.
    url: usize,
}

/// A target that is being rendered, in a buffer that is reused.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    text: Vec<u8>,
    ends: Vec<usize>,
    url: usize,
    /// What rendering its fields revealed about the payload.
    known: Known,
}

/// How two requests compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// They differ only in their bodies.
    Same,
    /// They have the same URL.
    SameUrl,
    /// They have different URLs.
    None,
}

impl TargetTemplate {
    /// Whether a request depends on its messages in more than its idempotency key.
    pub(crate) fn is_of_messages(&self) -> bool {
        !self.forwarded.is_empty() || self.templates().flat_map(Template::slots).any(is_of_message)
    }

    /// Whether it contains the request's idempotency key.
    pub(crate) fn has_idempotency_key(&self) -> bool {
        self.templates().any(Template::has_idempotency_key)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let headers = self.headers.iter().map(|(_, template)| template);
        std::iter::once(&self.url).chain(headers).chain(&self.frame)
    }

    /// The forwarded headers that a target has, with their values.
    pub(crate) fn forwarded<'t>(
        &'t self,
        fields: impl Iterator<Item = &'t str>,
    ) -> impl Iterator<Item = (&'t HeaderName, &'t str)> {
        let values = self.forwarded.iter().zip(fields);
        values.filter_map(|(header, field)| Some((&header.name, field.strip_prefix(PRESENT)?)))
    }

    /// The fields of a target that belong to the frame of the body.
    pub(crate) fn frame_fields<'t>(&self, target: &'t Target) -> impl Iterator<Item = &'t str> {
        let in_frame = self.frame.iter().flat_map(Template::slots).count();
        target.fields().skip(target.ends.len() - in_frame)
    }

    /// Renders the target of a message.
    ///
    /// # Errors
    /// The message lacks a field, or has one that does not fit its context.
    pub(crate) fn render(
        &self,
        source: Source<'_>,
        message: &BorrowedMessage<'_>,
        rendered: &mut Rendered,
    ) -> Result<(), Refusal> {
        let Rendered { text, ends, url, known } = rendered;
        text.clear();
        ends.clear();
        let fields = source.fields(message);
        let write = |template: &Template, text: &mut Vec<u8>, ends: &mut Vec<usize>| {
            for slot in template.slots().filter(|slot| is_of_message(slot)) {
                fields.write(slot, text)?;
                ends.push(text.len());
            }
            Ok(())
        };
        write(&self.url, text, ends)?;
        *url = text.len();
        check_path(&self.url, text, ends)?;
        for (_, template) in &self.headers {
            write(template, text, ends)?;
        }
        for forwarded in &self.forwarded {
            if let Some(value) = header(message.headers, &forwarded.key) {
                text.push(PRESENT as u8);
                forward(&value, text);
            }
            ends.push(text.len());
        }
        for template in &self.frame {
            write(template, text, ends)?;
        }
        *known = fields.known();
        Ok(())
    }
}

/// Writes a forwarded value: unchanged if it is plain text, such as a `baggage` that contains a `%`; else like a placeholder
/// in a header.
fn forward(value: &str, text: &mut Vec<u8>) {
    if value.trim() == value && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        text.extend_from_slice(value.as_bytes());
    } else {
        // Every text can be written in a header.
        let _ = Context::Header.write(value, text);
    }
}

fn is_of_message(slot: &Slot) -> bool {
    slot.field != Field::IdempotencyKey
}

/// Checks that fields do not make a path segment `.` or `..`, which would lead elsewhere and cannot be escaped (WHATWG URL,
/// section 4.1), and that the URL is not too long.
fn check_path(url: &Template, text: &[u8], ends: &[usize]) -> Result<(), Refusal> {
    let mut fields = ranges(ends);
    // The current segment, and the placeholder in it.
    let (mut segment, mut of_message) = (String::new(), None);
    let check = |segment: &str, slot: Option<&Slot>| match slot {
        Some(slot) if is_dots(segment) => Err(Refusal::Unrenderable(format!(
            "{} would make \"{segment}\" of a path segment of the url, which leads elsewhere",
            slot.written
        ))),
        _ => Ok(()),
    };
    let mut length = 0;
    let mut in_path = true;
    for part in url.parts() {
        match part {
            Part::Literal(literal) => {
                length += literal.len();
                for character in literal.chars() {
                    if !in_path {
                        break;
                    }
                    match character {
                        '/' | '\\' | '?' | '#' => {
                            check(&segment, of_message)?;
                            segment.clear();
                            of_message = None;
                            in_path = !matches!(character, '?' | '#');
                        }
                        other => segment.push(other),
                    }
                }
            }
            Part::Secret(_) => {}
            Part::Slot(slot) if is_of_message(slot) => {
                let field = fields.next().and_then(|range| text.get(range)).unwrap_or_default();
                length += field.len();
                if in_path && field.len() <= 3 {
                    segment.push_str(std::str::from_utf8(field).unwrap_or_default());
                    of_message = Some(slot);
                } else {
                    segment.push('x');
                }
            }
            Part::Slot(_) => segment.push('x'),
        }
    }
    if in_path {
        check(&segment, of_message)?;
    }
    if length > LONGEST_URL {
        return Err(Refusal::Unrenderable(format!("the url would have {length} bytes, over {LONGEST_URL}")));
    }
    Ok(())
}

fn is_dots(segment: &str) -> bool {
    segment.starts_with(['.', '%'])
        && segment.len() <= 6
        && matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..")
}

fn ranges(ends: &[usize]) -> impl Iterator<Item = Range<usize>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, end)| start..*end)
}

impl Target {
    /// The fields in the order of their placeholders: those of the URL, of each header, the forwarded headers, and those of
    /// the frame of the body.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        ranges(&self.ends).map(|range| self.text.get(range).unwrap_or_default())
    }

    /// How it compares to another.
    pub(crate) fn likeness(&self, other: &Rendered) -> Likeness {
        if self.ends == other.ends && self.text.as_bytes() == other.text {
            return Likeness::Same;
        }
        // Fields that are split differently may make the same URL, or another one: then it does no harm.
        let same_url = self.text.as_bytes().get(..self.url) == other.text.get(..other.url);
        if same_url { Likeness::SameUrl } else { Likeness::None }
    }
}

impl Rendered {
    /// What is known about the payload of the message that was rendered last.
    pub(crate) fn known(&self) -> Known {
        self.known
    }

    /// Returns the target that was rendered last.
    pub(crate) fn target(&self) -> Target {
        let text = String::from_utf8_lossy(&self.text).into_owned();
        Target { text, ends: self.ends.clone(), url: self.url }
    }
}

/// A template of a URL or a header, with the current values of its secrets.
#[derive(Clone)]
pub(crate) struct Pieces {
    /// The text before each placeholder, and after the last one.
    literals: Vec<String>,
    /// For each placeholder, whether it is the idempotency key.
    keys: Vec<bool>,
}

impl Pieces {
    /// # Errors
    /// A secret that cannot be read.
    pub(crate) fn of(template: &Template) -> Result<Self, String> {
        let (mut literals, mut keys) = (vec![String::new()], Vec::new());
        for part in template.parts() {
            match (part, literals.last_mut()) {
                (Part::Literal(text), Some(last)) => last.push_str(text),
                (Part::Secret(secret), Some(last)) => last.push_str(&secret.resolve()?),
                (Part::Slot(slot), _) => {
                    keys.push(slot.field == Field::IdempotencyKey);
                    literals.push(String::new());
                }
                (_, None) => {}
            }
        }
        Ok(Self { literals, keys })
    }

    /// Whether it has no placeholder.
    pub(crate) fn is_literal(&self) -> bool {
        self.keys.is_empty()
    }

    /// The text before the first placeholder.
    fn beginning(&self) -> &str {
        &self.literals[0]
    }

    /// Returns the URL for a request without messages: up to the path segment or query with the first placeholder.
    pub(crate) fn without_fields(&self) -> String {
        let beginning = self.beginning();
        if self.is_literal() {
            return beginning.to_owned();
        }
        let query = beginning.find('?');
        let end = query.or_else(|| beginning.rfind(['/', '\\']).map(|slash| slash + 1));
        beginning[..end.unwrap_or(beginning.len())].to_owned()
    }

    /// Returns the whole text with these fields.
    pub(crate) fn fill<'f>(&self, fields: &mut impl Iterator<Item = &'f str>, key: &str) -> String {
        let mut text = self.literals[0].clone();
        for (is_key, literal) in self.keys.iter().zip(&self.literals[1..]) {
            text.push_str(if *is_key { key } else { fields.next().unwrap_or_default() });
            text.push_str(literal);
        }
        text
    }

    /// Checks that a URL has no placeholder in the scheme, the authority or the fragment.
    ///
    /// # Errors
    /// What is wrong, without the URL.
    pub(crate) fn check_url(&self) -> Result<(), String> {
        if self.is_literal() {
            return Ok(());
        }
        let begins = self.beginning().split_once("://").is_some_and(|(scheme, rest)| {
            !scheme.contains(['/', '?', '#'])
                && rest.trim_start_matches(['/', '\\']).contains(['/', '?', '#'])
        });
        if !begins {
            return Err("has a placeholder in its scheme, host or port, which must not come from a message: write one such \
                        as \"https://example.com/{topic}\""
                .to_owned());
        }
        if self.literals.iter().rev().skip(1).any(|literal| literal.contains('#')) {
            return Err(
                "has a placeholder behind a \"#\", which is never sent: remove it, or write %23".to_owned()
            );
        }
        Ok(())
    }
}
