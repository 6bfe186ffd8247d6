//! `[auth]` together with `[tls]`, `[proxy]`, redirects and the timeouts: what is sent is what was signed, and tokens come over
//! the same client.

use std::fs;

use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use super::{authenticated, token_endpoint::World, wait_until};
use crate::support::{
    config::{config, with},
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink, failures, logged},
    proxy::{Kind, PASSWORD, Proxy, USER},
    tls::{Authority, ClientAuth, TlsFront, server},
};

/// Requests that an endpoint leads from one path to another.
#[track_caller]
fn redirected(location: &'static str, config: impl FnOnce(&str) -> Value) -> [Request; 2] {
    let endpoint = Endpoint::start(move |request| match request.index {
        0 => Answer::status(307).header("Location", location),
        _ => Answer::status(200),
    });
    let sink = Sink::open(&with(config(&endpoint.url()), json!({ "follow_redirects": true })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let hops: [Request; 2] = endpoint.requests().try_into().unwrap();
    assert_eq!(hops[0].body, hops[1].body);
    assert_eq!(hops[1].method, "POST");
    hops
}

#[test]
fn each_hop_of_a_redirect_is_signed_for_where_it_goes() {
    let signed = json!({
        "type": "aws_sigv4", "region": "eu-central-1", "service": "execute-api",
        "access_key_id": "AKID", "secret_access_key": "secret",
    });
    for more in [json!({}), json!({ "response_header_timeout": "10s" })] {
        let hops = redirected("/there", |url| authenticated(url, signed.clone(), more));
        let [first, second] = hops.each_ref().map(|hop| hop.header("authorization").unwrap());
        let parts = |header: &str| header.rsplit_once("Signature=").map(|(head, _)| head.to_owned());
        assert_eq!(parts(first), parts(second));
        assert_ne!(first, second, "a signature of another path");
    }
}

#[test]
fn a_key_in_the_query_goes_to_each_hop_once() {
    let auth = json!({ "type": "api_key", "in": "query", "name": "key", "value": "v 1" });
    for location in ["/there", "/there?key=v+1", "/there?key=v%201"] {
        let [_, second] = redirected(location, |url| authenticated(url, auth.clone(), json!({})));
        let url = reqwest::Url::parse(&format!("http://host{}", second.path)).unwrap();
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        assert_eq!((url.path(), pairs), ("/there", vec![("key".to_owned(), "v 1".to_owned())]));
    }
}

#[test]
fn a_redirect_keeps_user_and_password_and_takes_none() {
    let with_user = |url: &str| config(&url.replace("http://", "http://user:pass@"), json!({}));
    let [first, second] = redirected("/there", with_user);
    assert!(first.header("authorization").unwrap().starts_with("Basic "));
    assert_eq!(first.header("authorization"), second.header("authorization"));

    let endpoint = Endpoint::start(move |request| match request.index {
        0 => {
            let host = request.header("host").unwrap();
            Answer::status(308).header("Location", &format!("http://somebody:else@{host}/there"))
        }
        _ => Answer::status(200),
    });
    let sink = Sink::open(&config(&endpoint.url(), json!({ "follow_redirects": true })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(endpoint.requests()[1].header("authorization"), None);
}

#[test]
fn redirects_in_a_circle_end_and_share_one_timeout() {
    let circle = Endpoint::start(|_| Answer::status(307).header("Location", "/in"));
    let more = json!({ "follow_redirects": true, "max_retries": 0 });
    let sink = Sink::open(&config(&circle.url(), more.clone()));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("circle")), 1);
    assert!(failures("circle").reasons[&0].contains("too many redirects"), "{:?}", failures("circle"));
    assert_eq!(circle.requests().len(), 11);

    let slow = Endpoint::start(|_| {
        Answer::status(307).header("Location", "/in").after(std::time::Duration::from_millis(200))
    });
    let sink = Sink::open(&with(config(&slow.url(), more), json!({ "timeout": "500ms" })));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("slow-circle")), 1);
    assert!(failures("slow-circle").reasons[&0].contains("timeout"), "{:?}", failures("slow-circle"));
    assert!(slow.requests().len() <= 3, "{}", slow.requests().len());
}

