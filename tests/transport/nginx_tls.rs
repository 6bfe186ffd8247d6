//! Certificates of both sides at a real nginx. Through the built plugin.

use std::{fs, path::Path, thread, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    config::{config, with},
    nginx::{Nginx, Protocol},
    plugin::{Batch, Sink, failures, logged},
    spooled::wait_until,
    tls::{Authority, Identity},
};

/// An nginx with a certificate of this authority, which it has in `ca.pem`.
fn nginx(protocol: Protocol, authority: &Authority, identity: &Identity, more: &str) -> Option<Nginx> {
    Nginx::start_with(protocol, 1_000_000, |folder| {
        authority.write(folder, "ca");
        serve(folder, identity);
        more.to_owned()
    })
}

/// Puts a certificate to where nginx finds it when it is reloaded.
fn serve(folder: &Path, identity: &Identity) {
    fs::write(folder.join("cert.pem"), identity.certificate.pem()).unwrap();
    fs::write(folder.join("key.pem"), identity.key.serialize_pem()).unwrap();
}

fn trusting(nginx: &Nginx, tls: Value, more: Value) -> Value {
    let tls = with(json!({ "ca_file": nginx.folder().join("ca.pem") }), tls);
    config(&nginx.url(), with(json!({ "tls": tls, "max_retries": 0 }), more))
}

fn shown(folder: &Path, client: &Identity) -> Value {
    let (certificate, key) = client.write(folder, "client");
    json!({ "client_cert_file": certificate, "client_key_file": key })
}

/// The faults of this nginx that were told at ERROR.
fn told(nginx: &Nginx) -> Vec<String> {
    let lines = logged(nginx.url().trim_end_matches("/in"));
    lines.into_iter().filter(|line| line.starts_with("ERROR ") && line.contains(": tls: ")).collect()
}

#[test]
fn client_certificates_are_shown_to_a_server_that_requires_them() {
    let authority = Authority::new();
    for (protocol, version) in
        [(Protocol::Https1, "TLSv1.2"), (Protocol::Https1, "TLSv1.3"), (Protocol::Http2, "TLSv1.3")]
    {
        let more = format!("ssl_client_certificate ca.pem; ssl_verify_client on; ssl_protocols {version};");
        let Some(mut nginx) = nginx(protocol, &authority, &authority.issue(), &more) else { return };
        let tls = shown(nginx.folder(), &authority.issue());
        let stream = format!("required-{protocol:?}-{version}");
        let sink = Sink::open(&trusting(&nginx, tls, json!({ "concurrency": 8, "ordering": "none" })));
        assert_eq!(sink.consume(&Batch::numbered(100).from_stream(&stream)), 0, "{:?}", failures(&stream));
        assert_eq!(sink.close(), 0);
        nginx.quit();
        assert_eq!(nginx.taken().values().sum::<usize>(), 100);
    }
}

#[test]
fn a_client_certificate_that_the_server_refuses_is_held_until_it_is_renewed_on_disk() {
    let authority = Authority::new();
    for protocol in [Protocol::Https1, Protocol::Http2] {
        let more = "ssl_client_certificate ca.pem; ssl_verify_client on;";
        let Some(mut nginx) = nginx(protocol, &authority, &authority.issue(), more) else { return };
        let tls = shown(nginx.folder(), &authority.issue_expired());
        let stream = format!("renewed-{protocol:?}");
        let sink = Sink::open(&trusting(&nginx, tls, json!({ "batch_mode": "nd_json" })));
        thread::scope(|scope| {
            let sent = scope.spawn(|| sink.consume(&Batch::numbered(20).from_stream(&stream)));
            wait_until("the fault is told", || !told(&nginx).is_empty() || sent.is_finished());
            authority.issue().write(nginx.folder(), "client");
            assert_eq!(sent.join().unwrap(), 0, "{:?}", failures(&stream));
        });
        assert!(
            told(&nginx).len() == 1 && told(&nginx)[0].contains("tls.client_cert_file"),
            "{:?}",
            told(&nginx)
        );
        assert_eq!(sink.close(), 0);
        nginx.quit();
        assert_eq!(nginx.taken().len(), 1);
    }
}

