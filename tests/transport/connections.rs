//! Connections: their protocol, their age, and how long an answer may be waited for. Through the built plugin.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::sync::oneshot;

use crate::support::{
    again::again,
    config::config,
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, failures},
    spooled::wait_until,
};

fn one(stream: &str) -> Batch {
    Batch::numbered(1).from_stream(stream)
}

#[test]
fn an_answer_that_does_not_begin_is_a_fault_of_its_own_and_tried_again() {
    let endpoint = Endpoint::sequence(vec![Answer::stall(), Answer::status(200)]);
    let sink = Sink::open(&config(&endpoint.url(), json!({ "response_header_timeout": "100ms" })));
    let began = Instant::now();
    assert_eq!(sink.consume(&one("header")), 0, "{:?}", failures("header"));
    assert!(began.elapsed() < Duration::from_secs(20), "timeout is 30s: {:?}", began.elapsed());
    assert_eq!(endpoint.requests().len(), 2);
    assert_eq!(endpoint.requests()[0].body, endpoint.requests()[1].body);

    let endpoint = Endpoint::start(|_| Answer::stall());
    let more = json!({ "response_header_timeout": "50ms", "max_retries": 1 });
    let sink = Sink::open(&config(&endpoint.url(), more));
    assert_eq!(sink.consume(&one("headers")), 1);
    let reason = &failures("headers").reasons[&0];
    assert!(reason.starts_with("retries_exhausted after 2 attempts: response_header_timeout: "), "{reason}");
    assert!(reason.contains("50ms"), "{reason}");
}

#[test]
fn sending_and_the_rest_of_an_answer_do_not_count_for_its_head() {
    // The endpoint reads a large body slowly, since it accepts and waits before it reads; then its answer takes its time.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let length = 16 << 20;
    let server = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        thread::sleep(Duration::from_millis(800));
        let (mut read, mut buffer) = (0, vec![0; 1 << 16]);
        while read < length {
            read += stream.read(&mut buffer).unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").unwrap();
        thread::sleep(Duration::from_millis(800));
        stream.write_all(b"done").unwrap();
    });
    let more = json!({
        "batch_mode": "raw", "response_header_timeout": "400ms", "max_retries": 0, "max_payload_size_bytes": 0,
    });
    let sink = Sink::open(&config(&url, more));
    let batch = Batch::of(iggy_connector_sdk::Schema::Raw, [vec![b'x'; length]]).from_stream("slow");
    assert_eq!(sink.consume(&batch), 0, "{:?}", failures("slow"));
    server.join().unwrap();
}

