//! Custom body formats: how a message is written, and the text around and between messages.

use std::fmt;

use iggy_connector_sdk::BorrowedMessage;
use serde::de::IgnoredAny;
use strum::{Display, EnumString, VariantNames};

use super::{
    escape::Context,
    fields::Source,
    template::{Field, Kind, Part, Slot, Template, TimestampForm},
};
use crate::payload::{Known, Refusal, write_id, write_number};

/// The format of body templates, which decides how fields are escaped in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "snake_case")]
pub enum TemplateFormat {
    /// JSON texts, one or several.
    Json,
    /// Line protocol of `InfluxDB`.
    LineProtocol,
    /// Any text: nothing is escaped.
    Text,
}

/// A custom body format.
#[derive(Clone, PartialEq, Eq)]
pub struct Form {
    /// The format of its templates.
    pub(crate) format: TemplateFormat,
    /// The template of a message; without it, the mode decides how a message is written.
    pub(crate) message: Option<Template>,
    /// The text before the first message.
    pub(crate) prefix: Template,
    /// The text between two messages.
    pub(crate) separator: String,
    /// The text after the last message.
    pub(crate) suffix: Template,
    /// The secrets in its texts.
    pub(crate) secrets: Vec<String>,
}

impl fmt::Debug for Form {
    /// Without its texts, which may contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").field("format", &self.format).finish_non_exhaustive()
    }
}

impl TemplateFormat {
    /// The placeholder language of its templates.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Json => Kind::Json,
            Self::LineProtocol => Kind::Line,
            Self::Text => Kind::Text,
        }
    }

    /// The media type of bodies, if it is not that of the mode.
    pub(crate) fn content_type(self) -> Option<&'static str> {
        match self {
            Self::Json => None,
            Self::LineProtocol | Self::Text => Some("text/plain; charset=utf-8"),
        }
    }
}

impl Form {
    /// For the format `json`, checks that a body of one message, and of two if `many`, is one JSON text or several in a row.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check(&self, many: bool) -> Result<(), String> {
        if self.format != TemplateFormat::Json {
            return Ok(());
        }
        let message = self.message.as_ref().map_or_else(|| "{}".to_owned(), sample);
        let second = if many { format!("{}{message}", self.separator) } else { String::new() };
        let body = format!("{}{message}{second}{}", sample(&self.prefix), sample(&self.suffix));
        for text in serde_json::Deserializer::from_str(&body).into_iter::<IgnoredAny>() {
            text.map_err(|why| format!("does not make JSON of a body: {why}"))?;
        }
        Ok(())
    }
}

/// How a placeholder is written: fields that every message has are known to fit, and skip the checks of the others.
#[derive(Clone, Copy)]
enum Written<'b> {
    Offset,
    /// Its quotes, if any, are in the text around it.
    Id,
    /// In microseconds.
    Timestamp,
    /// The whole payload as JSON.
    Payload,
    Other(&'b Slot),
}

/// A template in which the fields that all messages of a batch have in common are filled in.
pub(crate) struct Prepared<'b> {
    source: Source<'b>,
    /// Each remaining placeholder, with the text before it.
    slots: Vec<(Vec<u8>, Written<'b>)>,
    /// The text after the last one.
    end: Vec<u8>,
}

impl<'b> Written<'b> {
    fn of(slot: &'b Slot) -> Self {
        match (&slot.field, slot.context) {
            (Field::Offset, _) => Self::Offset,
            (Field::Id, _) => Self::Id,
            (Field::Timestamp(TimestampForm::Microseconds), _) => Self::Timestamp,
            (Field::Payload, Context::Json) => Self::Payload,
            _ => Self::Other(slot),
        }
    }
}

impl Prepared<'_> {
    /// Writes the text for one message; `known` is what is known about its payload.
    ///
    /// # Errors
    /// The message lacks a field, or has one that does not fit its context.
    pub(crate) fn write(
        &self,
        message: &BorrowedMessage<'_>,
        known: Known,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let fields = self.source.fields(message).with(known);
        for (text, written) in &self.slots {
            out.extend_from_slice(text);
            match *written {
                Written::Offset => write_number(message.offset, out),
                Written::Id => write_id(message.id, out),
                Written::Timestamp => write_number(message.timestamp, out),
                Written::Payload => fields.payload_as_json(out)?,
                Written::Other(slot) => fields.write(slot, out)?,
            }
        }
        out.extend_from_slice(&self.end);
        Ok(())
    }
}

