//! Reads the fields of messages that placeholders refer to.

use std::{
    borrow::Cow,
    cell::OnceCell,
    fmt::Write,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    escape::Context,
    header::header,
    pointer::{Pointer, unquoted},
    template::{Field, Part, Slot, Template, TimestampForm},
};
use crate::{
    batch::Batch,
    idempotency::single_key,
    payload::{Json, Known, Refusal, checked_json, write_id, write_json, write_number, write_raw},
};
use iggy_connector_sdk::{BorrowedMessage, Schema};

/// Where messages come from: what the fields of all messages of a batch have in common.
#[derive(Debug, Clone, Copy)]
pub struct Source<'b> {
    stream: &'b str,
    topic: &'b str,
    partition: u32,
    schema: Schema,
}

/// A message whose fields placeholders refer to; its payload is parsed when the first one needs it.
pub(crate) struct Fields<'m> {
    source: Source<'m>,
    message: &'m BorrowedMessage<'m>,
    /// What was known of the payload before.
    known: Known,
    /// The payload as JSON, or why it is not JSON.
    json: OnceCell<Result<Json<'m>, Refusal>>,
}

/// Why a field is not there.
enum Absent {
    /// The message has none.
    Lacking,
    /// It has one that cannot be written in this context.
    Unfit(Cow<'static, str>),
    /// The whole payload is invalid.
    Refused(Refusal),
}

impl<'b> Source<'b> {
    /// Returns the source of a batch.
    pub fn of(batch: &Batch<'b>) -> Self {
        Self { stream: batch.stream, topic: batch.topic, partition: batch.partition_id, schema: batch.schema }
    }

    /// Writes a field that all messages of the batch have in common. Returns whether it is such a field and fits the context.
    /// If not, `out` may end in the middle of it.
    pub(super) fn write(self, slot: &Slot, out: &mut Vec<u8>) -> bool {
        match slot.field {
            Field::Stream => text(slot.context, self.stream, out).is_ok(),
            Field::Topic => text(slot.context, self.topic, out).is_ok(),
            Field::Partition => {
                write_number(self.partition.into(), out);
                true
            }
            _ => false,
        }
    }

    /// The fields of one message.
    pub(crate) fn fields(self, message: &'b BorrowedMessage<'b>) -> Fields<'b> {
        Fields { source: self, message, known: Known::Nothing, json: OnceCell::new() }
    }
}

impl Template {
    /// Renders the key of one message. Fields that it lacks are empty, so that all messages that lack them are kept in order
    /// among themselves.
    pub(crate) fn key(&self, batch: &Batch<'_>, message: &BorrowedMessage<'_>) -> String {
        let fields = Source::of(batch).fields(message);
        let mut key = Vec::new();
        for part in self.parts() {
            match part {
                Part::Literal(text) => key.extend_from_slice(text.as_bytes()),
                Part::Slot(slot) => {
                    let start = key.len();
                    if fields.write(slot, &mut key).is_err() {
                        key.truncate(start);
                    }
                }
                // They were resolved when the configuration was read.
                Part::Secret(_) => {}
            }
        }
        String::from_utf8(key).unwrap_or_else(|key| String::from_utf8_lossy(key.as_bytes()).into_owned())
    }
}

impl<'m> Fields<'m> {
    /// Adds what is already known about the payload.
    pub(super) fn with(self, known: Known) -> Self {
        Self { known, ..self }
    }

    /// Returns what is known about the payload from the fields that were read so far.
    pub(super) fn known(&self) -> Known {
        match self.json.get() {
            Some(Ok(json)) => Known::Json { one_line: json.one_line },
            _ => self.known,
        }
    }

