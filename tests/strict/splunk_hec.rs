//! The HTTP event collector of Splunk
//! (<https://help.splunk.com/en/splunk-enterprise/get-started/get-data-in/9.4/get-data-with-http-event-collector/format-events-for-http-event-collector>).

use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::{Answer, Refused, Request, deliver, endpoint};

/// An answer as the collector words it.
fn refusal(status: u16, code: u16, text: &str, event: Option<usize>) -> Refused {
    let mut answer = json!({ "text": text, "code": code });
    if let Some(event) = event {
        answer["invalid-event-number"] = event.into();
    }
    (status, answer.to_string())
}

/// The events of a request: JSON objects one after the other.
fn events(request: &Request) -> Result<Vec<Value>, Refused> {
    let path = request.path.split('?').next().unwrap_or_default();
    if !["/services/collector", "/services/collector/event", "/services/collector/event/1.0"].contains(&path)
    {
        return Err(refusal(404, 404, "The requested URL was not found on this server.", None));
    }
    match request.header("authorization").map(|value| value.split_once(' ')) {
        None => return Err(refusal(401, 2, "Token is required", None)),
        Some(Some(("Splunk", "00000000-0000-0000-0000-000000000000"))) => {}
        Some(Some(("Splunk", _))) => return Err(refusal(403, 4, "Invalid token", None)),
        Some(_) => return Err(refusal(401, 3, "Invalid authorization", None)),
    }
    if request.body.is_empty() {
        return Err(refusal(400, 5, "No data", None));
    }
    let mut events = Vec::new();
    for (number, event) in
        serde_json::Deserializer::from_slice(&request.body).into_iter::<Map<String, Value>>().enumerate()
    {
        let invalid = |code, text| refusal(400, code, text, Some(number));
        let event = event.map_err(|_| invalid(6, "Invalid data format"))?;
        let known = ["time", "host", "source", "sourcetype", "index", "event", "fields"];
        if !event.keys().all(|key| known.contains(&&**key)) {
            return Err(invalid(6, "Invalid data format"));
        }
        match event.get("event") {
            None | Some(Value::Null) => return Err(invalid(12, "Event field is required")),
            Some(Value::String(text)) if text.is_empty() => {
                return Err(invalid(13, "Event field cannot be blank"));
            }
            Some(event) => events.push(event.clone()),
        }
        if !event.get("time").is_none_or(|time| time.as_f64().is_some_and(|time| time < 1e11)) {
            return Err(invalid(6, "Invalid data format"));
        }
        let is_flat = |value: &Value| value.is_string() || value.is_number();
        if event
            .get("fields")
            .is_some_and(|fields| !fields.as_object().is_some_and(|all| all.values().all(is_flat)))
        {
            return Err(invalid(15, "Error in handling indexed fields"));
        }
    }
    Ok(events)
}

#[test]
fn of_a_thousand_events_three_are_letters_and_the_others_are_indexed_once() {
    let indexed = Arc::<Mutex<Vec<Value>>>::default();
    let kept = indexed.clone();
    let endpoint = endpoint(move |request| {
        if request.index == 0 {
            return Err(refusal(503, 9, "Server is busy", None));
        }
        kept.lock().unwrap().extend(events(request)?);
        Ok(Answer::status(200).body("{\"text\":\"Success\",\"code\":0}"))
    });
    let payload = |n: u64| match n {
        0 | 512 => "\"\"".to_owned(),
        999 => "null".to_owned(),
        n => format!("{{\"n\":{n},\"text\":\"a \\\"b\\\"\"}}"),
    };
    let url = format!("{}/services/collector/event", endpoint.origin());
    let headers = json!({ "headers": { "Authorization": "Splunk 00000000-0000-0000-0000-000000000000" } });
    let letters = deliver("splunk_hec", &url, headers, (0..1000).map(payload).collect());
    let mut taken: Vec<u64> =
        indexed.lock().unwrap().iter().map(|event| event["n"].as_u64().unwrap()).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..1000).filter(|n| ![0, 512, 999].contains(n)).collect::<Vec<_>>());
    let words: Vec<(u64, bool)> =
        letters.iter().map(|(offset, letter)| (*offset, letter.answer.contains("\"code\":13"))).collect();
    assert_eq!(words, [(0, true), (512, true), (999, false)]);
    assert!(letters[&999].answer.contains("Event field is required"));
    // Of no other request is anything but a part of the first, whose repetition was refused, and whose parts were tried in turn.
    let requests = endpoint.requests();
    assert_eq!(requests[0].body, requests[1].body);
    assert!(requests.len() < 70, "{}", requests.len());
}

#[test]
fn a_wrong_token_is_told() {
    let endpoint = endpoint(|request| events(request).map(|_| Answer::status(200).body("{\"code\":0}")));
    let url = format!("{}/services/collector/event", endpoint.origin());
    let headers = json!({ "headers": { "Authorization": "Splunk 00000000-0000-0000-0000-000000000001" } });
    let letters = deliver("splunk_hec", &url, headers, vec!["1".to_owned()]);
    assert_eq!((letters[&0].status, letters[&0].answer.contains("Invalid token")), (Some(403), true));
}
