//! Whom the sink trusts and who it is: `[tls]`, against certificates that are made here. Through the built plugin.

use std::{fs, path::Path, thread, time::Duration};

use rustls::{
    ProtocolVersion, ServerConfig,
    version::{TLS12, TLS13},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    config::{config, with},
    endpoint::Endpoint,
    plugin::{Batch, Sink, failures, logged},
    spooled::{self, taken, wait_until},
    tls::{Authority, ClientAuth, Identity, TlsFront, server},
};

/// An endpoint behind TLS, with the authority of its certificates in a file.
struct Secured {
    authority: Authority,
    endpoint: Endpoint,
    front: TlsFront,
    folder: TempDir,
}

impl Secured {
    fn with(config: impl FnOnce(&Authority) -> ServerConfig) -> Self {
        let authority = Authority::new();
        let endpoint = Endpoint::answering(200);
        let front = TlsFront::start(config(&authority), endpoint.port());
        let folder = tempfile::tempdir().unwrap();
        authority.write(folder.path(), "ca");
        Self { authority, endpoint, front, folder }
    }

    fn new() -> Self {
        Self::with(|authority| serving(&authority.issue()))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A sink that trusts the authority and gives up a held message soon.
    fn config(&self, tls: Value) -> Value {
        let tls = with(json!({ "ca_file": self.path("ca.pem") }), tls);
        config(&self.front.url(), json!({ "tls": tls, "max_retry_duration": "300ms" }))
    }
}

fn serving(identity: &Identity) -> ServerConfig {
    server(identity, ClientAuth::None, &[&TLS12, &TLS13])
}

fn one(stream: &str) -> Batch {
    Batch::numbered(1).from_stream(stream)
}

/// Why the only message of a stream failed.
fn reason(stream: &str) -> String {
    failures(stream).reasons.remove(&0).unwrap_or_default()
}

/// The errors of an endpoint that were told, one for each incident.
fn told(secured: &Secured) -> Vec<String> {
    let lines = logged(&secured.front.address.to_string());
    lines
        .into_iter()
        .filter(|line| {
            line.starts_with("ERROR ") && line.contains(": tls: ") && line.contains("Messages are held")
        })
        .collect()
}

#[test]
fn an_authority_of_ones_own_is_trusted() {
    let secured = Secured::new();
    for only in [false, true] {
        let sink = Sink::open(&secured.config(json!({ "only_ca_file": only })));
        assert_eq!(sink.consume(&one("own")), 0, "{:?}", failures("own"));
    }
    assert_eq!(secured.endpoint.requests().len(), 2);
}

#[test]
fn certificates_that_are_not_to_be_trusted_are_told_once_and_held_until_the_deadline() {
    type Serve = fn(&Authority) -> ServerConfig;
    let cases: [(&str, Serve, &str, &str); 3] = [
        ("expired", |authority| serving(&authority.issue_expired()), "certificate expired", "renew it there"),
        ("unknown", |_| serving(&Authority::new().issue()), "UnknownIssuer", "tls.ca_file"),
        (
            "name",
            |authority| serving(&authority.issue_with(&["other.example"], |_| {})),
            "other.example",
            "other names",
        ),
    ];
    for (stream, serve, cause, remedy) in cases {
        let secured = Secured::with(serve);
        let sink = Sink::open(&with(secured.config(json!({})), json!({ "max_retries": 0 })));
        assert_eq!(sink.consume(&one(stream)), 1);
        let reason = reason(stream);
        assert!(reason.starts_with("deadline_exceeded after "), "{reason}");
        assert!(reason.contains(": tls: invalid peer certificate: ") && reason.contains(cause), "{reason}");
        assert!(secured.front.attempts() > 2, "it is tried again, whatever max_retries says");
        let told = told(&secured);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(remedy), "{told:?}");
        assert_eq!(secured.endpoint.requests().len(), 0);
    }
}

