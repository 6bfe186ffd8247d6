//! An address, and the connectors that share it.

use std::{
    net::{TcpListener, TcpStream},
    ops::ControlFlow,
};

use iggy_connector_http_sink::{dead_letter::Folder, replay::Replay};
use serde_json::{Value, json};

use super::client::{address, ask, get, shown, status};
use crate::support::{
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, logged},
};

/// A port that is free, as far as can be told.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn at(url: &str, status: Value) -> Value {
    shown(url, json!({ "status": status }))
}

#[test]
fn connectors_share_an_address_and_the_last_to_close_ends_it() {
    let endpoint = Endpoint::answering(200);
    let config = at(&endpoint.url(), json!({ "address": format!("127.0.0.1:{}", free_port()) }));
    let (first, second) = (Sink::open(&config), Sink::open(&config));
    let address = address(&first);
    assert_eq!(first.consume(&Batch::numbered(1).from_stream("shared")), 0);
    assert_eq!(second.consume(&Batch::numbered(2).from_stream("shared")), 0);
    let ids = || -> Vec<Value> {
        status(address)["connectors"].as_array().unwrap().iter().map(|of| of["connector"].clone()).collect()
    };
    assert_eq!(ids(), [first.id, second.id].map(Value::from));
    let metrics = get(address, "/metrics").body;
    for id in [first.id, second.id] {
        assert!(
            metrics.contains(&format!("http_sink_messages_total{{connector=\"{id}\",stream=\"shared\"")),
            "{metrics}"
        );
    }
    for once in ["# TYPE http_sink_messages counter", "# EOF"] {
        assert_eq!(metrics.matches(once).count(), 1, "{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    let left = second.id;
    assert_eq!(first.close(), 0);
    assert_eq!(ids(), [Value::from(left)]);
    assert_eq!(second.close(), 0);
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    // And the address is free again.
    Sink::open(&config);
}

#[test]
fn an_address_that_cannot_be_had_fails_open_and_says_so() {
    let endpoint = Endpoint::answering(200);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let spool = json!({ "path": folder.path() });
    let config =
        shown(&endpoint.url(), json!({ "status": { "address": address.to_string() }, "spool": spool }));
    assert!(Sink::try_open(&config).is_err());
    let words = format!("plugin_config.status.address: {address} cannot be listened on");
    assert_eq!(logged(&words).len(), 1, "{:?}", logged("status"));
    drop(taken);
    // Nothing of the failed open is left behind.
    Sink::open(&config);
}

#[test]
fn connectors_that_share_an_address_have_the_same_token() {
    let endpoint = Endpoint::answering(200);
    let address = format!("127.0.0.1:{}", free_port());
    let first = Sink::open(&at(&endpoint.url(), json!({ "address": address, "token": "one-long-token-1" })));
    for other in [json!({ "address": address }), json!({ "address": address, "token": "one-long-token-2" })] {
        assert!(Sink::try_open(&at(&endpoint.url(), other)).is_err());
    }
    assert!(!logged(&format!("has the address {address} with another token")).is_empty());
    assert_eq!(first.close(), 0);
}

#[test]
fn another_machine_may_look_only_with_a_token() {
    let endpoint = Endpoint::answering(200);
    assert!(Sink::try_open(&at(&endpoint.url(), json!({ "address": "0.0.0.0:0" }))).is_err());
    assert!(
        !logged("plugin_config.status.token: is not given, and address 0.0.0.0:0").is_empty(),
        "{:?}",
        logged("0.0.0.0")
    );
    for (wrong, words) in [
        (json!({ "address": "nonsense" }), "\"nonsense\" is no address and port"),
        (json!({}), "plugin_config.status.address: is not given"),
        (
            json!({ "address": "127.0.0.1:0", "token": "short" }),
            "plugin_config.status.token: is shorter than",
        ),
        (json!({ "adress": "127.0.0.1:0" }), "did you mean `address`?"),
    ] {
        assert!(Sink::try_open(&at(&endpoint.url(), wrong)).is_err());
        assert!(!logged(words).is_empty(), "{words}");
    }
    let token = "a-token-that-is-long";
    let sink = Sink::open(&at(&endpoint.url(), json!({ "address": "0.0.0.0:0", "token": token })));
    let mut address = address(&sink);
    address.set_ip([127, 0, 0, 1].into());
    let with =
        |token: &str| ask(address, "GET", "/", &[("authorization", &format!("Bearer {token}"))]).status;
    assert_eq!((with(token), with("a-token-that-is-wrong")), (200, 401));
    for path in ["/", "/metrics", "/api/status", "/nothing"] {
        let answer = get(address, path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.head.contains("www-authenticate: basic"), "{}", answer.head);
    }
    // Probes have none, and are told no more than yes or no.
    assert_eq!(get(address, "/live").status, 200);
    assert_eq!((get(address, "/ready").status, get(address, "/ready").body), (200, "ready\n".to_owned()));
}

#[test]
fn what_is_answered_is_neither_framed_nor_run_nor_kept_by_others() {
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&at(&endpoint.url(), json!({ "address": "127.0.0.1:0" })));
    let address = address(&sink);
    for path in ["/", "/script.js", "/style.css", "/metrics", "/nothing"] {
        let Answered { head, status } = answered(address, path);
        assert_eq!(status, if path == "/nothing" { 404 } else { 200 }, "{path}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{header} is not in {head}");
        }
    }
    let page = get(address, "/").body;
    for inline in ["style=", " onclick", "<script>", "<style", "javascript:"] {
        assert!(!page.contains(inline), "{inline} in {page}");
    }
    // A page of another site can bind its name to this address.
    assert_eq!(ask(address, "GET", "/", &[("host", "evil.example")]).status, 403);
    assert_eq!(ask(address, "PUT", "/", &[]).status, 405);
}

/// The connector that wrote the letters has the address.
#[test]
fn a_replay_goes_on_beside_the_connector_that_is_shown() {
    let endpoint = Endpoint::sequence(vec![Answer::status(404)]);
    let folder = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let config = shown(
        &endpoint.url(),
        json!({ "status": { "address": address }, "status_token": "a-token-that-is-long", "dead_letter": { "path": folder.path() } }),
    );
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("replayed beside")), 0);
    let go_on = |_: &Replay| ControlFlow::Continue(());
    let replay = Folder::open(folder.path()).unwrap().replay(&config, |_| true, go_on).unwrap();
    assert_eq!(replay, Replay { delivered: 1, ..Replay::default() });
}

struct Answered {
    head: String,
    status: u16,
}

fn answered(address: std::net::SocketAddr, path: &str) -> Answered {
    let answer = get(address, path);
    Answered { head: answer.head, status: answer.status }
}