#[test]
fn a_redirect_is_followed_with_a_response_header_timeout_too() {
    let endpoint = Endpoint::start(|request| match request.path.as_str() {
        "/in" => Answer::status(307).header("Location", "/there"),
        _ => Answer::status(200),
    });
    let more = json!({ "response_header_timeout": "10s", "follow_redirects": true });
    let sink = Sink::open(&config(&endpoint.url(), more));
    assert_eq!(sink.consume(&one("followed")), 0, "{:?}", failures("followed"));
    assert_eq!(endpoint.requests()[1].body, br#"{"n":0}"#);
}

#[test]
fn connections_are_replaced_when_they_are_too_old() {
    let used = |age: &str| {
        let endpoint = Endpoint::answering(200);
        let sink = Sink::open(&config(&endpoint.url(), json!({ "max_connection_age": age })));
        let began = Instant::now();
        let mut sent = 0;
        while began.elapsed() < Duration::from_millis(900) {
            assert_eq!(sink.consume(&one("age")), 0, "{:?}", failures("age"));
            sent += 1;
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(endpoint.requests().len(), sent);
        let numbers: BTreeSet<usize> = endpoint.requests().iter().map(|request| request.connection).collect();
        numbers.len()
    };
    assert_eq!(used("0s"), 1);
    let replaced = used("200ms");
    assert!((3..=6).contains(&replaced), "{replaced}");
}

#[test]
fn requests_in_flight_finish_on_the_connection_that_is_too_old() {
    let endpoint = Endpoint::start(|request| {
        let slow = request.body == br#"{"n":0}"#;
        Answer::status(200).after(Duration::from_millis(if slow { 700 } else { 0 }))
    });
    let more = json!({
        "max_connection_age": "100ms", "concurrency": 4, "ordering": "none", "max_retries": 0,
    });
    let sink = Sink::open(&config(&endpoint.url(), more));
    thread::scope(|scope| {
        let slow = scope.spawn(|| sink.consume(&one("flight")));
        endpoint.wait_for_requests(1, Duration::from_secs(10));
        let quick = Batch::of(iggy_connector_sdk::Schema::Json, ["{\"n\":1}"]).from_stream("flights");
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(400) {
            assert_eq!(sink.consume(&quick), 0, "{:?}", failures("flights"));
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(slow.join().unwrap(), 0, "{:?}", failures("flight"));
    });
    assert!(endpoint.connections() > 2, "{}", endpoint.connections());
}

/// An HTTP/2 server without TLS, which speaks nothing else.
struct Http2 {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    _running: oneshot::Sender<()>,
}

impl Http2 {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (running, stopped) = oneshot::channel();
        thread::spawn({
            let (taken, connections) = (taken.clone(), connections.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                    let accept = async {
                        while let Ok((tcp, _)) = listener.accept().await {
                            connections.fetch_add(1, SeqCst);
                            tokio::spawn(serve(tcp, taken.clone()));
                        }
                    };
                    tokio::select! {
                        () = accept => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { address, taken, connections, _running: running }
    }
}

async fn serve(tcp: tokio::net::TcpStream, taken: Arc<AtomicUsize>) -> Option<()> {
    let mut connection = h2::server::handshake(tcp).await.ok()?;
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let taken = taken.clone();
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk.ok()?.len()).ok()?;
            }
            taken.fetch_add(1, SeqCst);
            answer.send_response(http::Response::new(()), true).ok()?;
            Some(())
        });
    }
    Some(())
}

#[test]
fn http2_is_spoken_without_being_asked_where_the_endpoint_is_known_to() {
    let server = Http2::start();
    let url = format!("http://{}/in", server.address);
    let sink = Sink::open(&config(&url, json!({ "max_retries": 0 })));
    assert_eq!(sink.consume(&one("asked")), 1, "it speaks nothing else");
    let more = json!({
        "http2_prior_knowledge": true, "max_retries": 0, "concurrency": 16, "ordering": "none",
        "response_header_timeout": "20s",
    });
    let sink = Sink::open(&config(&url, more));
    assert_eq!(sink.consume(&Batch::numbered(200).from_stream("known")), 0, "{:?}", failures("known"));
    assert_eq!(server.taken.load(SeqCst), 200);
    assert!(server.connections.load(SeqCst) <= 3, "{}", server.connections.load(SeqCst));
}

#[test]
fn a_redirect_to_another_port_is_not_followed() {
    let other = Endpoint::answering(200);
    let location = other.url();
    let endpoint = Endpoint::start(move |_| Answer::status(307).header("Location", &location));
    let more = json!({ "follow_redirects": true, "headers": { "X-Api-Key": "hunter2" } });
    let sink = Sink::open(&config(&endpoint.url(), more));
    assert_eq!(sink.consume(&one("port")), 1);
    assert!(failures("port").reasons[&0].contains("307"), "{:?}", failures("port"));
    assert_eq!((endpoint.requests().len(), other.connections()), (1, 0));
}

#[test]
fn an_answer_without_end_takes_no_memory() {
    // In a process of its own, whose memory no other test takes.
    if !is_on_its_own("an_answer_without_end_takes_no_memory", &[]) {
        return;
    }
    for (stream, success, code) in [("endless", 200, 0), ("refused", 204, 1)] {
        let endpoint = Endpoint::start(|_| Answer::huge(1 << 40));
        let more = json!({ "max_response_bytes": "64 MiB", "success_status_codes": [success] });
        let sink = Sink::open(&config(&endpoint.url(), more));
        let before = peak_memory();
        assert_eq!(sink.consume(&one(stream)), code, "{:?}", failures(stream));
        let taken = peak_memory() - before;
        assert!(taken < 8 << 20, "{stream}: {taken} bytes more");
    }
}

/// Whether this is the process that a test has for itself, as it needs one for its memory or its environment; starts
/// that otherwise, and waits for it.
fn is_on_its_own(test: &str, environment: &[(&str, &str)]) -> bool {
    const MARK: &str = "IGGY_HTTP_SINK_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let mut again = again(module_path!(), test);
    again.env(MARK, "1").envs(environment.iter().copied());
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "no such test: {test}");
    false
}

/// The most memory that this process has taken so far, in bytes; 0 where the system does not tell.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok()).unwrap_or(0) * 1024
}

#[test]
fn without_certificates_on_the_system_http_works_and_https_says_why_not() {
    let none = [("SSL_CERT_FILE", "/nonexistent/roots"), ("SSL_CERT_DIR", "/nonexistent")];
    if !is_on_its_own("without_certificates_on_the_system_http_works_and_https_says_why_not", &none) {
        return;
    }
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), json!({})));
    assert_eq!(sink.consume(&one("roots")), 0, "{:?}", failures("roots"));
    let url = "https://127.0.0.1:1/in";
    assert!(Sink::try_open(&json!({ "url": url })).is_err());
    wait_until("the reason", || !crate::support::plugin::logged("has no CA certificates").is_empty());
    // Those of one's own are enough.
    let folder = tempfile::tempdir().unwrap();
    let authority = crate::support::tls::Authority::new();
    let ca_file = authority.write(folder.path(), "ca");
    let identity = authority.issue();
    let versions = [&rustls::version::TLS13];
    let tls = crate::support::tls::server(&identity, crate::support::tls::ClientAuth::None, &versions);
    let front = crate::support::tls::TlsFront::start(tls, endpoint.port());
    let sink = Sink::open(&config(&front.url(), json!({ "tls": { "ca_file": ca_file } })));
    assert_eq!(sink.consume(&one("rootsown")), 0, "{:?}", failures("rootsown"));
}