    fn json(&self) -> Result<Json<'m>, &Refusal> {
        self.json.get_or_init(|| checked_json(self.message.payload)).as_ref().copied()
    }

    /// Writes the field that a placeholder stands for, escaped for its context. After an error, `out` may end in the middle
    /// of it.
    pub(crate) fn write(&self, slot: &Slot, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        match (self.field(slot, out), &slot.default) {
            (Ok(()), _) => Ok(()),
            (Err(Absent::Lacking), Some(default)) => {
                out.truncate(start);
                out.extend_from_slice(default.as_bytes());
                Ok(())
            }
            (Err(Absent::Lacking), None) => {
                Err(Refusal::Unrenderable(format!("the message has nothing for {}", slot.written)))
            }
            (Err(Absent::Refused(refusal)), _) => Err(refusal),
            (Err(Absent::Unfit(why)), _) => Err(Refusal::Unrenderable(format!("{} {why}", slot.written))),
        }
    }

    fn field(&self, slot: &Slot, out: &mut Vec<u8>) -> Result<(), Absent> {
        let context = slot.context;
        match &slot.field {
            Field::Stream => text(context, self.source.stream, out),
            Field::Topic => text(context, self.source.topic, out),
            // Digits need no escapes in any context.
            Field::Partition => {
                write_number(self.source.partition.into(), out);
                Ok(())
            }
            Field::Offset => {
                write_number(self.message.offset, out);
                Ok(())
            }
            Field::Timestamp(form) => timestamp(self.message.timestamp, *form, context, out),
            Field::Id => {
                let quote = context.quote().as_bytes();
                out.extend_from_slice(quote);
                write_id(self.message.id, out);
                out.extend_from_slice(quote);
                Ok(())
            }
            Field::IdempotencyKey => {
                let source = self.source;
                let key = single_key(source.stream, source.topic, source.partition, self.message);
                text(context, &key, out)
            }
            Field::Header(name) => {
                text(context, &header(self.message.headers, name).ok_or(Absent::Lacking)?, out)
            }
            Field::Payload => self.payload(context, out),
            Field::Pointer(pointer) => self.pointed(pointer, context, out),
        }
    }

    /// Writes the whole payload as it is in an envelope.
    #[inline]
    pub(super) fn payload_as_json(&self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        if !write_json(self.source.schema, self.message.payload, self.known(), out)? {
            on_one_line(&mut out[start..]);
        }
        Ok(())
    }

    /// Writes the whole payload: as in an envelope where JSON is expected, else its text.
    fn payload(&self, context: Context, out: &mut Vec<u8>) -> Result<(), Absent> {
        match context {
            Context::Json => self.payload_as_json(out).map_err(Absent::Refused),
            Context::Text => {
                write_raw(self.source.schema, self.message.payload, out).map_err(Absent::Refused)
            }
            context => {
                let mut payload = Vec::new();
                write_raw(self.source.schema, self.message.payload, &mut payload).map_err(Absent::Refused)?;
                let payload = std::str::from_utf8(&payload);
                text(context, payload.map_err(|_| Absent::Unfit("is not text".into()))?, out)
            }
        }
    }

    fn pointed(&self, pointer: &Pointer, context: Context, out: &mut Vec<u8>) -> Result<(), Absent> {
        if self.message.payload.is_empty() {
            return Err(Absent::Lacking);
        }
        let json = self.json().map_err(|refusal| match self.source.schema {
            // This error says more than that the field is missing.
            Schema::Json => Absent::Refused(refusal.clone()),
            _ => Absent::Lacking,
        })?;
        let value = pointer.find(json.text).ok_or(Absent::Lacking)?;
        if context == Context::Json {
            let start = out.len();
            out.extend_from_slice(value.as_bytes());
            on_one_line(&mut out[start..]);
            Ok(())
        } else if value == "null" {
            Err(Absent::Lacking)
        } else if value.starts_with('"') {
            let unquoted = unquoted(value);
            text(
                context,
                &unquoted.ok_or(Absent::Unfit("has half of a surrogate pair, which is no text".into()))?,
                out,
            )
        } else {
            text(context, value, out)
        }
    }
}

fn text(context: Context, text: &str, out: &mut Vec<u8>) -> Result<(), Absent> {
    context.write(text, out).map_err(|why| Absent::Unfit(why.into()))
}