#[test]
fn a_spool_with_defaults_outlives_an_expired_certificate() {
    let secured = Secured::new();
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "url": secured.front.url(),
        "include_metadata": false,
        "tls": { "ca_file": secured.path("ca.pem") },
        "pool_idle_timeout": "1ms",
        "spool": { "path": folder.path().join("spool") },
        "dead_letter": { "path": folder.path().join("dead-letters") },
    });
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&spooled::numbered(0..5)), 0);
    wait_until("the first delivery is settled", || spooled::held(folder.path()) == 0);
    secured.front.serve(serving(&secured.authority.issue_expired()));
    // Longer than `pool_idle_timeout`, so that the next request needs a new connection.
    thread::sleep(Duration::from_millis(20));
    assert_eq!(sink.consume(&spooled::numbered(5..10)), 0);
    wait_until("the fault is told", || told(&secured).len() == 1);
    assert_eq!(sink.consume(&spooled::numbered(10..15)), 0);
    secured.front.serve(serving(&secured.authority.issue()));
    wait_until("all is delivered", || taken(&secured.endpoint).len() == 15);
    assert_eq!(taken(&secured.endpoint), (0..15).collect::<Vec<_>>());
    assert_eq!(sink.close(), 0);
    assert_eq!(spooled::letters(folder.path()), []);
    let restored = logged(&secured.front.address.to_string());
    assert!(restored.iter().any(|line| line.contains("are in order again")), "{restored:?}");
}

#[test]
fn a_client_certificate_is_shown_to_those_that_ask_for_it() {
    for versions in [[&TLS12].as_slice(), &[&TLS13]] {
        for required in [true, false] {
            let secured = Secured::with(|authority| {
                let clients =
                    if required { ClientAuth::Required(authority) } else { ClientAuth::Optional(authority) };
                server(&authority.issue(), clients, versions)
            });
            let client = secured.authority.issue_with(&["client"], |_| {});
            let (certificate, key) = client.write(secured.folder.path(), "client");
            let tls = json!({ "client_cert_file": certificate, "client_key_file": key });
            let sink = Sink::open(&secured.config(tls));
            assert_eq!(sink.consume(&one("mutual")), 0, "{:?}", failures("mutual"));
            let seen = secured.front.handshakes();
            assert_eq!(seen[0].client.as_deref(), Some(client.certificate.der().as_ref()));
            if !required {
                let sink = Sink::open(&secured.config(json!({})));
                assert_eq!(sink.consume(&one("mutual")), 0);
                assert_eq!(secured.front.handshakes()[1].client, None);
            }
        }
    }
}

#[test]
fn a_client_certificate_that_is_missing_or_refused_is_told_and_held() {
    for (version, versions) in [("12", [&TLS12].as_slice()), ("13", &[&TLS13])] {
        for identity in ["missing", "stranger", "expired"] {
            let secured = Secured::with(|authority| {
                server(&authority.issue(), ClientAuth::Required(authority), versions)
            });
            let client = match identity {
                "stranger" => Some(Authority::new().issue()),
                "expired" => Some(secured.authority.issue_expired()),
                _ => None,
            };
            let files = client.map(|client| client.write(secured.folder.path(), "client"));
            let tls = files.map_or(
                json!({}),
                |(certificate, key)| json!({ "client_cert_file": certificate, "client_key_file": key }),
            );
            let stream = format!("refused-{version}-{identity}");
            let sink = Sink::open(&secured.config(tls));
            assert_eq!(sink.consume(&one(&stream)), 1);
            let reason = reason(&stream);
            assert!(
                reason.starts_with("deadline_exceeded after ") && reason.contains(": tls: "),
                "{stream}: {reason}"
            );
            let told = told(&secured);
            assert_eq!(told.len(), 1, "{stream}: {told:?}");
            assert!(told[0].contains("tls.client_cert_file"), "{told:?}");
        }
    }
}

