//! Metrics of what happens seldom: tokens, secrets and certificates that are renewed, a spool that is full or fills bodies.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::client::{address, metric, shown};
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink},
    spooled::{SOON, letters, taken, wait_until},
};

fn reloads(sink: &Sink, endpoint: &Endpoint, what: &str, result: &str) -> f64 {
    let labels = format!(
        "connector=\"{}\",endpoint=\"{}\",what=\"{what}\",result=\"{result}\"",
        sink.id,
        endpoint.origin()
    );
    metric(address(sink), &format!("http_sink_reloads_total{{{labels}}}"))
}

/// Has messages sent until something comes about that is looked at before an attempt.
fn sending_until(sink: &Sink, what: &str, mut met: impl FnMut() -> bool) {
    let mut offset = 0;
    wait_until(what, || {
        offset += 1;
        assert_eq!(sink.consume(&Batch::numbered(1).from_offset(offset)), 0);
        met()
    });
}

#[test]
fn a_secret_that_is_read_again_or_cannot_be_is_counted() {
    for auth in [false, true] {
        let (endpoint, folder) = (Endpoint::answering(200), tempfile::tempdir().unwrap());
        let file = folder.path().join("secret");
        fs::write(&file, "secret-number-one").unwrap();
        let secret = format!("${{file:{}}}", file.display());
        let keys = if auth {
            json!({ "auth": { "type": "bearer", "token": secret } })
        } else {
            json!({ "headers": { "x-key": secret } })
        };
        let sink = Sink::open(&shown(&endpoint.url(), keys));
        assert_eq!(sink.consume(&Batch::numbered(1)), 0);
        assert_eq!(reloads(&sink, &endpoint, "secret", "success"), 0.0);
        fs::write(&file, "secret-number-two-is-longer").unwrap();
        sending_until(&sink, "a secret that was read", || {
            reloads(&sink, &endpoint, "secret", "success") == 1.0
        });
        fs::remove_file(&file).unwrap();
        sending_until(&sink, "a secret that was not", || {
            reloads(&sink, &endpoint, "secret", "failure") == 1.0
        });
    }
}

#[test]
fn tokens_that_are_given_and_those_that_are_not_are_counted() {
    let tokens = Endpoint::start(|request| match request.index {
        0 => Answer::status(500),
        _ => Answer::status(200)
            .header("Content-Type", "application/json")
            .body(r#"{"access_token":"a-token-of-many-letters","token_type":"Bearer","expires_in":3600}"#),
    });
    let endpoint = Endpoint::answering(200);
    let auth = json!({
        "type": "oauth2_client_credentials", "token_url": tokens.url(), "client_id": "me",
        "client_secret": "a-secret-of-many-letters",
    });
    // A failure stands for a second.
    let sink = Sink::open(&shown(
        &endpoint.url(),
        json!({ "auth": auth, "retry_delay": "500ms", "retry_jitter": "none" }),
    ));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(reloads(&sink, &endpoint, "token", "failure"), 1.0);
    assert_eq!(reloads(&sink, &endpoint, "token", "success"), 1.0);
}

fn certificate(folder: &Path, year: i32) {
    let mut parameters = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("certificate"), parameters.self_signed(&key).unwrap().pem()).unwrap();
}

#[test]
fn the_end_of_the_client_certificate_is_told_also_after_it_was_renewed() {
    let (endpoint, folder) = (Endpoint::answering(200), tempfile::tempdir().unwrap());
    certificate(folder.path(), 2030);
    let [file, key] = ["certificate", "key"].map(|name| folder.path().join(name));
    let tls = json!({ "tls": { "client_cert_file": file, "client_key_file": key } });
    let sink = Sink::open(&shown(&endpoint.url(), tls));
    let labels = format!("connector=\"{}\",endpoint=\"{}\"", sink.id, endpoint.origin());
    let ends =
        || metric(address(&sink), &format!("http_sink_certificate_expiry_timestamp_seconds{{{labels}}}"));
    // The first of January of 2030 and of 2031.
    assert_eq!(ends(), 1_893_456_000.0);
    certificate(folder.path(), 2031);
    sending_until(&sink, "the next certificate", || ends() == 1_924_992_000.0);
    assert!(reloads(&sink, &endpoint, "tls", "success") >= 1.0);
    fs::write(&file, "no certificate").unwrap();
    sending_until(&sink, "a failure", || reloads(&sink, &endpoint, "tls", "failure") >= 1.0);
    assert_eq!(ends(), 1_924_992_000.0, "the last good one stays in use");
}

#[test]
fn what_a_full_spool_sheds_and_what_goes_together_is_counted() {
    let (endpoint, folder) = (Endpoint::start(|_| Answer::status(503)), tempfile::tempdir().unwrap());
    let full: Value = json!({
        "close_timeout": "1s",
        "dead_letter": { "path": folder.path().join("dead-letters") },
        "spool": { "path": folder.path().join("spool"), "max_bytes": "4 MiB", "when_full": "dead_letter" },
    });
    let sink = Sink::open(&shown(&endpoint.url(), full));
    let labels = format!("connector=\"{}\",stream=\"stream\",topic=\"topic\"", sink.id);
    let shed = || metric(address(&sink), &format!("http_sink_shed_messages_total{{{labels}}}"));
    let large = |offset| {
        let payload = format!("\"{}\"", "x".repeat(400_000));
        Batch::of(iggy_connector_sdk::Schema::Json, [payload]).from_offset(offset)
    };
    for offset in 0..20 {
        assert_eq!(sink.consume(&large(offset)), 0);
    }
    let not_stored = letters(folder.path()).len();
    assert!(not_stored > 5, "{not_stored}");
    assert_eq!(shed(), not_stored as f64);
}

#[test]
fn stored_batches_that_go_together_are_counted() {
    let endpoint = Endpoint::sequence(vec![Answer::status(503)]);
    let folder = tempfile::tempdir().unwrap();
    let keys = json!({
        "include_metadata": false, "batch_mode": "nd_json", "close_timeout": "1s",
        "spool": { "path": folder.path() },
    });
    let sink = Sink::open(&shown(&endpoint.url(), keys));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    endpoint.wait_for_requests(1, SOON);
    // They come while the first waits to be sent again.
    for offset in 1..4 {
        let mut batch = Batch::numbered(offset + 1);
        batch.messages.drain(..usize::try_from(offset).unwrap());
        assert_eq!(sink.consume(&batch), 0);
    }
    wait_until("all messages", || taken(&endpoint) == [0, 1, 2, 3]);
    let merges = metric(address(&sink), &format!("http_sink_merges_total{{connector=\"{}\"}}", sink.id));
    let bodies = endpoint.requests().len() - 1;
    assert!(bodies < 4 && merges >= (4 - bodies) as f64, "{merges} merges, {bodies} bodies");
}
