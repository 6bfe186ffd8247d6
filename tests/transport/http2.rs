//! An HTTP/2 server that refuses streams, as one does that is about to close a connection. Through the built plugin.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use h2::{Reason, RecvStream, server::SendResponse};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    config::with,
    plugin::{Batch, Sink, failures, logged},
};

/// A server that refuses the first streams, this many, and answers 200 to all others.
struct Server {
    address: SocketAddr,
    streams: Arc<AtomicUsize>,
    tokens: Tokens,
    connections: Arc<AtomicUsize>,
    _running: oneshot::Sender<()>,
}

/// What the streams carried in `x-token`, refused ones included.
type Tokens = Arc<Mutex<Vec<String>>>;

/// How a server treats streams.
#[derive(Clone)]
struct Manner {
    refused: usize,
    /// What happens before it refuses one; nothing else is served meanwhile.
    before_refusing: Arc<dyn Fn() + Send + Sync>,
    streams: Arc<AtomicUsize>,
    tokens: Tokens,
}

impl Server {
    fn refusing_first(refused: usize) -> Self {
        Self::refusing_after(refused, || {})
    }

    fn refusing_after(refused: usize, before_refusing: impl Fn() + Send + Sync + 'static) -> Self {
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (streams, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let tokens = Tokens::default();
        let manner = Manner {
            refused,
            before_refusing: Arc::new(before_refusing),
            streams: streams.clone(),
            tokens: tokens.clone(),
        };
        let (running, stopped) = oneshot::channel();
        thread::spawn({
            let connections = connections.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).unwrap();
                    let acceptor = TlsAcceptor::from(Arc::new(tls));
                    let accept = async {
                        while let Ok((tcp, _)) = listener.accept().await {
                            connections.fetch_add(1, SeqCst);
                            tokio::spawn(serve(acceptor.clone(), tcp, manner.clone()));
                        }
                    };
                    tokio::select! {
                        () = accept => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { address, streams, tokens, connections, _running: running }
    }

    fn config(&self, more: Value) -> Value {
        let url = format!("https://{}/in", self.address);
        with(json!({ "url": url, "include_metadata": false, "tls_danger_accept_invalid_certs": true }), more)
    }
}

/// A client that goes away is no concern of the server.
async fn serve(acceptor: TlsAcceptor, tcp: TcpStream, manner: Manner) -> Option<()> {
    let mut connection = h2::server::handshake(acceptor.accept(tcp).await.ok()?).await.ok()?;
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        if let Some(token) = request.headers().get("x-token") {
            manner.tokens.lock().unwrap().push(token.to_str().unwrap().to_owned());
        }
        if manner.streams.fetch_add(1, SeqCst) < manner.refused {
            (manner.before_refusing)();
            answer.send_reset(Reason::REFUSED_STREAM);
        } else {
            tokio::spawn(take(request.into_body(), answer));
        }
    }
    Some(())
}

async fn take(mut body: RecvStream, mut answer: SendResponse<bytes::Bytes>) -> Option<()> {
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk.ok()?.len()).ok()?;
    }
    answer.send_response(http::Response::new(()), true).ok()?;
    Some(())
}

#[test]
fn refused_streams_cost_no_retry_and_no_wait() {
    let server = Server::refusing_first(10);
    // A retry would wait for as long as the test may take.
    let sink =
        Sink::open(&server.config(json!({ "max_retries": 0, "retry_delay": "5m", "max_retry_delay": "5m" })));
    assert_eq!(
        sink.consume(&Batch::numbered(20).from_stream("refused-streams")),
        0,
        "{:?}",
        failures("refused-streams")
    );
    assert_eq!(server.streams.load(SeqCst), 30);
    assert_eq!(logged(&format!("{} keeps failing", server.address)), [""; 0]);
}

#[test]
fn a_request_that_goes_out_again_carries_the_secret_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let secret = format!("${{file:{}}}", file.display());
    let server = Server::refusing_after(1, move || {
        std::fs::write(&file, "renewed").unwrap();
        // Files are looked at once a second.
        thread::sleep(Duration::from_millis(1100));
    });
    let sink = Sink::open(&server.config(json!({ "headers": { "x-token": secret } })));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("renewed")), 0, "{:?}", failures("renewed"));
    assert_eq!(*server.tokens.lock().unwrap(), ["old", "renewed"]);
}

#[test]
fn a_server_that_refuses_for_ever_is_given_up() {
    let server = Server::refusing_first(usize::MAX);
    let sink = Sink::open(&server.config(json!({
        "max_retries": 2, "retry_delay": "1ms", "max_retry_delay": "1ms",
    })));
    assert_eq!(sink.consume(&Batch::numbered(1).from_stream("ever")), 1);
    let reason = &failures("ever").reasons[&0];
    assert!(reason.starts_with("retries_exhausted after 3 attempts: unprocessed: "), "{reason}");
    assert_eq!(server.streams.load(SeqCst), 3 * 11);
}

#[test]
fn connections_that_are_too_old_are_replaced_one_by_one() {
    let server = Server::refusing_first(0);
    let sink = Sink::open(&server.config(json!({
        "max_connection_age": "100ms", "concurrency": 16, "ordering": "none", "max_retries": 0,
    })));
    assert_eq!(sink.consume(&Batch::numbered(20).from_stream("aging")), 0, "{:?}", failures("aging"));
    let first = server.connections.load(SeqCst);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1000) {
        assert_eq!(sink.consume(&Batch::numbered(100).from_stream("aging")), 0, "{:?}", failures("aging"));
    }
    let replaced = server.connections.load(SeqCst) - first;
    // The last batch may end long after the second on a busy machine.
    let took = began.elapsed();
    let most = usize::try_from(took.as_millis() / 100).unwrap() + 2;
    assert!((4..=most).contains(&replaced), "{replaced} connections in {took:?}");
}