#[test]
fn a_client_certificate_that_is_missing_makes_no_bad_messages() {
    let authority = Authority::new();
    let more = "ssl_client_certificate ca.pem; ssl_verify_client on;";
    let Some(nginx) = nginx(Protocol::Http2, &authority, &authority.issue(), more) else { return };
    let sink = Sink::open(&trusting(&nginx, json!({}), json!({ "max_retry_duration": "200ms" })));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("missing")), 1);
    let reason = failures("missing").reasons.remove(&0).unwrap();
    assert!(
        reason.starts_with("deadline_exceeded after ") && reason.contains("tls: answered 400"),
        "{reason}"
    );
    assert_eq!(told(&nginx).len(), 1, "{:?}", told(&nginx));
}

#[test]
fn a_server_may_leave_it_to_the_client() {
    let authority = Authority::new();
    let more = "ssl_client_certificate ca.pem; ssl_verify_client optional;
                if ($ssl_client_verify != SUCCESS) { return 403; }";
    let Some(nginx) = nginx(Protocol::Http2, &authority, &authority.issue(), more) else { return };
    for (stream, tls, code) in
        [("with", shown(nginx.folder(), &authority.issue()), 0), ("without", json!({}), 1)]
    {
        let sink = Sink::open(&trusting(&nginx, tls, json!({})));
        assert_eq!(sink.consume(&Batch::numbered(1).from_stream(stream)), code, "{:?}", failures(stream));
    }
    assert!(failures("without").reasons[&0].contains("403"), "{:?}", failures("without"));
}

#[test]
fn a_server_certificate_that_expired_and_is_renewed_loses_and_doubles_nothing() {
    let authority = Authority::new();
    let expired = authority.issue_expired();
    let Some(mut nginx) = nginx(Protocol::Http2, &authority, &expired, "") else { return };
    let more = json!({ "concurrency": 16, "ordering": "none" });
    let sink = Sink::open(&trusting(&nginx, json!({}), more));
    thread::scope(|scope| {
        let sent = scope.spawn(|| sink.consume(&Batch::numbered(200).from_stream("reissued")));
        wait_until("the fault is told", || !told(&nginx).is_empty() || sent.is_finished());
        serve(nginx.folder(), &authority.issue());
        nginx.reload();
        assert_eq!(sent.join().unwrap(), 0, "{:?}", failures("reissued"));
    });
    assert_eq!(told(&nginx).len(), 1, "{:?}", told(&nginx));
    assert_eq!(sink.close(), 0);
    nginx.quit();
    let taken = nginx.taken();
    assert_eq!((taken.len(), taken.values().max()), (200, Some(&1)));
}

#[test]
fn connections_that_age_under_load_lose_and_double_nothing() {
    for protocol in [Protocol::Http1, Protocol::Https1, Protocol::Http2] {
        let authority = Authority::new();
        let Some(mut nginx) = nginx(protocol, &authority, &authority.issue(), "") else { return };
        let more = json!({ "concurrency": 16, "ordering": "none", "max_connection_age": "50ms" });
        let sink = Sink::open(&trusting(&nginx, json!({}), more));
        let stream = format!("aging-{protocol:?}");
        let mut sent = 0;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(600) {
            let batch = crate::support::spooled::numbered(sent..sent + 100).from_stream(&stream);
            assert_eq!(sink.consume(&batch), 0, "{:?}", failures(&stream));
            sent += 100;
        }
        assert_eq!(sink.close(), 0);
        nginx.quit();
        let taken = nginx.taken();
        assert_eq!((taken.len() as u64, taken.values().max()), (sent, Some(&1)), "{protocol:?}");
    }
}
