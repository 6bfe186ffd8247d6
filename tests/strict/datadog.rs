//! The logs intake of Datadog (<https://docs.datadoghq.com/api/latest/logs/#send-logs>).

use std::{
    io::Read,
    sync::{Arc, Mutex},
};

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value, json};

use super::{Answer, Refused, Request, check, deliver, endpoint, has_type};

/// The most entries of a request, and the most bytes before compression.
const MOST_ENTRIES: usize = 1000;
const MOST_BYTES: usize = 5_000_000;

fn refusal(status: u16, detail: &str) -> Refused {
    (status, json!({ "errors": [{ "status": status.to_string(), "detail": detail }] }).to_string())
}

fn entries(request: &Request) -> Result<Vec<Map<String, Value>>, Refused> {
    check(request.method == "POST" && request.path == "/api/v2/logs", "not found")?;
    if request.header("dd-api-key") != Some("0123456789abcdef0123456789abcdef") {
        return Err(refusal(403, "Forbidden"));
    }
    if !has_type(request, "application/json") {
        return Err(refusal(415, "Unsupported media type"));
    }
    let mut body = Vec::new();
    match request.header("content-encoding") {
        None | Some("identity") => body.clone_from(&request.body),
        Some("gzip") => {
            let read = MultiGzDecoder::new(&*request.body).read_to_end(&mut body);
            read.map_err(|_| refusal(400, "not gzip"))?;
        }
        Some(_) => return Err(refusal(415, "Unsupported content encoding")),
    }
    if body.len() > MOST_BYTES {
        return Err(refusal(413, "Payload too large"));
    }
    let entries: Vec<Map<String, Value>> =
        serde_json::from_slice(&body).map_err(|why| refusal(400, &why.to_string()))?;
    if entries.len() > MOST_ENTRIES {
        return Err(refusal(413, "Too many entries"));
    }
    for entry in &entries {
        for key in ["message", "ddsource", "ddtags", "service"] {
            check(entry.get(key).is_some_and(Value::is_string), refusal(400, key).1)?;
        }
        // key:value, separated by commas.
        let tags = entry["ddtags"].as_str().unwrap_or_default();
        check(tags.split(',').all(|tag| tag.contains(':')), refusal(400, "ddtags").1)?;
    }
    Ok(entries)
}

#[test]
fn requests_keep_within_the_limits_of_the_intake_and_what_cannot_is_a_letter() {
    let taken = Arc::<Mutex<Vec<String>>>::default();
    let kept = taken.clone();
    let endpoint = endpoint(move |request| {
        if request.index == 1 {
            return Err(refusal(429, "Too many requests"));
        }
        let entries = entries(request)?;
        let messages = entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned());
        kept.lock().unwrap().extend(messages);
        Ok(Answer::status(202).body("{}"))
    });
    // A thousand small ones, and larger ones of which fifty make a request; three are over its limit alone.
    let bad = |n: &u64| [1001, 1050, 1099].contains(n);
    let payload = |n: u64| {
        let length = if bad(&n) {
            MOST_BYTES
        } else if n < 1000 {
            10
        } else {
            100_000
        };
        format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(length))
    };
    let payloads: Vec<String> = (0..1100).map(payload).collect();
    let url = format!("{}/api/v2/logs", endpoint.origin());
    let headers = json!({ "headers": { "DD-API-KEY": "0123456789abcdef0123456789abcdef" } });
    let letters = deliver("datadog", &url, headers, payloads.clone());
    assert_eq!(letters.keys().copied().collect::<Vec<_>>(), [1001, 1050, 1099]);
    assert!(letters.values().all(|letter| letter.reason == "too_large"));
    let expected: Vec<String> =
        payloads.into_iter().zip(0..).filter(|(_, n)| !bad(n)).map(|(payload, _)| payload).collect();
    assert!(*taken.lock().unwrap() == expected, "each once, in order");
    let statuses: Vec<Option<u16>> = endpoint.exchanges().iter().map(|exchange| exchange.status).collect();
    assert!(statuses.iter().all(|status| [Some(202), Some(429)].contains(status)), "{statuses:?}");
}
