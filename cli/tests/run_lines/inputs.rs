//! What an input is: packed or not, lines or not, and told from others by its keys.

use std::{fs, io::Write as _, process::Stdio};

use super::{folder, json, numbers, run};
use crate::{shared::endpoint::Endpoint, support::start};
use flate2::{Compression, write::GzEncoder};

/// The keys of the requests, by their bodies.
fn keys(endpoint: &Endpoint) -> Vec<(String, String)> {
    let requests = endpoint.requests();
    let body = |body: &[u8]| String::from_utf8_lossy(body).trim().to_owned();
    requests.iter().map(|r| (body(&r.body), r.header("idempotency-key").unwrap().to_owned())).collect()
}

#[test]
fn keys_of_a_file_follow_the_file_and_the_line() {
    let endpoint = Endpoint::answering(200);
    let (folder, input) =
        folder(&endpoint.url(), "max_batch_messages = 1\n", b"{\"a\":1}\n\n{\"a\":1}\n{\"b\":1}\n");
    let sent = |arguments: &[&str]| {
        let before = endpoint.requests().len();
        let finished = start(&mut run(folder.path(), arguments)).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        keys(&endpoint).split_off(before)
    };
    let whole = sent(&["--input", &input]);
    assert_eq!(whole.len(), 3);
    assert_ne!(whole[0].1, whole[1].1, "equal lines are two messages");
    assert_eq!(sent(&["--input", &input]), whole, "the same file again");
    assert_eq!(sent(&["--input", &input, "--start-line", "3"]), whole[1..]);
    assert_eq!(sent(&["--input", &input, "--lines", "1-2,4"]), [whole[0].clone(), whole[2].clone()]);
    assert_eq!(sent(&["--input", &input, "--limit", "1"]), whole[..1]);
    let moved = folder.path().join("moved").to_str().unwrap().to_owned();
    fs::rename(&input, &moved).unwrap();
    assert_eq!(sent(&["--input", &moved]), whole, "it is still the same file");
    fs::copy(&moved, &input).unwrap();
    let copied = sent(&["--input", &input]);
    assert!(copied.iter().zip(&whole).all(|(one, other)| one.1 != other.1), "another file: {copied:?}");
    let named = |file: &str| sent(&["--input", file, "--input-id", "orders of May"]);
    assert_eq!(named(&input), named(&moved));
}

#[test]
fn keys_of_stdin_follow_the_run() {
    let endpoint = Endpoint::answering(200);
    let (folder, _) = folder(&endpoint.url(), "", b"");
    let sent = |arguments: &[&str]| {
        let before = endpoint.requests().len();
        let mut running =
            start(run(folder.path(), &[&["--input", "-"], arguments].concat()).stdin(Stdio::piped()));
        running.write(b"{\"a\":1}\n");
        let finished = running.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let id = json(&finished)["input_id"].as_str().unwrap().to_owned();
        (keys(&endpoint).split_off(before), id)
    };
    let (first, id) = sent(&[]);
    assert_ne!(sent(&[]).0, first);
    assert_eq!(sent(&["--input-id", &id]).0, first, "as the command that goes on says");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn packed_and_marked_inputs_are_read() {
    let lines = numbers(25).into_bytes();
    for input in [gzip(&lines), zstd::encode_all(&*lines, 1).unwrap(), [b"\xef\xbb\xbf", &*lines].concat()] {
        let endpoint = Endpoint::answering(200);
        let (folder, file) = folder(&endpoint.url(), "", &input);
        let finished = start(&mut run(folder.path(), &["--input", &file])).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let sent: Vec<u8> = endpoint.requests().iter().flat_map(|request| request.body.clone()).collect();
        assert_eq!(sent, lines);
    }
}

#[test]
fn what_is_no_lines_gets_one_clear_error() {
    let utf16: Vec<u8> = "\u{feff}{\"n\":1}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let pretty = serde_json::to_vec_pretty(&json!([{ "n": 1 }, { "n": 2 }])).unwrap();
    let one = serde_json::to_vec_pretty(&json!({ "n": 1, "m": { "a": [1, 2] } })).unwrap();
    for (input, words) in [
        (utf16, ["UTF-16", "iconv"]),
        (pretty, ["several lines", "jq -c '.[]'"]),
        (one, ["several lines", "jq -c ."]),
        (b"PK\x03\x04xxxx\n".to_vec(), ["zip archive", "unzip"]),
    ] {
        let endpoint = Endpoint::answering(200);
        let (folder, file) = folder(&endpoint.url(), "", &input);
        let finished = start(&mut run(folder.path(), &["--input", &file])).finish();
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(words.iter().all(|word| finished.stderr.contains(word)), "{finished:?}");
        assert!(!finished.stderr.contains("ERROR") && endpoint.requests().is_empty(), "{finished:?}");
    }
    // A line that is cut off is a message that cannot be read, and no reason to stop.
    let endpoint = Endpoint::answering(200);
    let (folder, file) = folder(&endpoint.url(), "", b"{\"n\":\n{\"n\":1}\n");
    let finished = start(&mut run(folder.path(), &["--input", &file])).finish();
    assert_eq!((finished.code, &json(&finished)["delivered"]), (Some(1), &json!(1)), "{finished:?}");
    assert!(finished.stderr.contains("--lines 1"), "{finished:?}");
}
