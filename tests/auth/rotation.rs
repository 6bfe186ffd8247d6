//! Secrets in files that change while the connector runs.

use std::{fs, path::Path};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use super::authenticated;
use crate::support::{
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink},
};

fn reference(file: &Path) -> String {
    format!("${{file:{}}}", file.display())
}

/// Whether a request was made with the new secret.
type HoldsNew = fn(&Request) -> bool;

/// An endpoint that refuses with this status what does not hold the new secret, which is in its file from the first request on.
fn rotating(
    status: u16,
    file: &Path,
    new: &str,
    holds_new: impl Fn(&Request) -> bool + Send + Sync + 'static,
) -> Endpoint {
    let (file, new) = (file.to_owned(), new.to_owned());
    Endpoint::start(move |request| {
        if request.index == 0 {
            fs::write(&file, &new).unwrap();
        }
        Answer::status(if holds_new(request) { 200 } else { status })
    })
}

#[test]
fn a_refused_request_goes_out_once_more_with_the_secret_that_changed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let types: [(Value, &str, &str, HoldsNew); 5] = [
        (json!({ "type": "bearer", "token": reference(&file) }), "old", "renewed", |request| {
            request.header("authorization") == Some("Bearer renewed")
        }),
        (
            json!({ "type": "basic", "username": "u", "password": reference(&file) }),
            "old",
            "renewed",
            |request| {
                request.header("authorization")
                    == Some(format!("Basic {}", BASE64_STANDARD.encode("u:renewed")).as_str())
            },
        ),
        (
            json!({ "type": "api_key", "name": "key", "in": "query", "value": reference(&file) }),
            "old",
            "renewed",
            |request| request.path == "/in?key=renewed",
        ),
        (
            json!({ "type": "webhook_signature", "secrets": reference(&file) }),
            "whsec_b2xk",
            "whsec_b2xk\nwhsec_bmV3\n",
            |request| request.header("webhook-signature").unwrap().contains(' '),
        ),
        (
            json!({
                "type": "aws_sigv4", "region": "r", "service": "s",
                "access_key_id": reference(&file), "secret_access_key": "s",
            }),
            "OLD",
            "RENEWED",
            |request| request.header("authorization").unwrap().contains("Credential=RENEWED/"),
        ),
    ];
    for (auth, old, new, holds_new) in types {
        for status in [401, 403, 511] {
            fs::write(&file, old).unwrap();
            let endpoint = rotating(status, &file, new, holds_new);
            // Without a retry to spend.
            let more = json!({ "max_retries": 0 });
            let sink = Sink::open(&authenticated(&endpoint.url(), auth.clone(), more));
            assert_eq!(sink.consume(&Batch::numbered(1)), 0, "{auth} {status}");
            assert_eq!(endpoint.requests().len(), 2, "{auth} {status}");
        }
    }
}

#[test]
fn a_refusal_of_a_secret_that_did_not_change_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old").unwrap();
    let endpoint = Endpoint::answering(401);
    let auth = json!({ "type": "bearer", "token": reference(&file) });
    let sink = Sink::open(&authenticated(&endpoint.url(), auth, json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("unchanged-token")), 1);
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn a_new_content_that_is_no_secret_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "good").unwrap();
    let endpoint = rotating(403, &file, "bad\nnewlines", |request| {
        request.index > 0 && request.header("authorization") == Some("Bearer good")
    });
    let auth = json!({ "type": "bearer", "token": reference(&file) });
    let sink = Sink::open(&authenticated(&endpoint.url(), auth, json!({ "hold_status_codes": [403] })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests().len(), 2);
}
