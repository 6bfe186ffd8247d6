//! `check --connect`: each step of the way is told, and the first that fails with its reason and what to do.

use std::{net::TcpListener, path::Path, sync::Arc, thread};

use rustls::{ServerConfig, ServerConnection, pki_types::PrivateKeyDer};
use serde_json::Value;

use crate::support::{Endpoint, Finished, connector, program, start};

/// What the steps were, and whether they went well.
fn steps(finished: &Finished) -> Vec<(String, bool)> {
    let lines = finished.stdout.lines().map(|line| {
        let mut words = line.split_whitespace();
        let good = words.next() == Some("ok");
        (words.next().unwrap_or_default().to_owned(), good)
    });
    lines.collect()
}

fn check(folder: &Path, url: &str, keys: &str) -> Finished {
    let file = connector(folder, url, keys);
    start(program(&["check", "--connect"]).arg(file)).finish()
}

fn good(names: &[&str]) -> Vec<(String, bool)> {
    names.iter().map(|name| ((*name).to_owned(), true)).collect()
}

/// The same with the last one failed.
fn failed(names: &[&str]) -> Vec<(String, bool)> {
    let mut steps = good(names);
    steps.last_mut().unwrap().1 = false;
    steps
}

#[test]
fn an_endpoint_that_answers_is_reached_and_gets_no_message() {
    let folder = tempfile::tempdir().unwrap();
    for (answer, code) in [
        ("204 No Content", 0),
        ("405 Method Not Allowed", 0),
        ("401 Unauthorized", 3),
        ("403 Forbidden", 3),
        ("503 Service Unavailable", 3),
    ] {
        let endpoint = Endpoint::start(move |_, _| answer);
        let finished = check(folder.path(), &endpoint.url(), "");
        assert_eq!(finished.code, Some(code), "{finished:?}");
        let names = ["name", "connection", "answer"];
        let expected = if code == 0 { good(&names) } else { failed(&names) };
        assert_eq!(steps(&finished), expected, "{finished:?}");
        assert!(finished.stdout.contains(answer), "{finished:?}");
        assert!(code == 3 || finished.stderr.contains("no Iggy server is named"), "{finished:?}");
    }
    let endpoint = Endpoint::start(|_, _| "405 Method Not Allowed");
    let finished = check(folder.path(), &endpoint.url(), "health_check_enabled = true");
    assert_eq!(finished.code, Some(3), "{finished:?}");
}

#[test]
fn the_first_step_that_fails_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let finished = check(folder.path(), "http://no-such-host.invalid/in?key=hunter2", "");
    assert_eq!((finished.code, steps(&finished)), (Some(3), failed(&["name"])), "{finished:?}");
    assert!(finished.stdout.contains("no-such-host.invalid cannot be looked up"), "{finished:?}");
    assert!(!finished.stdout.contains("hunter2"), "{finished:?}");

    // Bound and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let finished = check(folder.path(), &format!("http://127.0.0.1:{port}/"), "");
    assert_eq!((finished.code, steps(&finished)), (Some(3), failed(&["name", "connection"])), "{finished:?}");
    assert!(finished.stdout.contains("firewall"), "{finished:?}");

    let proxy = format!("proxy_url = \"http://127.0.0.1:{port}\"");
    let finished = check(folder.path(), "http://127.0.0.1/", &proxy);
    assert_eq!((finished.code, steps(&finished)), (Some(3), failed(&["name", "connection"])), "{finished:?}");
    assert!(finished.stdout.contains("check that the proxy listens"), "{finished:?}");
}

#[test]
fn the_token_endpoint_is_asked_and_its_answer_told() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let check_with = |token_url: &str| {
        let keys = format!(
            "auth = {{ type = \"oauth2_client_credentials\", token_url = \"{token_url}\", client_id = \"sink\", \
             client_secret = \"hunter2\" }}"
        );
        let finished = check(folder.path(), &endpoint.url(), &keys);
        let shown = format!("{}{}", finished.stdout, finished.stderr);
        assert!(!shown.contains("hunter2") && !shown.contains("t0k3n"), "{finished:?}");
        finished
    };
    let tokens = Endpoint::start(
        |_, _| "200 OK\r\ncontent-length: 64\r\n\r\n{\"access_token\":\"t0k3n\",\"token_type\":\"Bearer\",\"expires_in\":3600}",
    );
    let finished = check_with(&tokens.url());
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(steps(&finished), good(&["name", "connection", "token", "answer"]), "{finished:?}");
    let port = tokens.url().replace("/in", "");
    assert!(finished.stdout.contains(&format!("{port} gave one for 1h")), "{finished:?}");

    let refuses = Endpoint::start(
        |_, _| "401 Unauthorized\r\ncontent-length: 26\r\n\r\n{\"error\":\"invalid_client\"}",
    );
    let away = Endpoint::start(|_, _| "503 Service Unavailable");
    for (token_url, says, remedy) in [
        (refuses.url(), "invalid_client (answered 401)", "client_id"),
        (away.url(), "answered 503", "token_url"),
        ("http://127.0.0.1:1/token".to_owned(), "no token from http://127.0.0.1:1", "token_url"),
    ] {
        let finished = check_with(&token_url);
        assert_eq!(finished.code, Some(3), "{finished:?}");
        assert_eq!(steps(&finished), failed(&["name", "connection", "token"]), "{finished:?}");
        assert!(finished.stdout.contains(says) && finished.stdout.contains(remedy), "{finished:?}");
    }
}

/// Shakes hands with whoever comes, and then says nothing.
fn tls(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config =
        config.with_no_client_auth().with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut connection) =
                (stream.unwrap(), ServerConnection::new(config.clone()).unwrap());
            let _ = connection.complete_io(&mut stream);
        }
    });
    port
}

#[test]
fn a_certificate_that_is_not_trusted_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let url = format!("https://localhost:{}/in", tls(&certificate));
    let finished = check(folder.path(), &url, "");
    assert_eq!(
        (finished.code, steps(&finished)),
        (Some(3), failed(&["name", "connection", "tls"])),
        "{finished:?}"
    );
    assert!(
        finished.stdout.contains("UnknownIssuer") && finished.stdout.contains("tls.ca_file"),
        "{finished:?}"
    );

    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.cert.pem()).unwrap();
    let keys = format!("tls_ca_file = \"{}\"\ntimeout = \"300ms\"", ca.display());
    let finished = check(folder.path(), &url, &keys);
    let expected = failed(&["name", "connection", "tls", "answer"]);
    assert_eq!((finished.code, steps(&finished)), (Some(3), expected), "{finished:?}");
    assert!(finished.stdout.contains("certificate trusted"), "{finished:?}");
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let file = connector(folder.path(), &endpoint.url(), "");
    let mut command = program(&["check", "--connect", "--json", "--server", "127.0.0.1:1"]);
    let finished = start(command.arg(&file)).finish();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let result: Value = serde_json::from_str(&finished.stdout).unwrap();
    let steps = result["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 4, "{result}");
    assert!(steps[..3].iter().all(|step| step["ok"] == true), "{result}");
    assert_eq!((&steps[3]["step"], &steps[3]["ok"]), (&"iggy".into(), &false.into()), "{result}");
    assert!(steps[3]["remedy"].as_str().unwrap().contains("server listens"), "{result}");
    // Without --connect nothing is tried.
    let finished = start(program(&["check", "--server", "127.0.0.1:1"]).arg(&file)).finish();
    assert_eq!(finished.code, Some(2), "{finished:?}");
}
