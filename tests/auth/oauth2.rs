//! Tokens: asked for once, replaced in time and when they are refused, waited for while there are none.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::signature::{self, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{
    SOON, authenticated,
    token_endpoint::{self, World, auth, form, refusal, token},
    wait_until,
};
use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint, refused_url},
    plugin::{Batch, Sink, failures, logged},
    spooled,
};

/// The shipped defaults.
fn by_default(url: &str, auth: Value, more: Value) -> Value {
    with(json!({ "url": url, "auth": auth, "include_metadata": false }), more)
}

#[test]
fn a_token_request_is_as_the_standard_has_it() {
    let world = World::start();
    let more = json!({
        "client_id": "cli:ent", "client_secret": "s&cret +", "scope": "a b", "audience": "https://api",
        "extra": { "resource": "urn:r" },
    });
    let auth = with(world.auth(), more);
    let sink = Sink::open(&authenticated(&world.endpoint.url(), auth.clone(), json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let request = &world.tokens.requests()[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    // Each part is encoded as in a form first (RFC 6749 section 2.3.1).
    let credentials = BASE64_STANDARD.encode("cli%3Aent:s%26cret+%2B");
    assert_eq!(request.header("authorization"), Some(format!("Basic {credentials}").as_str()));
    let parameters = [
        ("grant_type", "client_credentials"),
        ("scope", "a b"),
        ("audience", "https://api"),
        ("resource", "urn:r"),
    ];
    let expected = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(request), expected.clone().into());
    assert_eq!(world.endpoint.requests()[0].header("authorization"), Some("Bearer token-1"));

    // And with the secret in the body.
    let auth = with(auth, json!({ "client_auth": "post" }));
    let sink = Sink::open(&authenticated(&world.endpoint.url(), auth, json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let request = &world.tokens.requests()[1];
    assert_eq!(request.header("authorization"), None);
    let mut form = form(request);
    assert_eq!(form.remove("client_id").as_deref(), Some("cli:ent"));
    assert_eq!(form.remove("client_secret").as_deref(), Some("s&cret +"));
    assert_eq!(form, expected.into());
}

#[test]
fn a_client_can_sign_with_its_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(&file, key.serialize_pem()).unwrap();
    let world = World::start();
    let mut auth = world.auth();
    auth.as_object_mut().unwrap().remove("client_secret");
    let auth = with(auth, json!({ "client_auth": "private_key_jwt", "private_key_file": file }));
    let sink = Sink::open(&authenticated(&world.endpoint.url(), auth, json!({})));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    let form = form(&world.tokens.requests()[0]);
    assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let (signed, signature) = form["client_assertion"].rsplit_once('.').unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    let public = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.public_key_raw());
    public.verify(signed.as_bytes(), &signature).unwrap();
    let [header, claims] = [0, 1].map(|part| {
        let part = signed.split('.').nth(part).unwrap();
        serde_json::from_slice::<Value>(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    });
    assert_eq!(header, json!({ "alg": "ES256", "typ": "JWT" }));
    assert_eq!([&claims["iss"], &claims["sub"]], ["client", "client"]);
    assert_eq!(claims["aud"], world.tokens.url());
    assert!(claims["exp"].as_u64() > claims["iat"].as_u64() && claims["jti"].is_string());
}

#[test]
fn sixteen_requests_in_flight_ask_for_one_token() {
    let world = World::start();
    let more = json!({ "concurrency": 16, "ordering": "none" });
    let sink = Sink::open(&by_default(&world.endpoint.url(), world.auth(), more));
    assert_eq!(sink.consume(&Batch::numbered(64)), 0);
    assert_eq!(world.endpoint.requests().len(), 64);
    assert_eq!(world.tokens.requests().len(), 1);

    // And for one more when it is refused, whoever was on its way with it.
    world.accepted.store(2, SeqCst);
    assert_eq!(sink.consume(&Batch::numbered(64).from_offset(64)), 0);
    assert_eq!(world.tokens.requests().len(), 2);
}

#[test]
fn a_refused_token_is_replaced_once_and_costs_no_retry() {
    for status in [401, 511] {
        let world = World::start();
        let endpoint = token_endpoint::taking_tokens_from(&world.accepted, status);
        world.accepted.store(2, SeqCst);
        let sink = Sink::open(&by_default(&endpoint.url(), world.auth(), json!({ "max_retries": 0 })));
        assert_eq!(sink.consume(&Batch::numbered(1)), 0, "{status}");
        assert_eq!(endpoint.requests().len(), 2, "{status}");
        assert_eq!(world.tokens.requests().len(), 2, "{status}");
    }
}

#[test]
fn an_endpoint_that_refuses_every_token_is_asked_once_more_and_then_classified_as_ever() {
    let world = World::start();
    world.accepted.store(usize::MAX, SeqCst);
    let stream = "every-token-refused";
    let sink = Sink::open(&by_default(&world.endpoint.url(), world.auth(), json!({})));
    for offset in 0..5 {
        assert_eq!(sink.consume(&Batch::numbered(1).from_offset(offset).from_stream(stream)), 1);
    }
    assert_eq!(sink.close(), 0);
    assert_eq!(failures(stream).count, 5);
    // The first message with two tokens, each other one with the second.
    assert_eq!(world.endpoint.requests().len(), 6);
    assert_eq!(world.tokens.requests().len(), 2);
}

#[test]
fn tokens_are_replaced_before_they_end() {
    let given = AtomicUsize::new(0);
    let tokens = Endpoint::start(move |_| token(given.fetch_add(1, SeqCst) + 1, "2"));
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&by_default(&endpoint.url(), auth(&tokens), json!({})));
    wait_until("a second token", || {
        assert_eq!(sink.consume(&Batch::numbered(1)), 0);
        tokens.requests().len() == 2
    });
    let [first, second] = tokens.requests().try_into().unwrap();
    let between = second.at - first.at;
    assert!((Duration::from_millis(1400)..Duration::from_secs(2)).contains(&between), "{between:?}");
}

#[test]
fn without_a_token_messages_are_retried_and_none_is_lost() {
    let world = World::start();
    world.down.store(true, SeqCst);
    let sink = Arc::new(Sink::open(&by_default(
        &world.endpoint.url(),
        world.auth(),
        json!({ "retry_delay": "50ms", "max_retry_delay": "100ms", "max_retries": 1000 }),
    )));
    let consuming = thread::spawn({
        let sink = sink.clone();
        move || sink.consume(&Batch::numbered(10))
    });
    // The breaker opens after five of them.
    world.tokens.wait_for_requests(6, SOON);
    assert_eq!(world.endpoint.requests().len(), 0);
    world.down.store(false, SeqCst);
    assert_eq!(consuming.join().unwrap(), 0);
    assert_eq!(world.endpoint.requests().len(), 10);
    let address = format!("http://127.0.0.1:{}", world.tokens.port());
    assert_eq!(logged(&format!("no token from {address}: answered 503: asked again")).len(), 1);
    assert_eq!(logged(&format!("{address} gives tokens again")).len(), 1);
}

#[test]
fn a_token_that_cannot_be_had_fails_the_message_with_the_token_endpoint_as_its_reason() {
    let endpoint = Endpoint::answering(200);
    let stream = "no-token-to-be-had";
    let url = refused_url();
    let config = with(auth(&endpoint), json!({ "token_url": format!("{url}?secret=CANARY") }));
    let sink = Sink::open(&authenticated(&endpoint.url(), config, json!({ "max_retries": 1 })));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream(stream)), 1);
    let reason = &failures(stream).reasons[&0];
    let origin = url.trim_end_matches("/in");
    assert!(reason.contains(&format!("token: no token from {origin}: ")), "{reason}");
    assert!(reason.contains("refused") && !reason.contains("CANARY"), "{reason}");
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn a_client_that_is_refused_is_told_once_and_its_messages_wait() {
    let mended = Arc::<AtomicBool>::default();
    let is_mended = mended.clone();
    let tokens = Endpoint::start(move |request| match request.index {
        _ if is_mended.load(SeqCst) => token(1, 3600),
        _ => refusal(401, "invalid_client"),
    });
    let endpoint = Endpoint::answering(200);
    let folder = tempfile::tempdir().unwrap();
    // Not a retry is to be spent, and the breaker stays as it is shipped.
    let more = json!({ "max_retries": 0, "circuit_breaker": null });
    let config =
        spooled::config(&endpoint.url(), folder.path(), with(json!({ "auth": auth(&tokens) }), more));
    let sink = Sink::open(&config);
    for partition in 0..3 {
        let batch = super::Batch { partition_id: partition, ..Batch::numbered(2) };
        assert_eq!(sink.consume(&batch), 0);
    }
    tokens.wait_for_requests(4, SOON);
    let address = format!("http://127.0.0.1:{}", tokens.port());
    let told = logged(&format!("{address} refuses to give a token: invalid_client (answered 401)"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("ERROR"));
    mended.store(true, SeqCst);
    wait_until("delivery", || spooled::taken(&endpoint).len() == 6);
    assert_eq!(spooled::letters(folder.path()), []);
    assert_eq!(logged("CANARY"), Vec::<String>::new());
}

#[test]
fn an_answer_that_is_no_token_is_read_to_a_bound_and_never_shown() {
    let canary = json!({ "access_token": "CANARY with a space", "error_description": "CANARY" }).to_string();
    let answers = [
        ("too-long", Answer::huge(1 << 30)),
        ("not-json", Answer::status(200).body("CANARY")),
        ("not-a-token", Answer::status(200).body(canary)),
        ("an-error", Answer::status(500).body("CANARY")),
        ("cut-off", Answer::status(200).body("CANARY".repeat(10)).cut_after(10)),
    ];
    for (stream, answer) in answers {
        let tokens = Endpoint::start(move |_| answer.clone());
        let endpoint = Endpoint::answering(200);
        let more = json!({ "max_retries": 0, "verbose_logging": true });
        let sink = Sink::open(&authenticated(&endpoint.url(), auth(&tokens), more));
        assert_eq!(sink.consume(&Batch::numbered(1).from_stream(stream)), 1);
        let reason = &failures(stream).reasons[&0];
        assert!(reason.contains(&format!("no token from http://127.0.0.1:{}", tokens.port())), "{reason}");
    }
    assert_eq!(logged("CANARY"), Vec::<String>::new());
}

#[test]
fn with_a_spool_and_the_defaults_an_outage_of_the_token_endpoint_loses_nothing() {
    let world = World::start();
    world.down.store(true, SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let spool = json!({
        "spool": { "path": folder.path().join("spool") },
        "dead_letter": { "path": folder.path().join("dead-letters") },
        "batch_mode": "nd_json",
    });
    let sink = Sink::open(&by_default(&world.endpoint.url(), world.auth(), spool));
    for partition in 0..4 {
        let batch = super::Batch { partition_id: partition, ..Batch::numbered(5) };
        assert_eq!(sink.consume(&batch), 0);
    }
    world.tokens.wait_for_requests(4, SOON);
    world.down.store(false, SeqCst);
    wait_until("delivery", || spooled::taken(&world.endpoint).len() == 20);
    assert_eq!(spooled::letters(folder.path()), []);
}

#[test]
fn a_secret_of_the_client_that_changes_is_used_for_the_next_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "old").unwrap();
    let rotated = file.clone();
    let tokens = Endpoint::start(move |request| {
        if form(request)["client_secret"] == "renewed" {
            return token(1, 3600);
        }
        fs::write(&rotated, "renewed").unwrap();
        refusal(400, "invalid_client")
    });
    let endpoint = Endpoint::answering(200);
    let more = json!({ "client_auth": "post", "client_secret": format!("${{file:{}}}", file.display()) });
    let sink =
        Sink::open(&authenticated(&endpoint.url(), with(auth(&tokens), more), json!({ "max_retries": 0 })));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
}
