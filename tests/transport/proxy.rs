//! `[proxy]` and the proxies of the environment: real ones that ask for a password, and what they get to see. Through the built
//! plugin.

use std::{fs, thread};

use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::support::{
    again::again,
    config::{config, with},
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, failures, logged},
    proxy::{Kind, PASSWORD, Proxy, USER},
    spooled::wait_until,
    tls::{Authority, ClientAuth, TlsFront, server},
};

fn one(stream: &str) -> Batch {
    Batch::numbered(1).from_stream(stream)
}

fn through(proxy: &Proxy, more: Value) -> Value {
    with(json!({ "url": proxy.url(), "username": USER, "password": PASSWORD }), more)
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy() {
    for kind in Kind::ALL {
        let Some(proxy) = Proxy::start(kind) else { continue };
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let ca = authority.write(folder.path(), "ca");
        let endpoint = Endpoint::answering(200);
        let identity = authority.issue();
        let front = TlsFront::start(server(&identity, ClientAuth::None, &[&TLS12, &TLS13]), endpoint.port());
        // By its name: in a tunnel, reqwest cannot check certificates of IPv6 addresses.
        let url = format!("https://localhost:{}/in", front.address.port());
        let more = json!({ "proxy": through(&proxy, json!({})), "tls": { "ca_file": ca }, "max_retries": 0 });
        let sink = Sink::open(&config(&url, more));
        let stream = format!("tunnel-{kind:?}");
        assert_eq!(sink.consume(&Batch::numbered(20).from_stream(&stream)), 0, "{:?}", failures(&stream));
        assert_eq!(endpoint.requests().len(), 20);
        assert_eq!(front.attempts(), 1, "the tunnel is kept");
        for request in endpoint.requests() {
            assert_eq!((request.path.as_str(), request.header("proxy-authorization")), ("/in", None));
        }
        drop(sink);
        wait_until("the proxy's log", || proxy.log().contains("CONNECT"));
    }
}

#[test]
fn a_proxy_may_speak_tls_itself() {
    let Some(proxy) = Proxy::start(Kind::Tinyproxy) else { return };
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write(folder.path(), "ca");
    let identity = authority.issue();
    let secured = |inner| TlsFront::start(server(&identity, ClientAuth::None, &[&TLS12, &TLS13]), inner);
    let proxy_front = secured(proxy.port());
    let endpoint = Endpoint::start(|_| Answer::status(200).connection_close());
    let front = secured(endpoint.port());
    let proxy_url = format!("https://localhost:{}", proxy_front.address.port());
    for url in [endpoint.url(), format!("https://localhost:{}/in", front.address.port())] {
        let more = json!({
            "proxy": through(&proxy, json!({ "url": proxy_url })), "tls": { "ca_file": ca }, "max_retries": 0,
        });
        let sink = Sink::open(&config(&url, more));
        assert_eq!(sink.consume(&one("secured")), 0, "{url}: {:?}", failures("secured"));
    }
    assert_eq!((endpoint.requests().len(), proxy_front.handshakes().len()), (2, 2));
    assert_eq!(front.handshakes().len(), 1);
}

#[test]
fn http_goes_through_the_proxy_and_takes_no_secret_along() {
    for kind in Kind::ALL {
        let Some(proxy) = Proxy::start(kind) else { continue };
        // Tinyproxy asks for that, and hands over whatever else comes on the connection as it is.
        let endpoint = Endpoint::start(|_| Answer::status(200).connection_close());
        let url = endpoint.url().replace("http://", "http://sender:s3cret@");
        let sink =
            Sink::open(&config(&url, json!({ "proxy": through(&proxy, json!({})), "max_retries": 0 })));
        let stream = format!("plain-{kind:?}");
        assert_eq!(sink.consume(&Batch::numbered(3).from_stream(&stream)), 0, "{:?}", failures(&stream));
        for request in endpoint.requests() {
            assert_eq!(
                (request.path.as_str(), request.header("proxy-authorization")),
                ("/in", None),
                "{kind:?} {request:?}"
            );
        }
        let log = proxy.log();
        assert!(log.contains(&format!("http://127.0.0.1:{}/in", endpoint.port())), "{log}");
        assert!(!log.contains("s3cret"), "{log}");
    }
}

#[test]
fn a_proxy_that_refuses_the_password_is_told_and_held_until_it_is_right() {
    // Tinyproxy answers a wrong password with 401, as an endpoint does.
    if let Some(proxy) = Proxy::start(Kind::Squid) {
        for https in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::new();
            let ca = authority.write(folder.path(), "ca");
            let password = folder.path().join("password");
            fs::write(&password, "wr0ng").unwrap();
            let endpoint = Endpoint::answering(200);
            let identity = authority.issue();
            let front = TlsFront::start(server(&identity, ClientAuth::None, &[&TLS13]), endpoint.port());
            let port = if https { front.address.port() } else { endpoint.port() };
            let url = format!("{}://localhost:{port}/in", if https { "https" } else { "http" });
            let secret = format!("${{file:{}}}", password.display());
            let more = json!({
                "proxy": through(&proxy, json!({ "password": secret })), "tls": { "ca_file": ca }, "max_retries": 0,
            });
            let sink = Sink::open(&config(&url, more));
            let stream = format!("password-{https}");
            thread::scope(|scope| {
                let sent = scope.spawn(|| sink.consume(&one(&stream)));
                let mine = format!("localhost:{port}");
                let told = || {
                    let lines = logged(&mine);
                    lines.into_iter().filter(|line| line.starts_with("ERROR")).collect::<Vec<_>>()
                };
                wait_until("the wrong password is told", || !told().is_empty() || sent.is_finished());
                fs::write(&password, format!("{PASSWORD}\n")).unwrap();
                assert_eq!(sent.join().unwrap(), 0, "{:?}", failures(&stream));
                assert_eq!(told().len(), 1, "{:?}", told());
                assert!(told()[0].contains("proxy.password"), "{:?}", told());
            });
        }
    }
    assert_eq!(logged("wr0ng"), [""; 0]);
    assert_eq!(logged(PASSWORD), [""; 0]);
}