#[test]
fn a_client_certificate_that_is_rotated_on_disk_is_used() {
    let secured = Secured::with(|authority| {
        server(&authority.issue(), ClientAuth::Required(authority), &[&TLS12, &TLS13])
    });
    let folder = secured.folder.path();
    let (certificate, key) = secured.authority.issue_expired().write(folder, "client");
    let tls = json!({ "client_cert_file": certificate, "client_key_file": key });
    let mut config = secured.config(tls);
    config["max_retry_duration"] = json!("1m");
    let sink = Sink::open(&config);
    let renewed = secured.authority.issue();
    thread::scope(|scope| {
        let sent = scope.spawn(|| sink.consume(&one("rotated")));
        wait_until("the fault is told", || told(&secured).len() == 1);
        renewed.write(folder, "client");
        assert_eq!(sent.join().unwrap(), 0, "{:?}", failures("rotated"));
    });
    let seen = secured.front.handshakes();
    assert_eq!(seen.last().unwrap().client.as_deref(), Some(renewed.certificate.der().as_ref()));
}

#[test]
fn a_rotated_certificate_replaces_connections_that_work_and_disturbs_no_request() {
    let secured = Secured::with(|authority| {
        server(&authority.issue(), ClientAuth::Required(authority), &[&TLS12, &TLS13])
    });
    let folder = secured.folder.path();
    let (certificate, key) = secured.authority.issue().write(folder, "client");
    let sink = Sink::open(&with(
        secured.config(json!({ "client_cert_file": certificate, "client_key_file": key })),
        json!({ "max_retries": 0, "max_retry_duration": "1m" }),
    ));
    assert_eq!(sink.consume(&one("replaced")), 0);
    // A certificate without its key, as one finds it while somebody copies both: the old ones stay in use.
    let renewed = secured.authority.issue();
    fs::write(&certificate, renewed.certificate.pem()).unwrap();
    let kept = |line: &String| line.contains("client_key_file") && line.contains("stays in use");
    let path = key.display().to_string();
    wait_until("the wrong pair is noticed", || {
        assert_eq!(sink.consume(&one("replaced")), 0, "{:?}", failures("replaced"));
        logged(&path).iter().any(kept)
    });
    fs::write(&key, renewed.key.serialize_pem()).unwrap();
    let expected = renewed.certificate.der().to_vec();
    wait_until("the new pair is used", || {
        assert_eq!(sink.consume(&one("replaced")), 0, "{:?}", failures("replaced"));
        secured.front.handshakes().last().unwrap().client.as_deref() == Some(&expected[..])
    });
    assert_eq!(logged(&path).iter().filter(|line| kept(line)).count(), 1);
}

#[test]
fn the_oldest_version_can_be_raised() {
    let versions = |stream: &str, spoken: &[&'static rustls::SupportedProtocolVersion], tls: Value| {
        let secured = Secured::with(|authority| server(&authority.issue(), ClientAuth::None, spoken));
        let sink = Sink::open(&secured.config(tls));
        let code = sink.consume(&one(stream));
        (code, secured.front.handshakes().first().map(|seen| seen.version), told(&secured))
    };
    let (code, version, _) = versions("v12", &[&TLS12], json!({}));
    assert_eq!((code, version), (0, Some(ProtocolVersion::TLSv1_2)));
    let (code, version, _) = versions("v13", &[&TLS12, &TLS13], json!({}));
    assert_eq!((code, version), (0, Some(ProtocolVersion::TLSv1_3)));
    let (code, version, _) = versions("m13", &[&TLS12, &TLS13], json!({ "min_version": "1.3" }));
    assert_eq!((code, version), (0, Some(ProtocolVersion::TLSv1_3)));
    let (code, version, told) = versions("o12", &[&TLS12], json!({ "min_version": "1.3" }));
    assert_eq!((code, version), (1, None));
    assert!(reason("o12").contains(": tls: "), "{}", reason("o12"));
    assert!(told.len() == 1 && told[0].contains("tls.min_version"), "{told:?}");
}

