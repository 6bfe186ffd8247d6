//! The recorded batches of the original runtime, replayed through the built plugin: the requests
//! must be those that were recorded with them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{
    endpoint::Endpoint,
    plugin::{Sink, plugin},
};

const MODES: [&str; 4] = ["individual", "nd_json", "json_array", "raw"];

/// The folders with recordings: the copy that belongs to the tests and, where the contract lies beside
/// this repository, the original of it.
fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (there, absent): (Vec<_>, Vec<_>) = [root.join("fixtures/abi"), root.join("../shared/abi")]
        .into_iter()
        .partition(|folder| folder.is_dir());
    for folder in absent {
        println!("skipped: the recordings of {} are not there", folder.display());
    }
    there
}

/// The lines of a recording.
fn recorded(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn vectors(folder: &Path) -> BTreeMap<String, Value> {
    recorded(folder, "vectors.jsonl")
        .into_iter()
        .map(|vector| (vector["name"].as_str().unwrap().to_owned(), vector))
        .collect()
}

/// Sends a recorded batch through the plugin; returns consume's code and the requests as
/// (request line, content type, body).
fn replay(vector: &Value, mode: &str, include_metadata: bool) -> (i32, Vec<(String, String, Vec<u8>)>) {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&json!({
        "url": endpoint.url(),
        "batch_mode": mode,
        "include_metadata": include_metadata,
        "include_checksum": true,
        "include_origin_timestamp": true,
    }));
    let code = plugin().consume_encoded(
        sink.id,
        &bytes(&vector["topic_metadata_b64"]),
        &bytes(&vector["messages_metadata_b64"]),
        &bytes(&vector["raw_messages_b64"]),
    );
    assert_eq!(sink.close(), 0);
    let requests = endpoint
        .requests()
        .into_iter()
        .map(|request| {
            let content_type = request.header("content-type").unwrap_or_default().to_owned();
            (format!("{} {} HTTP/1.1", request.method, request.path), content_type, request.body)
        })
        .collect();
    (code, requests)
}

/// A body as JSON values, one for each line; as it is where it is not JSON.
fn as_values(body: &[u8]) -> Result<Vec<Value>, Vec<u8>> {
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(body).into_iter().collect();
    values.map_err(|_| body.to_vec())
}

#[test]
fn recorded_batches_become_the_recorded_requests() {
    for folder in folders() {
        replay_all(&folder);
    }
}

fn replay_all(folder: &Path) {
    let vectors = vectors(folder);
    for recording in recorded(folder, "requests.jsonl") {
        let mode = recording["batch_mode"].as_str().unwrap();
        let include_metadata = recording["include_metadata"].as_bool().unwrap();
        let what = format!("{} in mode {mode}, metadata {include_metadata}", recording["vector"]);
        let vector = &vectors[recording["vector"].as_str().unwrap()];

        let (code, requests) = replay(vector, mode, include_metadata);

        assert_eq!(i64::from(code), recording["consume"].as_i64().unwrap(), "{what}");
        let expected = recording["requests"].as_array().unwrap();
        assert_eq!(requests.len(), expected.len(), "{what}");
        for ((line, content_type, body), expected) in requests.iter().zip(expected) {
            assert_eq!(line, expected["request"].as_str().unwrap(), "{what}");
            assert_eq!(content_type, expected["content_type"].as_str().unwrap(), "{what}");
            assert_eq!(as_values(body), as_values(&bytes(&expected["body_b64"])), "{what}");
        }
    }
}

/// Every message of every recording, undecodable ones too, in every mode: all that can be read are
/// sent, with the bytes of their payloads as they came, and the call tells whether there were others.
#[test]
fn payload_bytes_are_kept_and_undecodable_payloads_do_not_hold_the_others_back() {
    for (name, vector) in folders().iter().flat_map(|folder| vectors(folder)) {
        let messages = vector["messages"].as_array().unwrap();
        let readable: Vec<&Value> =
            messages.iter().filter(|message| message["decoded"].get("error").is_none()).collect();
        for mode in MODES {
            let (code, requests) = replay(&vector, mode, mode != "raw");
            let what = format!("{name} in mode {mode}");
            assert_eq!(code, i32::from(readable.len() < messages.len()), "{what}");
            let sent: Vec<u8> = requests.iter().flat_map(|(_, _, body)| body.iter().copied()).collect();
            let batches = matches!(mode, "nd_json" | "json_array");
            let expected = if batches { usize::from(!readable.is_empty()) } else { readable.len() };
            assert_eq!(requests.len(), expected, "{what}");
            if vector["schema"] == "json" {
                for message in &readable {
                    let payload = bytes(&message["payload_b64"]);
                    let found = sent.windows(payload.len()).any(|window| window == payload);
                    assert!(found, "{what}: {:?} is not in the bodies", String::from_utf8_lossy(&payload));
                }
            }
        }
    }
}

#[test]
fn every_recording_is_replayed_in_every_mode() {
    let mut modes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let folder = &folders()[0];
    for recording in recorded(folder, "requests.jsonl") {
        let name = recording["vector"].as_str().unwrap().to_owned();
        modes.entry(name).or_default().push(recording["batch_mode"].as_str().unwrap().to_owned());
    }
    for (name, vector) in vectors(folder) {
        if vector["connector_drops_undecodable"] == true {
            continue;
        }
        for mode in MODES {
            assert!(
                modes.get(&name).is_some_and(|modes| modes.iter().any(|m| m == mode)),
                "{name} in {mode}"
            );
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(plugin().version(), env!("CARGO_PKG_VERSION"));
}