impl Template {
    /// Fills in the fields that all messages of a batch have in common.
    pub(crate) fn prepared<'b>(&'b self, source: Source<'b>) -> Prepared<'b> {
        let (mut slots, mut text) = (Vec::new(), Vec::new());
        for part in self.parts() {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                Part::Slot(slot) => {
                    let start = text.len();
                    if source.write(slot, &mut text) {
                        continue;
                    }
                    text.truncate(start);
                    let written = Written::of(slot);
                    let quote = if matches!(written, Written::Id) { slot.context.quote() } else { "" };
                    text.extend_from_slice(quote.as_bytes());
                    slots.push((std::mem::take(&mut text), written));
                    text.extend_from_slice(quote.as_bytes());
                }
                // They were resolved when the configuration was read.
                Part::Secret(_) => {}
            }
        }
        Prepared { source, slots, end: text }
    }

    /// Renders the text with its placeholders replaced by these fields.
    pub(crate) fn filled<'f>(&self, fields: &mut impl Iterator<Item = &'f str>) -> Vec<u8> {
        let mut text = Vec::new();
        for part in self.parts() {
            match part {
                Part::Literal(literal) => text.extend_from_slice(literal.as_bytes()),
                Part::Slot(_) => text.extend_from_slice(fields.next().unwrap_or_default().as_bytes()),
                Part::Secret(_) => {}
            }
        }
        text
    }

    /// Returns its length in bytes without its fields.
    pub(crate) fn literal_length(&self) -> usize {
        let length = |part: &Part| if let Part::Literal(text) = part { text.len() } else { 0 };
        self.parts().iter().map(length).sum()
    }
}

/// Renders a JSON template with a sample value for each placeholder.
fn sample(template: &Template) -> String {
    let shown = |part: &Part| match part {
        Part::Literal(text) => text.clone(),
        Part::Slot(slot) if slot.context == Context::JsonString => "x".to_owned(),
        Part::Slot(_) => "0".to_owned(),
        Part::Secret(_) => String::new(),
    };
    template.parts().iter().map(shown).collect()
}

/// The text around and between the messages of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Framing {
    pub(crate) prefix: Vec<u8>,
    pub(crate) separator: Vec<u8>,
    pub(crate) suffix: Vec<u8>,
}

impl Framing {
    /// Renders the framing of a form with the fields of its prefix and suffix.
    pub(crate) fn of<'f>(form: &Form, mut fields: impl Iterator<Item = &'f str>) -> Self {
        let prefix = form.prefix.filled(&mut fields);
        Self {
            prefix,
            separator: form.separator.clone().into_bytes(),
            suffix: form.suffix.filled(&mut fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Text;

    #[test]
    fn forms_that_make_no_json_are_told() {
        let form = |[prefix, message, separator, suffix]: [&str; 4]| {
            let parse = |text: &str| {
                Template::parse(&Text::parse(text).expect("text"), Kind::Json).expect("a template")
            };
            let format = TemplateFormat::Json;
            let (prefix, suffix) = (parse(prefix), parse(suffix));
            Form {
                format,
                message: Some(parse(message)),
                prefix,
                separator: separator.to_owned(),
                suffix,
                secrets: Vec::new(),
            }
            .check(true)
        };
        for good in [
            ["[", "{payload}", ",", "]"],
            ["", r#"{"index":{"_id":"{id}"}}"#, "\n", "\n"],
            [
                r#"{"streams":[{"stream":{"t":{topic}},"values":["#,
                r#"["{timestamp:ns}",{payload:/a|null}]"#,
                ",",
                "]}]}",
            ],
        ] {
            assert_eq!(form(good), Ok(()), "{good:?}");
        }
        for wrong in [
            ["[", "{payload}", "", "]"],
            ["", r#"{"a":{payload}"#, "\n", ""],
            ["", r#"{"a":x{payload}}"#, "", ""],
        ] {
            assert!(form(wrong).is_err(), "{wrong:?}");
        }
    }
}
