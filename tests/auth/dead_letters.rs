//! Dead letters at another endpoint, which has headers and credentials of its own.

use serde_json::json;

use super::authenticated;
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink},
};

#[test]
fn dead_letters_go_out_with_their_own_credentials_and_headers() {
    let (endpoint, letters) = (Endpoint::answering(403), Endpoint::answering(200));
    let auth = json!({ "type": "bearer", "token": "of-messages" });
    let dead_letter = json!({
        "url": letters.url(),
        "headers": { "X-Source": "iggy" },
        "auth": { "type": "api_key", "name": "X-Key", "value": "of-letters" },
        // As the environment overrides it.
        "headers_x_more": "more",
    });
    let more = json!({ "headers": { "X-Other": "o" }, "dead_letter": dead_letter });
    let sink = Sink::open(&authenticated(&endpoint.url(), auth, more));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let [letter] = letters.requests().try_into().unwrap();
    assert_eq!(letter.header("x-key"), Some("of-letters"));
    assert_eq!((letter.header("x-source"), letter.header("x-more")), (Some("iggy"), Some("more")));
    assert_eq!((letter.header("x-other"), letter.header("authorization")), (None, None));
}

#[test]
fn dead_letters_without_auth_of_their_own_have_none() {
    let (endpoint, letters) = (Endpoint::answering(403), Endpoint::answering(200));
    let auth = json!({ "type": "bearer", "token": "of-messages" });
    let more = json!({ "dead_letter": { "url": letters.url() } });
    let sink = Sink::open(&authenticated(&endpoint.url(), auth, more));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(letters.requests()[0].header("authorization"), None);
}

#[test]
fn user_and_password_in_the_url_for_dead_letters_are_sent_as_basic() {
    let (endpoint, letters) = (
        Endpoint::answering(403),
        Endpoint::start(|request| {
            Answer::status(if request.header("authorization") == Some("Basic dTpw") { 200 } else { 401 })
        }),
    );
    let url = letters.url().replace("http://", "http://u:p@");
    let sink = Sink::open(&super::config(&endpoint.url(), json!({ "dead_letter": { "url": url } })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(letters.requests().len(), 1);
}
