//! The push API of Loki (<https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs>), with its limits by default.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde::Deserialize;
use serde_json::json;

use super::{Answer, Refused, Request, check, deliver, endpoint, has_type};

/// `limits_config.max_line_size`.
const LONGEST_LINE: usize = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stream {
    stream: BTreeMap<String, String>,
    /// Nanoseconds as a string, and the line.
    values: Vec<(String, String)>,
}

/// A name of a label, as Prometheus has it.
fn is_label(name: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(starts) && name.chars().all(|c| starts(c) || c.is_ascii_digit())
}

fn push(request: &Request) -> Result<Push, Refused> {
    check(request.method == "POST" && request.path == "/loki/api/v1/push", "not found")?;
    // Anything else is read as Protocol Buffers.
    check(has_type(request, "application/json"), "snappy: corrupt input")?;
    let push: Push = serde_json::from_slice(&request.body).map_err(|why| (400, why.to_string()))?;
    for Stream { stream, values } in &push.streams {
        check(!stream.is_empty(), "error at least one label pair is required per stream")?;
        check(stream.keys().all(|name| is_label(name)), "error parsing labels")?;
        for (time, _) in values {
            check(
                time.parse::<i64>().is_ok(),
                "Value looks like Number/Boolean/None, but can't find its end",
            )?;
        }
    }
    Ok(push)
}

#[test]
fn of_a_thousand_lines_three_are_letters_and_the_others_are_there_once() {
    // Loki keeps the good lines of a push that it refuses, and takes the same line of the same time once.
    let kept = Arc::<Mutex<BTreeMap<(String, String), usize>>>::default();
    let lines = kept.clone();
    let endpoint = endpoint(move |request| {
        if request.index == 0 {
            return Err((429, "ingestion rate limit exceeded".to_owned()));
        }
        let (mut lines, mut refused) = (lines.lock().unwrap(), None);
        for Stream { stream, values } in push(request)?.streams {
            assert_eq!((&*stream["iggy_stream"], &*stream["iggy_topic"]), ("stream", "topic"));
            for value in values {
                if value.1.len() > LONGEST_LINE {
                    refused = Some(format!("Max entry size '{LONGEST_LINE}' bytes exceeded"));
                } else {
                    *lines.entry(value).or_default() += 1;
                }
            }
        }
        refused.map_or(Ok(Answer::status(204)), |why| Err((400, why)))
    });
    let bad = |n: &u64| [100, 101, 900].contains(n);
    let payload = |n: u64| {
        let text = if bad(&n) { "x".repeat(LONGEST_LINE) } else { "tab\\t \\\"quote\\\" \\u2028".to_owned() };
        format!("{{\"n\":{n},\"text\":\"{text}\"}}")
    };
    let payloads: Vec<String> = (0..1000).map(payload).collect();
    let url = format!("{}/loki/api/v1/push", endpoint.origin());
    let letters = deliver("loki", &url, json!({}), payloads.clone());
    assert_eq!(letters.keys().copied().collect::<Vec<_>>(), [100, 101, 900]);
    assert!(letters.values().all(|letter| letter.answer.contains("Max entry size")));
    let lines: Vec<String> = kept.lock().unwrap().keys().map(|(_, line)| line.clone()).collect();
    let expected = payloads.into_iter().zip(0..).filter(|(_, n)| !bad(n)).map(|(payload, _)| payload);
    assert_eq!(lines, expected.collect::<Vec<_>>(), "in the order of their times, byte for byte");
}
