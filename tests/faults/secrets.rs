//! Secrets that change while messages wait.

use std::{fs, time::Duration};

use serde_json::json;

use super::{MODES, Run, plain};
use crate::support::endpoint::{Answer, Endpoint};

/// How long the tests wait for a file to be looked at again: it is looked at once a second.
const LOOKED_AT: Duration = Duration::from_millis(1500);

#[test]
fn a_held_message_goes_out_with_the_credentials_that_were_mended_meanwhile() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        fs::write(&token, "old").unwrap();
        let rotated = token.clone();
        let endpoint = Endpoint::start(move |request| {
            if request.index == 5 {
                fs::write(&rotated, "renewed").unwrap();
            }
            Answer::status(if request.header("authorization") == Some("renewed") { 200 } else { 401 })
        });
        let more = json!({
            "headers": { "Authorization": format!("${{file:{}}}", token.display()) },
            "hold_status_codes": [401],
            "max_retry_duration": "10s",
        });
        let mut run = Run::new("renewed-token", mode, endpoint, more);
        assert_eq!(run.send(10, plain), 0);
        let settled = run.delivered();
        // The 401 has the file looked at before the very next attempt.
        let old = settled.exchanges.iter().take_while(|exchange| exchange.status == Some(401)).count();
        assert_eq!(old, 6, "{mode}");
    }
}

#[test]
fn a_retried_message_goes_out_with_the_secret_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "old").unwrap();
    let rotated = token.clone();
    // Busy whatever the token, until it is the new one.
    let endpoint = Endpoint::start(move |request| {
        if request.index == 0 {
            fs::write(&rotated, "renewed").unwrap();
        }
        Answer::status(if request.header("x-token") == Some("renewed") { 200 } else { 503 })
    });
    let more = json!({
        "headers": { "X-Token": format!("${{file:{}}}", token.display()) },
        "retry_delay": "100ms",
        "max_retry_delay": "100ms",
        "retry_jitter": "none",
        "max_retries": LOOKED_AT.as_millis() / 100,
    });
    let mut run = Run::new("renewed-secret", "nd_json", endpoint, more);
    assert_eq!(run.send(10, plain), 0);
    run.delivered();
}
