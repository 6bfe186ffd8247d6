//! Credentials that are sent as they are: Basic, Bearer and keys.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::json;

use super::{SOON, authenticated, sent_with, token_endpoint};
use crate::support::{
    config::config,
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, failures, logged},
};

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

#[test]
fn basic_sends_user_and_password() {
    let request = sent_with(json!({ "type": "basic", "username": "iggy", "password": "pa:ss wörd" }));
    assert_eq!(request.header("authorization"), Some(basic("iggy:pa:ss wörd").as_str()));
    let request = sent_with(json!({ "type": "basic", "username": "key-alone" }));
    assert_eq!(request.header("authorization"), Some(basic("key-alone:").as_str()));
}

#[test]
fn bearer_sends_a_token() {
    let request = sent_with(json!({ "type": "bearer", "token": "mF_9.B5f-4.1JqM" }));
    assert_eq!(request.header("authorization"), Some("Bearer mF_9.B5f-4.1JqM"));
}

#[test]
fn an_api_key_goes_into_a_header_or_into_the_query() {
    let request = sent_with(json!({ "type": "api_key", "name": "X-Api-Key", "value": "k 1" }));
    assert_eq!((request.header("x-api-key"), request.path.as_str()), (Some("k 1"), "/in"));
    let request = sent_with(json!({ "type": "api_key", "in": "query", "name": "api key", "value": "k&1=ä" }));
    assert_eq!(request.path, "/in?api+key=k%261%3D%C3%A4");

    // What the query holds already stays.
    let endpoint = Endpoint::answering(200);
    let auth = json!({ "type": "api_key", "in": "query", "name": "key", "value": "v" });
    let sink = Sink::open(&authenticated(&format!("{}?a=b%20c", endpoint.url()), auth, json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests()[0].path, "/in?a=b%20c&key=v");
}

#[test]
fn the_health_check_has_credentials_too() {
    let endpoint = Endpoint::answering(200);
    let auth = json!({ "type": "bearer", "token": "t" });
    let _sink = Sink::open(&authenticated(&endpoint.url(), auth, json!({ "health_check_enabled": true })));
    let [request] = endpoint.requests().try_into().unwrap();
    assert_eq!((request.method.as_str(), request.header("authorization")), ("HEAD", Some("Bearer t")));
}

#[test]
fn user_and_password_in_the_url_are_sent_as_basic_and_nowhere_else() {
    let endpoint = Endpoint::sequence(vec![Answer::status(503)]);
    let url = endpoint.url().replace("http://", "http://us%40er:p%3Ass@");
    let sink = Sink::open(&config(&url, json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let requests = endpoint.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.header("authorization"), Some(basic("us@er:p:ss").as_str()));
        assert_eq!(request.header("host"), Some(format!("127.0.0.1:{}", endpoint.port()).as_str()));
        assert_eq!(request.path, "/in");
    }
    // As the original did, an Authorization of one's own goes before.
    let headers = json!({ "headers": { "Authorization": "Own" } });
    let sink = Sink::open(&config(&url, headers));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests()[2].header("authorization"), Some("Own"));
}

#[test]
fn an_environment_override_gives_a_secret() {
    let endpoint = Endpoint::answering(200);
    // As the runtime hands them over: flat, and a number where all are digits.
    let overrides = json!({ "auth_type": "basic", "auth_username": "u", "auth_password": 123_456 });
    let sink = Sink::open(&config(&endpoint.url(), overrides));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    endpoint.wait_for_requests(1, SOON);
    assert_eq!(endpoint.requests()[0].header("authorization"), Some(basic("u:123456").as_str()));
}

#[test]
fn an_endpoint_that_repeats_what_it_was_sent_brings_no_credential_into_the_log() {
    let tokens = Endpoint::start(|_| token_endpoint::token_of("CANARY-echo/1"));
    let types = [
        json!({ "type": "basic", "username": "u", "password": "CANARY-echo+1" }),
        json!({ "type": "bearer", "token": "CANARY-echo/1" }),
        json!({ "type": "api_key", "name": "X-Key", "value": "CANARY-echo \"1\"" }),
        json!({ "type": "api_key", "name": "key", "in": "query", "value": "CANARY-echo &1" }),
        token_endpoint::auth(&tokens),
        json!({
            "type": "aws_sigv4", "region": "r", "service": "s", "access_key_id": "A", "secret_access_key": "s",
            "session_token": "CANARY-echo/1",
        }),
    ];
    for auth in types {
        let endpoint = Endpoint::start(|request| {
            let body = json!({ "path": request.path, "headers": request.headers });
            Answer::status(403).body(body.to_string())
        });
        let kind = auth["type"].as_str().unwrap().to_owned();
        let stream = format!("echo-{kind}-{}", endpoint.port());
        let sink = Sink::open(&authenticated(&endpoint.url(), auth, json!({ "verbose_logging": true })));
        assert_eq!(sink.consume(&Batch::numbered(1).from_stream(&stream)), 1);
        assert!(failures(&stream).reasons[&0].contains("***"), "{kind}: {:?}", failures(&stream));
    }
    assert_eq!(logged("CANARY-echo"), Vec::<String>::new());
    assert_eq!(logged(&BASE64_STANDARD.encode("u:CANARY-echo+1")), Vec::<String>::new());
}
