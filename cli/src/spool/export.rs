//! Writes out what is waiting.

use std::{
    borrow::Cow,
    io::{IsTerminal, stdout},
    ops::ControlFlow,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use iggy_connector_http_sink::{batch::Batch, dead_letter::Message, spool};
use iggy_connector_sdk::{BorrowedMessage, Schema, shown};
use serde::de::IgnoredAny;

use super::damage;
use crate::{
    since::since,
    terminal::report::{self, Failure, grouped},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  iggy-http-sink spool PATH export > waiting.ndjson
  jq -r .topic waiting.ndjson | sort | uniq -c
  iggy-http-sink spool PATH export --stream shop --topic orders --payloads > orders.ndjson
  iggy-http-sink run config.toml --input orders.ndjson

`run --input` sends the lines as new messages of the topic that config.toml names: with `--format text` if they are text, and \
without the ids, headers and offsets that they had. To deliver all as it is, let a connector with the same `spool.path` run.";

/// Which messages, and how.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only messages from this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only messages from this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only messages that the server stored since this time, such as 2026-08-01T12:00:00Z, or in the last 2h, 30m and so on
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
    /// Print at most this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print the payloads alone, as the lines that `run --input` reads; those that are no line of text are left out
    #[arg(long)]
    payloads: bool,
}

/// Prints the messages. Returns whether all could be read and printed.
///
/// # Errors
/// There is no spool, or it cannot be read.
pub(super) fn run(path: &Path, arguments: &Arguments) -> Result<bool, Failure> {
    let mut export = Export { arguments, taken: 0, topic: None, mixed: false, left_out: 0, said: Ok(()) };
    let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    let exported = spool::export(
        path,
        |lane| is(&arguments.stream, lane.stream()) && is(&arguments.topic, lane.topic()),
        |batch, message| export.take(batch, message),
    )
    .map_err(|why| Failure::Other(why.to_string()))?;
    let Export { taken, mixed, left_out, said, .. } = export;
    said?;
    let readable = damage::note(&exported.damages, &exported.set_aside);
    if mixed {
        report::note(
            "warning: the lines are of several topics, and `run --input` sends them all to one: choose one with --stream \
             and --topic",
        );
    }
    if left_out > 1 {
        report::note(&format!("warning: {} messages are left out", grouped(left_out)));
    }
    if taken == 0 && exported.messages > 0 {
        report::note(&format!(
            "note: none of the {} messages is meant by this selection",
            grouped(exported.messages)
        ));
    }
    Ok(readable && left_out == 0)
}

struct Export<'a> {
    arguments: &'a Arguments,
    /// How many messages were selected.
    taken: u64,
    /// The stream and the topic of the first payload.
    topic: Option<(String, String)>,
    /// Whether there were others.
    mixed: bool,
    left_out: u64,
    said: Result<(), Failure>,
}

impl Export<'_> {
    fn take(&mut self, batch: &Batch<'_>, message: &BorrowedMessage<'_>) -> ControlFlow<()> {
        let stored = UNIX_EPOCH + std::time::Duration::from_micros(message.timestamp);
        if self.arguments.since.is_some_and(|since| stored < since) {
            return ControlFlow::Continue(());
        }
        self.taken += 1;
        self.said = if self.arguments.payloads {
            self.say_payload(batch, message)
        } else {
            serde_json::to_string(&Message::new(batch, message))
                .map_err(|why| Failure::Other(why.to_string()))
                .and_then(|json| report::say_json(&json))
        };
        let enough = self.arguments.limit.is_some_and(|limit| self.taken >= limit);
        if enough || self.said.is_err() || report::stdout_is_closed() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn say_payload(&mut self, batch: &Batch<'_>, message: &BorrowedMessage<'_>) -> Result<(), Failure> {
        let Some(line) = as_line(batch.schema, message.payload) else {
            self.left_out += 1;
            if self.left_out == 1 {
                report::note(&format!(
                    "warning: the payload of {}/{}/{}@{} is no line of text, and is left out: export it without --payloads",
                    shown(batch.stream, 255),
                    shown(batch.topic, 255),
                    batch.partition_id,
                    message.offset
                ));
            }
            return Ok(());
        };
        let (stream, topic) =
            self.topic.get_or_insert_with(|| (batch.stream.to_owned(), batch.topic.to_owned()));
        self.mixed |= (stream.as_str(), topic.as_str()) != (batch.stream, batch.topic);
        // A file gets every byte as it is.
        if stdout().is_terminal() { report::say(&line) } else { report::say_styled(&line) }
    }
}

/// The payload as a line that `run --input` reads back as the same message; `None` if there is none.
fn as_line(schema: Schema, payload: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(payload).ok().filter(|text| !text.is_empty())?;
    if !text.contains('\n') && !text.ends_with('\r') {
        return Some(text.into());
    }
    // A line break in JSON can only be between values.
    let is_json = schema == Schema::Json && serde_json::from_str::<IgnoredAny>(text).is_ok();
    is_json.then(|| text.replace(['\n', '\r'], " ").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_line_if_it_comes_back_as_the_same_message() {
        for (schema, payload, line) in [
            (Schema::Json, &b"{\"a\": 1}"[..], Some("{\"a\": 1}")),
            (Schema::Json, b"{\r\n \"a\": \"\\n\"}\n", Some("{   \"a\": \"\\n\"} ")),
            (Schema::Json, b"{\n", None),
            (Schema::Json, b"{", Some("{")),
            (Schema::Json, b"", None),
            (Schema::Text, "zażółć\t\u{1b}".as_bytes(), Some("zażółć\t\u{1b}")),
            (Schema::Text, b"[\n]", None),
            (Schema::Text, b"line\r", None),
            (Schema::Text, b"a\rb", Some("a\rb")),
            (Schema::Raw, b"a=1", Some("a=1")),
            (Schema::Raw, b"\xff", None),
        ] {
            assert_eq!(as_line(schema, payload).as_deref(), line, "{schema} {payload:?}");
        }
    }
}