#[test]
fn what_no_proxy_names_goes_directly() {
    for (no_proxy, direct) in [
        (json!(["other.example", "127.0.0.0/8"]), true),
        (json!("127.0.0.1"), true),
        (json!("*"), true),
        (json!("localhost, 10.0.0.0/8"), false),
    ] {
        let endpoint = Endpoint::answering(200);
        let proxy = Endpoint::answering(200);
        let url = format!("http://127.0.0.1:{}", proxy.port());
        let sink =
            Sink::open(&config(&endpoint.url(), json!({ "proxy": { "url": url, "no_proxy": no_proxy } })));
        assert_eq!(sink.consume(&one("direct")), 0);
        let taken = (endpoint.requests().len(), proxy.requests().len());
        assert_eq!(taken, if direct { (1, 0) } else { (0, 1) }, "{no_proxy}");
    }
}

#[test]
fn a_proxy_gets_no_user_of_the_endpoint_in_its_request_line() {
    let proxy = Endpoint::answering(200);
    let url = format!("http://pr0xy:{PASSWORD}@127.0.0.1:{}", proxy.port());
    let more = json!({ "proxy": { "url": url }, "verbose_logging": true });
    let sink = Sink::open(&config("http://sender:s3cret@sink.invalid/in", more));
    assert_eq!(sink.consume(&one("line")), 0, "{:?}", failures("line"));
    let request = &proxy.requests()[0];
    assert_eq!(request.path, "http://sink.invalid/in");
    // pr0xy:hunter2
    assert_eq!(request.header("proxy-authorization"), Some("Basic cHIweHk6aHVudGVyMg=="));
    for secret in ["s3cret", PASSWORD, "cHIweHk6aHVudGVyMg"] {
        assert_eq!(logged(secret), [""; 0]);
    }
}

#[test]
fn an_endpoint_that_fails_as_a_proxy_does_is_tried_again() {
    let proxy = Endpoint::sequence(vec![Answer::status(502), Answer::status(200)]);
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let sink = Sink::open(&config("http://sink.invalid/in", json!({ "proxy": { "url": url } })));
    assert_eq!(sink.consume(&one("bad-gateway")), 0);
}

/// The variables are those of a whole process, so it is one of its own.
#[test]
fn the_environment_names_a_proxy_that_loopback_does_not_take() {
    const PROXY: &str = "IGGY_HTTP_SINK_TEST_PROXY";
    let Ok(port) = std::env::var(PROXY) else {
        let proxy = Endpoint::answering(200);
        let mut again = again(module_path!(), "the_environment_names_a_proxy_that_loopback_does_not_take");
        for name in ["ALL_PROXY", "all_proxy", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"] {
            again.env_remove(name);
        }
        again.env("HTTP_PROXY", format!("http://u:{PASSWORD}@127.0.0.1:{}", proxy.port()));
        let output = again.env(PROXY, proxy.port().to_string()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<String> = proxy.requests().into_iter().map(|request| request.path).collect();
        assert_eq!(lines, ["http://sink.invalid/environment"]);
        return;
    };
    let sink = Sink::open(&config("http://sink.invalid/environment", json!({})));
    assert_eq!(sink.consume(&one("environment")), 0, "{:?}", failures("environment"));
    let off = json!({ "proxy": { "from_environment": false }, "max_retries": 0 });
    let sink = Sink::open(&config("http://sink.invalid/off", off));
    assert_eq!(sink.consume(&one("off")), 1);
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&one("loopback")), 0);
    assert_eq!(endpoint.requests().len(), 1);
    let configured =
        json!({ "proxy": { "url": format!("http://127.0.0.1:{port}"), "no_proxy": "sink.invalid" } });
    let sink =
        Sink::open(&config("http://sink.invalid/configured", with(configured, json!({ "max_retries": 0 }))));
    assert_eq!(
        sink.consume(&one("configured")),
        1,
        "the configured proxy takes the place of the environment's"
    );
}