/// Replaces line breaks by spaces. JSON has them only between tokens: in strings they are escaped.
pub(crate) fn on_one_line(json: &mut [u8]) {
    let Some(first) = memchr::memchr2(b'\n', b'\r', json) else { return };
    // Where there is one there are many. Every byte is written, so that this becomes vector instructions.
    for byte in &mut json[first..] {
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
}

fn timestamp(micros: u64, form: TimestampForm, context: Context, out: &mut Vec<u8>) -> Result<(), Absent> {
    match form {
        TimestampForm::Seconds => write_number(micros / 1_000_000, out),
        TimestampForm::Milliseconds => write_number(micros / 1_000, out),
        TimestampForm::Microseconds => write_number(micros, out),
        TimestampForm::Nanoseconds => {
            out.extend_from_slice((u128::from(micros) * 1000).to_string().as_bytes());
        }
        TimestampForm::Rfc3339 => {
            let mut shown = String::new();
            let time = UNIX_EPOCH + Duration::from_micros(micros);
            write!(shown, "{}", humantime::format_rfc3339_micros(time))
                .map_err(|_| Absent::Unfit("is after the year 9999, which RFC 3339 cannot say".into()))?;
            text(context, &shown, out)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use iggy_connector_sdk::{HeaderKey, HeaderValue, MessagesMetadata, TopicMetadata, encode_headers};

    use super::*;
    use crate::{config::Text, request::Kind};

    fn rendered(template: &str, kind: Kind, schema: Schema, payload: &[u8]) -> Result<String, Refusal> {
        let headers = BTreeMap::from([
            (HeaderKey::try_from("k").expect("a key"), HeaderValue::from(42_u64)),
            (
                HeaderKey::try_from("raw").expect("a key"),
                HeaderValue::try_from(&b"a b"[..]).expect("a value"),
            ),
        ]);
        let topic = TopicMetadata { stream: "s".to_owned(), topic: "t \"1\"".to_owned() };
        let metadata = MessagesMetadata { partition_id: 7, current_offset: 0, schema };
        let message = BorrowedMessage {
            id: 1,
            offset: 5,
            checksum: 0,
            timestamp: 1_760_000_000_123_456,
            origin_timestamp: 0,
            headers: &encode_headers(&headers),
            payload,
        };
        let batch = Batch::borrowed(&topic, &metadata, std::slice::from_ref(&message));
        let template = Template::parse(&Text::parse(template).expect("text"), kind).expect("a template");
        let fields = Source::of(&batch).fields(&message);
        let mut out = Vec::new();
        for part in template.parts() {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Slot(slot) => fields.write(slot, &mut out)?,
                Part::Secret(_) => unreachable!("there is none"),
            }
        }
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn each_field_is_written_for_its_place() {
        let json = br#"{"s":"a \"b\"/c","n":1.50,"o":{"x": [1,
2]},"z":null}"#;
        for (template, kind, expected) in [
            ("{stream}/{topic}/{partition}/{offset}", Kind::Key, "s/t \"1\"/7/5"),
            ("{topic}?{payload:/s}", Kind::Url, "t%20%221%22?a%20%22b%22%2Fc"),
            ("{payload:/n} {payload:/o/x/1}", Kind::Key, "1.50 2"),
            ("{header:k} {header:raw}", Kind::Header, "42 a b"),
            ("{id}", Kind::Url, "00000000000000000000000000000001"),
            (
                "{timestamp} {timestamp:s} {timestamp:ms} {timestamp:ns}",
                Kind::Header,
                "1760000000123456 1760000000 1760000000123 1760000000123456000",
            ),
            ("{timestamp:rfc3339}", Kind::Header, "2025-10-09T08:53:20.123456Z"),
            (
                r#"{"t":{topic},"in":"{topic}","n":{payload:/n},"o":{payload:/o},"z":{payload:/z},"s":{payload:/s}}"#,
                Kind::Json,
                r#"{"t":"t \"1\"","in":"t \"1\"","n":1.50,"o":{"x": [1, 2]},"z":null,"s":"a \"b\"/c"}"#,
            ),
            ("{payload:/z|none}{payload:/no|none}{header:no|-}", Kind::Key, "nonenone-"),
            (
                "m,t={topic} v={payload:/n},s=\"{payload:/s}\"",
                Kind::Line,
                "m,t=t\\ \"1\" v=1.50,s=\"a \\\"b\\\"/c\"",
            ),
        ] {
            assert_eq!(rendered(template, kind, Schema::Json, json).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn the_whole_payload_is_json_or_its_text() {
        for (schema, payload, bare, quoted) in [
            (Schema::Json, &b"{\"a\":\n1}"[..], "[{\"a\": 1}]", "\"{\\\"a\\\":\\n1}\""),
            (Schema::Text, b"a\"b", "[\"a\\\"b\"]", "\"a\\\"b\""),
            (Schema::Raw, b"ab", "[{\"data\":\"YWI=\",\"iggy_payload_encoding\":\"base64\"}]", "\"ab\""),
        ] {
            assert_eq!(rendered("[{payload}]", Kind::Json, schema, payload).as_deref(), Ok(bare));
            assert_eq!(rendered("\"{payload}\"", Kind::Json, schema, payload).as_deref(), Ok(quoted));
        }
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let shown = |template, schema, payload: &[u8]| rendered(template, Kind::Json, schema, payload);
        let lacking = shown("\"{payload:/no}\"", Schema::Json, b"{}");
        assert!(
            matches!(&lacking, Err(Refusal::Unrenderable(why)) if why.contains("{payload:/no}")),
            "{lacking:?}"
        );
        assert!(matches!(
            shown("\"{payload:/z}\"", Schema::Json, b"{\"z\":null}"),
            Err(Refusal::Unrenderable(_))
        ));
        assert!(matches!(shown("\"{payload:/no}\"", Schema::Json, b"{"), Err(Refusal::Undecodable(_))));
        assert!(matches!(shown("\"{payload}\"", Schema::Raw, b"\xff"), Err(Refusal::Unrenderable(_))));
        assert!(matches!(
            shown("\"{payload:/a}\"", Schema::Json, br#"{"a":"\ud800"}"#),
            Err(Refusal::Unrenderable(_))
        ));
    }
}
