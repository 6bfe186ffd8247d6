//! Signatures: checked with what the receiver knows, and made anew for each attempt.

use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::hmac;
use serde_json::{Value, json};

use super::{authenticated, sent_with};
use crate::support::{
    again::again,
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn tag(algorithm: hmac::Algorithm, key: &[u8], signed: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key), signed).as_ref().to_vec()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Sends a message that the endpoint takes at the second attempt, more than a second after the first.
fn sent_twice(auth: Value) -> [Request; 2] {
    let endpoint = Endpoint::sequence(vec![Answer::status(503)]);
    let slow = json!({ "retry_delay": "1100ms", "max_retry_delay": "1100ms", "retry_jitter": "none" });
    let sink = Sink::open(&authenticated(&endpoint.url(), auth, slow));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    endpoint.requests().try_into().unwrap()
}

/// Whether a request holds a signature of Standard Webhooks with this key.
fn is_signed_with(request: &Request, key: &[u8]) -> bool {
    let [id, timestamp, signatures] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| request.header(name).unwrap());
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    let signature = format!("v1,{}", BASE64_STANDARD.encode(tag(hmac::HMAC_SHA256, key, &signed)));
    signatures.split(' ').any(|one| one == signature)
}

#[test]
fn a_webhook_is_signed_with_each_secret_over_id_time_and_body() {
    let secrets = [b"the first secret of 24 by".as_slice(), b"the next secret of 24 byt"];
    let written = secrets.map(|secret| format!("whsec_{}", BASE64_STANDARD.encode(secret)));
    let before = unix_now();
    let request = sent_with(json!({ "type": "webhook_signature", "secrets": written }));
    let timestamp: u64 = request.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((before..=unix_now()).contains(&timestamp));
    assert_eq!(request.header("webhook-id"), request.header("idempotency-key"));
    assert_eq!(request.header("webhook-signature").unwrap().split(' ').count(), 2);
    assert!(secrets.iter().all(|secret| is_signed_with(&request, secret)));
    assert!(!is_signed_with(&request, b"another"));
}

#[test]
fn a_retried_webhook_has_the_same_id_and_another_time_and_signature() {
    let secret = format!("whsec_{}", BASE64_STANDARD.encode("secret"));
    let requests = sent_twice(json!({ "type": "webhook_signature", "secrets": secret }));
    let same = |name| requests[0].header(name) == requests[1].header(name);
    assert!(same("webhook-id") && !same("webhook-timestamp") && !same("webhook-signature"));
    assert!(requests.iter().all(|request| is_signed_with(request, b"secret")));
}

#[test]
fn the_id_of_a_webhook_needs_no_idempotency_header() {
    let endpoint = Endpoint::answering(200);
    let auth = json!({ "type": "webhook_signature", "secrets": ["whsec_c2VjcmV0"] });
    for header in ["", "webhook-id"] {
        let more = json!({ "idempotency_header": header, "health_check_enabled": true });
        let sink = Sink::open(&authenticated(&endpoint.url(), auth.clone(), more));
        assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    }
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| is_signed_with(request, b"secret")));
    assert_eq!(requests[1].header("webhook-id"), requests[3].header("webhook-id"));
    assert_eq!(requests[1].header("idempotency-key"), None);
}

#[test]
fn an_hmac_is_over_the_body_in_the_form_that_was_asked_for() {
    let body = b"{\"n\":0}\n{\"n\":1}\n";
    let forms = [
        (json!({}), hex(&tag(hmac::HMAC_SHA256, b"k", body))),
        (
            json!({ "algorithm": "sha1", "prefix": "sha1=" }),
            format!("sha1={}", hex(&tag(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"k", body))),
        ),
        (
            json!({ "algorithm": "sha512", "encoding": "base64" }),
            BASE64_STANDARD.encode(tag(hmac::HMAC_SHA512, b"k", body)),
        ),
    ];
    for (form, expected) in forms {
        let mut auth = json!({ "type": "hmac", "header": "X-Signature", "secret": "k" });
        auth.as_object_mut().unwrap().extend(form.as_object().unwrap().clone());
        assert_eq!(sent_with(auth).header("x-signature"), Some(expected.as_str()), "{form}");
    }
}

#[test]
fn an_hmac_can_be_over_the_time_of_the_attempt_too() {
    let auth = json!({
        "type": "hmac", "header": "Stripe-Signature", "secret": "k", "prefix": "t={now},v1=", "signed": "{now}.{body}",
    });
    let times = sent_twice(auth).map(|request| {
        let header = request.header("stripe-signature").unwrap();
        let (time, signature) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let signed = [format!("{time}.").as_bytes(), &request.body].concat();
        assert_eq!(signature, hex(&tag(hmac::HMAC_SHA256, b"k", &signed)));
        time.parse::<u64>().unwrap()
    });
    assert!(times[0] < times[1], "{times:?}");
}

/// The parts of an `Authorization` of AWS.
fn aws_parts(request: &Request) -> [String; 3] {
    let header = request.header("authorization").unwrap().strip_prefix("AWS4-HMAC-SHA256 ").unwrap();
    let parts: Vec<String> =
        header.split(", ").map(|part| part.split_once('=').unwrap().1.to_owned()).collect();
    parts.try_into().unwrap()
}

#[test]
fn aws_requests_are_signed_for_the_moment_of_each_attempt() {
    let requests = sent_twice(json!({
        "type": "aws_sigv4", "region": "eu-central-1", "service": "execute-api",
        "access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret", "session_token": "token+/=",
    }));
    let mut seen = Vec::new();
    for request in &requests {
        let [credential, signed_headers, signature] = aws_parts(request);
        let time = request.header("x-amz-date").unwrap();
        assert_eq!(credential, format!("AKIDEXAMPLE/{}/eu-central-1/execute-api/aws4_request", &time[..8]));
        assert_eq!(signed_headers, "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token");
        assert_eq!(request.header("x-amz-security-token"), Some("token+/="));
        let body_hash = hex(ring::digest::digest(&ring::digest::SHA256, &request.body).as_ref());
        assert_eq!(request.header("x-amz-content-sha256"), Some(body_hash.as_str()));
        seen.push((time.to_owned(), signature));
    }
    assert!(seen[0].0 < seen[1].0 && seen[0].1 != seen[1].1, "{seen:?}");
}

#[test]
fn aws_credentials_come_from_the_environment_where_the_configuration_has_none() {
    // Another process, since this one has an environment for all tests.
    let test = again(module_path!(), "with_aws_credentials_in_the_environment")
        .envs([
            ("AWS_ACCESS_KEY_ID", "FROMENV"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "us-west-2"),
        ])
        .env("AWS_SESSION_TOKEN", "session")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&test.stdout);
    assert!(test.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
#[ignore = "run by another test, in an environment of its own"]
fn with_aws_credentials_in_the_environment() {
    let request = sent_with(json!({ "type": "aws_sigv4", "service": "es" }));
    let [credential, ..] = aws_parts(&request);
    assert!(credential.starts_with("FROMENV/") && credential.ends_with("/us-west-2/es/aws4_request"));
    assert_eq!(request.header("x-amz-security-token"), Some("session"));
}