#[test]
fn the_cryptography_is_ring_in_every_build() {
    let secured = Secured::new();
    let sink = Sink::open(&secured.config(json!({})));
    assert_eq!(sink.consume(&one("ring")), 0);
    // Another provider, which the workspace brings along for Iggy's client, would offer post-quantum groups first.
    let offered = secured.front.handshakes()[0].groups.clone();
    let ring = rustls::crypto::ring::default_provider().kx_groups;
    assert_eq!(offered, ring.iter().map(|group| group.name()).collect::<Vec<_>>());
}

/// What open says about files that cannot be used.
fn problem(folder: &Path, tls: Value) -> String {
    let url = format!(
        "https://{}.example/in",
        folder.file_name().unwrap().to_string_lossy().trim_start_matches('.')
    );
    let why = iggy_connector_http_sink::config::Config::from_json(&json!({ "url": url, "tls": tls }));
    let why = why.expect_err("it cannot be used").to_string();
    assert!(Sink::try_open(&json!({ "url": url, "tls": tls })).is_err());
    why
}

#[test]
fn files_that_cannot_be_used_are_named_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new();
    let (certificate, key) = authority.issue().write(folder, "one");
    let (_, other_key) = authority.issue().write(folder, "other");
    let ca = authority.write(folder, "ca");
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let nonsense = file("nonsense", "SECRET-nonsense");
    let torn = file("torn", "-----BEGIN CERTIFICATE-----\nSECRET");
    let garbled = file("garbled", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let sealed =
        file("sealed", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let cases = [
        (json!({ "ca_file": folder.join("none") }), "tls.ca_file: ", "cannot be read"),
        (json!({ "ca_file": nonsense }), "tls.ca_file: ", "holds no certificate"),
        (json!({ "ca_file": torn }), "tls.ca_file: ", "is not PEM"),
        (json!({ "ca_file": garbled }), "tls.ca_file: ", "certificate 1 of it cannot be used"),
        (json!({ "ca_file": key }), "tls.ca_file: ", "holds no certificate"),
        (json!({ "only_ca_file": true }), "tls.only_ca_file: ", "there is no ca_file"),
        (
            json!({ "client_cert_file": certificate }),
            "tls.client_cert_file: ",
            "stands without client_key_file",
        ),
        (json!({ "client_key_file": key }), "tls.client_key_file: ", "stands without client_cert_file"),
        (
            json!({ "client_cert_file": certificate, "client_key_file": other_key }),
            "tls.client_key_file: ",
            "another key",
        ),
        (
            json!({ "client_cert_file": certificate, "client_key_file": sealed }),
            "tls.client_key_file: ",
            "encrypted",
        ),
        (
            json!({ "client_cert_file": certificate, "client_key_file": ca }),
            "tls.client_key_file: ",
            "no private key",
        ),
        (
            json!({ "client_cert_file": key, "client_key_file": key }),
            "tls.client_cert_file: ",
            "holds no certificate",
        ),
        (json!({ "client_cert_file": "", "client_key_file": key }), "tls.client_cert_file: ", "is empty"),
        (json!({ "min_version": "1.1" }), "tls.min_version: ", "\"1.2\", \"1.3\""),
        (json!({ "ca_files": "x" }), "tls.ca_files: ", "`ca_file`"),
    ];
    for (tls, key, words) in cases {
        let why = problem(folder, tls.clone());
        assert!(why.contains(key) && why.contains(words), "{tls}: {why}");
        assert!(!why.contains("SECRET"), "{why}");
    }
    // One file can hold both.
    let both = file(
        "both",
        &format!("{}{}", fs::read_to_string(&certificate).unwrap(), fs::read_to_string(&key).unwrap()),
    );
    let usable =
        json!({ "url": "https://localhost", "tls": { "client_cert_file": both, "client_key_file": both } });
    iggy_connector_http_sink::config::Config::from_json(&usable).unwrap();
}
