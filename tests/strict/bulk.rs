//! The bulk API of Elasticsearch and `OpenSearch`
//! (<https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use serde_json::{Map, Value, json};

use super::{Answer, Endpoint, Refused, Request, check, deliver, endpoint, has_type};

/// The longest `_id`, in bytes.
const LONGEST_ID: usize = 512;

/// Documents by their index and `_id`.
type Index = Arc<Mutex<BTreeMap<(String, String), Value>>>;

/// The actions of a request with their sources. `create` alone is known here.
fn actions(request: &Request) -> Result<Vec<(String, String, String)>, Refused> {
    check(["POST", "PUT"].contains(&&*request.method), "method")?;
    let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let in_path = path.strip_suffix("/_bulk").map(|index| index.trim_matches('/').to_owned());
    let in_path = in_path.ok_or((404, "no handler found".to_owned()))?;
    if !has_type(request, "application/x-ndjson") && !has_type(request, "application/json") {
        return Err((406, "Content-Type header is not supported".to_owned()));
    }
    let text = str::from_utf8(&request.body).map_err(|why| (400, why.to_string()))?;
    check(text.ends_with('\n'), "The bulk request must be terminated by a newline [\\n]")?;
    let mut lines = text.split_terminator('\n');
    let mut actions = Vec::new();
    while let Some(line) = lines.next() {
        let action: Map<String, Value> = serde_json::from_str(line)
            .map_err(|why| (400, format!("Malformed action/metadata line: {why}")))?;
        check(action.len() == 1, "Malformed action/metadata line, expected one action")?;
        let metadata = action.get("create").and_then(Value::as_object);
        let metadata = metadata.ok_or((400, "Unknown action".to_owned()))?;
        let known = ["_index", "_id", "routing", "require_alias", "pipeline"];
        check(metadata.keys().all(|key| known.contains(&&**key)), "unknown parameter")?;
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let index = text("_index").unwrap_or_else(|| in_path.clone());
        check(!index.is_empty(), "index is missing")?;
        check(index == index.to_lowercase(), "Invalid index name, must be lowercase")?;
        let id = text("_id").ok_or((400, "an _id must be provided".to_owned()))?;
        check(!id.is_empty() && id.len() <= LONGEST_ID, "id is too long or empty")?;
        let source = lines.next().ok_or((400, "no source for the last action".to_owned()))?;
        actions.push((index, id, source.to_owned()));
    }
    check(!actions.is_empty(), "request body is required")?;
    Ok(actions)
}

fn item(index: &str, id: &str, status: u16, error: Option<(&str, String)>) -> Value {
    let mut item = json!({ "_index": index, "_id": id, "status": status });
    if let Some((kind, reason)) = error {
        item["error"] = json!({ "type": kind, "reason": reason });
    }
    json!({ "create": item })
}

/// An endpoint whose field `n` is a number, and which throttles these values of it in the first request.
fn bulk(throttled: BTreeSet<u64>) -> (Endpoint, Index) {
    let index = Index::default();
    let held = index.clone();
    let endpoint = endpoint(move |request| {
        let mut held = held.lock().unwrap();
        let mut items = Vec::new();
        for (index, id, source) in actions(request)? {
            let document: Result<Map<String, Value>, _> = serde_json::from_str(&source);
            let n = document.as_ref().ok().and_then(|document| document.get("n")).and_then(Value::as_u64);
            items.push(match n {
                None => {
                    let reason = "[1:6] failed to parse field [n] of type [long]".to_owned();
                    item(&index, &id, 400, Some(("document_parsing_exception", reason)))
                }
                Some(n) if request.index == 0 && throttled.contains(&n) => {
                    let reason = "rejected execution of primary operation".to_owned();
                    item(&index, &id, 429, Some(("es_rejected_execution_exception", reason)))
                }
                Some(_) if held.contains_key(&(index.clone(), id.clone())) => {
                    let reason = format!("[{id}]: version conflict, document already exists");
                    item(&index, &id, 409, Some(("version_conflict_engine_exception", reason)))
                }
                Some(n) => {
                    held.insert((index.clone(), id.clone()), n.into());
                    item(&index, &id, 201, None)
                }
            });
        }
        let errors = items.iter().any(|item| !item["create"]["error"].is_null());
        Ok(Answer::status(200).body(json!({ "took": 3, "errors": errors, "items": items }).to_string()))
    });
    (endpoint, index)
}

#[test]
fn of_a_thousand_documents_three_are_letters_five_go_again_alone_and_the_others_went_once() {
    for preset in ["elasticsearch", "opensearch"] {
        let (endpoint, index) = bulk([7, 8, 500, 700, 999].into());
        let bad = |n: &u64| [3, 400, 998].contains(n);
        let payload = |n: u64| if bad(&n) { "{\"n\":\"text\"}".to_owned() } else { format!("{{\"n\":{n}}}") };
        let url = format!("{}/{{topic}}/_bulk", endpoint.origin());
        let letters = deliver(preset, &url, json!({}), (0..1000).map(payload).collect());
        let sent: Vec<usize> =
            endpoint.requests().iter().map(|request| actions(request).unwrap().len()).collect();
        assert_eq!(sent, [1000, 5], "{preset}");
        let held: BTreeSet<u64> = index.lock().unwrap().values().filter_map(Value::as_u64).collect();
        assert_eq!(held, (0..1000).filter(|n| !bad(n)).collect(), "{preset}");
        assert_eq!(letters.keys().copied().collect::<Vec<_>>(), [3, 400, 998], "{preset}");
        for letter in letters.values() {
            assert_eq!((&*letter.reason, letter.status), ("rejected", Some(400)));
            assert_eq!(letter.answer, "[1:6] failed to parse field [n] of type [long]");
        }
    }
}

#[test]
fn documents_that_are_sent_again_are_there_once() {
    let (endpoint, index) = bulk(BTreeSet::new());
    let url = format!("{}/orders/_bulk", endpoint.origin());
    for _ in 0..2 {
        let letters =
            deliver("elasticsearch", &url, json!({}), (0..50).map(|n| format!("{{\"n\":{n}}}")).collect());
        assert!(letters.is_empty());
    }
    assert_eq!((endpoint.requests().len(), index.lock().unwrap().len()), (2, 50));
}
