//! Formats a request for people and programs.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use iggy_connector_http_sink::preview::{Previewed, PreviewedRequest};
use iggy_connector_sdk::{shown, shown_lines};
use serde_json::{Value, json};

use crate::terminal::report::grouped;

/// The maximum length of a reason, in bytes.
const LONGEST_REASON: usize = 500;

/// The offsets of a batch, and the number of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a> {
    /// The offsets of the batch.
    pub(super) offsets: &'a [u64],
    /// The number of the request, from 1 on.
    pub(super) request: u64,
}

impl Numbers<'_> {
    pub(super) fn offset(self, message: usize) -> u64 {
        self.offsets.get(message).copied().unwrap_or_default()
    }
}

/// Formats a request with its headers and its body, or why a message is in none.
pub(super) fn text(previewed: &Previewed, numbers: Numbers<'_>, end: &str) -> String {
    let request = match previewed {
        Previewed::Request(request) => request,
        refused @ Previewed::Refused { .. } => return refusal(refused, numbers, end) + "\n",
    };
    let mut text = headline(request, numbers);
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{} {}", request.method, request.url);
    for (name, value) in &request.headers {
        let _ = writeln!(text, "{name}: {}", shown(&String::from_utf8_lossy(value), usize::MAX));
    }
    let body = request.uncompressed.as_ref().unwrap_or(&request.body);
    match std::str::from_utf8(body) {
        Ok(body) => {
            let body = shown_lines(body);
            let _ = write!(text, "\n{body}{}", if body.ends_with('\n') { "" } else { "\n" });
        }
        Err(_) => {
            let _ = writeln!(text, "\n(not text, as base64) {}", BASE64_STANDARD.encode(body));
        }
    }
    text
}

/// Describes the content of a request, as a comment.
pub(super) fn headline(request: &PreviewedRequest, numbers: Numbers<'_>) -> String {
    let offsets: Vec<u64> = request.messages.iter().map(|&message| numbers.offset(message)).collect();
    let messages = match &*offsets {
        [first, .., last] => format!("{} messages, offsets {first} to {last}", grouped(offsets.len() as u64)),
        _ => format!("the message at offset {}", offsets.first().copied().unwrap_or_default()),
    };
    let sent = grouped(request.body.len() as u64);
    let bytes = match &request.uncompressed {
        Some(body) => format!("{} bytes, compressed to {sent}", grouped(body.len() as u64)),
        None => format!("{sent} bytes"),
    };
    format!("# request {}: {messages}, {bytes}", numbers.request)
}

/// Says why a message is in no request, as a comment.
pub(super) fn refusal(refused: &Previewed, numbers: Numbers<'_>, end: &str) -> String {
    let Previewed::Refused { message, reason, detail } = refused else { return String::new() };
    let offset = numbers.offset(*message);
    let detail = shown(detail, LONGEST_REASON);
    format!("# the message at offset {offset} is in no request, and ends {}: {reason}: {detail}", as_end(end))
}

fn as_end(end: &str) -> String {
    if end.starts_with("a ") { format!("as {end}") } else { end.to_owned() }
}

/// The same as JSON.
pub(super) fn json(previewed: &Previewed, numbers: Numbers<'_>) -> Value {
    match previewed {
        Previewed::Request(request) => {
            let offsets: Vec<u64> = request.messages.iter().map(|&message| numbers.offset(message)).collect();
            let headers: Vec<Value> = request
                .headers
                .iter()
                .map(|(name, value)| json!([name, String::from_utf8_lossy(value)]))
                .collect();
            let body = request.uncompressed.as_ref().unwrap_or(&request.body);
            let mut value = json!({
                "request": numbers.request,
                "offsets": offsets,
                "method": request.method,
                "url": request.url,
                "headers": headers,
            });
            match std::str::from_utf8(body) {
                Ok(body) => value["body"] = body.into(),
                Err(_) => value["body_base64"] = BASE64_STANDARD.encode(body).into(),
            }
            if request.uncompressed.is_some() {
                value["compressed_bytes"] = request.body.len().into();
            }
            value["masked"] = request.masked.into();
            value
        }
        Previewed::Refused { message, reason, detail } => {
            json!({ "refused": reason, "offset": numbers.offset(*message), "detail": detail })
        }
    }
}
