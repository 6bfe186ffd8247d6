//! `ordering_key`: what makes messages belong together.

use std::fmt::Write;

use iggy_connector_sdk::{BorrowedMessage, shown};
use serde_json::Value;

use crate::batch::Batch;

/// Text with placeholders: `{stream}`, `{topic}`, `{partition}`, `{header:name}` and
/// `{payload:/json/pointer}` (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Stream,
    Topic,
    Partition,
    Header(String),
    Payload(String),
}

impl KeyTemplate {
    /// # Errors
    /// A placeholder that is not known or does not end, or none at all.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            let end = rest
                .find('}')
                .filter(|end| *end > start)
                .ok_or_else(|| format!("\"{}\" has a \"{{\" without its \"}}\"", shown(template, 60)))?;
            if start > 0 {
                parts.push(Part::Literal(rest[..start].to_owned()));
            }
            let name = &rest[start + 1..end];
            parts.push(match name.split_once(':') {
                None if name == "stream" => Part::Stream,
                None if name == "topic" => Part::Topic,
                None if name == "partition" => Part::Partition,
                Some(("header", name)) if !name.is_empty() => Part::Header(name.to_owned()),
                Some(("payload", pointer)) if pointer.is_empty() || pointer.starts_with('/') => Part::Payload(pointer.to_owned()),
                _ => {
                    return Err(format!(
                        "{{{}}} is no placeholder: write {{stream}}, {{topic}}, {{partition}}, {{header:name}} or {{payload:/json/pointer}}",
                        shown(name, 60)
                    ));
                }
            });
            rest = &rest[end + 1..];
        }
        if parts.is_empty() {
            return Err(format!(
                "\"{}\" has no placeholder, so all messages would have the same key: write one such as {{payload:/id}}",
                shown(template, 60)
            ));
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The key of a message. What a message does not have is empty in it, so that all messages
    /// without are kept in order among themselves.
    pub(crate) fn key(&self, batch: &Batch<'_>, message: &BorrowedMessage<'_>) -> String {
        let mut key = String::new();
        let mut payload: Option<Option<Value>> = None;
        for part in &self.parts {
            match part {
                Part::Literal(text) => key.push_str(text),
                Part::Stream => key.push_str(batch.stream),
                Part::Topic => key.push_str(batch.topic),
                // Writing to a string does not fail.
                Part::Partition => drop(write!(key, "{}", batch.partition_id)),
                Part::Header(name) => {
                    if let Ok(Some(headers)) = message.decode_headers()
                        && let Some((_, value)) =
                            headers.iter().find(|(key, _)| key.to_string_value() == *name)
                    {
                        key.push_str(&value.to_string_value());
                    }
                }
                Part::Payload(pointer) => {
                    let payload = payload.get_or_insert_with(|| serde_json::from_slice(message.payload).ok());
                    match payload.as_ref().and_then(|payload| payload.pointer(pointer)) {
                        None => {}
                        Some(Value::String(text)) => key.push_str(text),
                        Some(other) => drop(write!(key, "{other}")),
                    }
                }
            }
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use iggy_connector_sdk::{
        HeaderKey, HeaderValue, MessagesMetadata, Schema, TopicMetadata, encode_headers,
    };

    use super::*;

    fn key(template: &str, payload: &str, headers: &[u8]) -> String {
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t".to_owned() };
        let metadata = MessagesMetadata { partition_id: 7, current_offset: 0, schema: Schema::Json };
        let message = BorrowedMessage {
            id: 1,
            offset: 0,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers,
            payload: payload.as_bytes(),
        };
        let messages = [message];
        let batch = Batch::borrowed(&topic, &metadata, &messages);
        KeyTemplate::parse(template).expect("a template").key(&batch, &batch.messages[0])
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(key("{stream}/{topic}/{partition}", "{}", b""), "s/t/7");
        assert_eq!(key("a-{payload:/customer/id}-z", r#"{"customer":{"id":"x1"}}"#, b""), "a-x1-z");
        assert_eq!(
            key("{payload:/n}{payload:/list/1}", r#"{"n":12345678901234567890,"list":[1,{"a":null}]}"#, b""),
            "12345678901234567890{\"a\":null}"
        );
        let headers = BTreeMap::from([(HeaderKey::try_from("k").expect("a key"), HeaderValue::from(42_u64))]);
        assert_eq!(key("{header:k}", "{}", &encode_headers(&headers)), "42");
    }

    #[test]
    fn what_a_message_does_not_have_is_empty() {
        for template in ["{payload:/no}", "{header:no}"] {
            assert_eq!(key(template, "not json", b"\xff"), "");
        }
    }

    #[test]
    fn wrong_templates_are_told() {
        for (template, words) in [
            ("", "no placeholder"),
            ("fixed", "no placeholder"),
            ("{payload:id}", "payload:/"),
            ("{user}", "{user}"),
            ("{stream", "without"),
            ("}{", "without"),
        ] {
            assert!(KeyTemplate::parse(template).is_err_and(|why| why.contains(words)), "{template}");
        }
    }
}