#[test]
fn what_is_signed_can_be_watched_by_the_header_timeout() {
    let auth = json!({ "type": "hmac", "header": "X-Signature", "secret": "s" });
    let signature = |more: Value| {
        let endpoint = Endpoint::answering(200);
        let sink = Sink::open(&authenticated(&endpoint.url(), auth.clone(), more));
        assert_eq!(sink.consume(&Batch::numbered(1)), 0);
        let [request] = endpoint.requests().try_into().unwrap();
        (request.header("x-signature").unwrap().to_owned(), request.body)
    };
    assert_eq!(signature(json!({})), signature(json!({ "response_header_timeout": "10s" })));
}

#[test]
fn a_token_endpoint_that_is_not_trusted_is_told_once_and_trusted_when_its_authority_is() {
    let world = World::start();
    let (ours, other) = (Authority::new(), Authority::new());
    let front =
        TlsFront::start(server(&ours.issue(), ClientAuth::None, &[&TLS12, &TLS13]), world.tokens.port());
    let folder = tempfile::tempdir().unwrap();
    let ca = other.write(folder.path(), "ca");
    let auth = with(world.auth(), json!({ "token_url": front.url() }));
    // Neither a retry is spent nor the breaker opened by what somebody mends.
    let more = json!({
        "tls": { "ca_file": ca, "only_ca_file": true }, "max_retries": 0, "circuit_breaker": null,
    });
    let sink = Sink::open(&authenticated(&world.endpoint.url(), auth, more));
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| sink.consume(&Batch::numbered(1).from_stream("untrusted-tokens")));
        wait_until("attempts", || front.attempts() >= 3);
        fs::write(&ca, ours.pem()).unwrap();
        assert_eq!(sent.join().unwrap(), 0, "{:?}", failures("untrusted-tokens"));
    });
    let whose =
        format!(": tls: no token from https://{}: invalid peer certificate: UnknownIssuer", front.address);
    let told = logged(&whose).into_iter().filter(|line| line.starts_with("ERROR")).collect::<Vec<_>>();
    assert_eq!(told.len(), 1, "{:?}", logged(&front.address.to_string()));
    assert!(told[0].contains("tls.ca_file") && told[0].contains("Messages are held"), "{told:?}");
    assert_eq!(world.endpoint.requests().len(), 1);
}

#[test]
fn a_secret_that_went_missing_is_told_once_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gone.pem");
    fs::write(&file, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let world = World::start();
    let mut auth = world.auth();
    auth.as_object_mut().unwrap().remove("client_secret");
    let auth = with(auth, json!({ "client_auth": "private_key_jwt", "private_key_file": file }));
    let more = json!({ "max_retries": 0, "max_retry_duration": "400ms" });
    let sink = Sink::open(&authenticated(&world.endpoint.url(), auth, more));
    fs::remove_file(&file).unwrap();
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("gone")), 1);
    assert!(failures("gone").reasons[&0].starts_with("deadline_exceeded"), "{:?}", failures("gone"));
    let told = logged(file.to_str().unwrap());
    let told: Vec<_> = told
        .into_iter()
        .filter(|line| line.starts_with("ERROR") && line.contains("Messages are held"))
        .collect();
    assert!(matches!(&told[..], [line] if line.contains("give the secret")), "{told:?}");
}

#[test]
fn token_requests_go_through_the_proxy_and_take_nothing_else_with_them() {
    let Some(proxy) = Proxy::start(Kind::Tinyproxy) else { return };
    let world = World::start();
    let authority = Authority::new();
    let front =
        TlsFront::start(server(&authority.issue(), ClientAuth::None, &[&TLS12, &TLS13]), world.tokens.port());
    let folder = tempfile::tempdir().unwrap();
    let port = front.address.port();
    let auth = with(world.auth(), json!({ "token_url": format!("https://localhost:{port}/token") }));
    let more = json!({
        "tls": { "ca_file": authority.write(folder.path(), "ca") }, "max_retries": 0,
        "proxy": { "url": proxy.url(), "username": USER, "password": PASSWORD },
    });
    let sink = Sink::open(&authenticated(&world.endpoint.url(), auth, more));
    assert_eq!(
        sink.consume(&Batch::numbered(1).from_stream("proxied-tokens")),
        0,
        "{:?}",
        failures("proxied-tokens")
    );
    assert_eq!(world.tokens.requests()[0].header("proxy-authorization"), None);
    wait_until("the proxy's log", || proxy.log().contains(&format!("localhost:{port}")));
}
