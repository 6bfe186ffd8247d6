//! Certificates made while a test runs, and TLS in front of an endpoint.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    NamedGroup, ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::PrivateKeyDer, server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::LazyConfigAcceptor;

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    pub certificate: rcgen::Certificate,
    pub key: KeyPair,
}

impl Identity {
    /// Writes both as PEM, each in a file of its own.
    ///
    /// # Panics
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&certificate, self.certificate.pem()).expect("the folder can be written");
        fs::write(&key, self.key.serialize_pem()).expect("the folder can be written");
        (certificate, key)
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// # Panics
    /// There are no keys to be had.
    pub fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::new()).expect("no name is wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of the same name would be taken for one that signs wrongly.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Authority {}", MADE.fetch_add(1, Relaxed)));
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate can be made"))
    }

    pub fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// Writes its certificate as PEM.
    ///
    /// # Panics
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(format!("{name}.pem"));
        fs::write(&path, self.pem()).expect("the folder can be written");
        path
    }

    /// A certificate for loopback.
    pub fn issue(&self) -> Identity {
        self.issue_with(&["localhost", "127.0.0.1"], |_| {})
    }

    /// A certificate that was valid for one day, long ago.
    pub fn issue_expired(&self) -> Identity {
        self.issue_with(&["localhost", "127.0.0.1"], |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 2);
        })
    }

    /// # Panics
    /// A name is none.
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("the names are right");
        change(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate can be made");
        Identity { certificate, key }
    }
}

/// Whether a server wants certificates of its clients.
#[derive(Debug, Clone, Copy)]
pub enum ClientAuth<'a> {
    None,
    Required(&'a Authority),
    Optional(&'a Authority),
}

/// What a server does.
///
/// # Panics
/// The identity cannot be used.
pub fn server(
    identity: &Identity,
    clients: ClientAuth<'_>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .expect("the versions are known");
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key");
    let chain = vec![identity.certificate.der().clone()];
    let verifier = |authority: &Authority| {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.as_ref().der().clone()).expect("a certificate");
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
    };
    let builder = match clients {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required(authority) => {
            builder.with_client_cert_verifier(verifier(authority).build().expect("a verifier"))
        }
        ClientAuth::Optional(authority) => builder.with_client_cert_verifier(
            verifier(authority).allow_unauthenticated().build().expect("a verifier"),
        ),
    };
    builder.with_single_cert(chain, key).expect("the key fits")
}

/// A handshake that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    pub version: ProtocolVersion,
    /// The client's certificate.
    pub client: Option<Vec<u8>>,
    /// The groups for the key exchange that the client offered.
    pub groups: Vec<NamedGroup>,
}

/// TLS in front of an endpoint, or of anything else that listens on loopback.
#[derive(Debug)]
pub struct TlsFront {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _running: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    config: Mutex<Arc<ServerConfig>>,
    attempts: Mutex<usize>,
    handshakes: Mutex<Vec<Handshake>>,
}

impl TlsFront {
    /// # Panics
    /// There is no port.
    pub fn start(config: ServerConfig, inner: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            config: Mutex::new(Arc::new(config)),
            attempts: Mutex::default(),
            handshakes: Mutex::default(),
        });
        let (running, stopped) = oneshot::channel();
        thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let listener = TcpListener::from_std(listener).expect("a listener");
                    let accept = async {
                        while let Ok((tcp, _)) = listener.accept().await {
                            tokio::spawn(shared.clone().pass_on(tcp, inner));
                        }
                    };
                    tokio::select! {
                        () = accept => {}
                        _ = stopped => {}
                    }
                });
            }
        });
        Self { address, shared, _running: running }
    }

    pub fn url(&self) -> String {
        format!("https://{}/in", self.address)
    }

    /// New connections are served so.
    pub fn serve(&self, config: ServerConfig) {
        *self.shared.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Connections so far, whatever became of them.
    pub fn attempts(&self) -> usize {
        *self.shared.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that came about.
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.shared.handshakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    /// A client that goes away, or that is not let in, is no concern of the server.
    async fn pass_on(self: Arc<Self>, tcp: TcpStream, inner: u16) -> Option<()> {
        *self.attempts.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp).await.ok()?;
        let groups = hello.client_hello().named_groups().unwrap_or_default().to_vec();
        let mut tls = hello.into_stream(config).await.ok()?;
        let connection = tls.get_ref().1;
        let client = connection.peer_certificates().and_then(|chain| Some(chain.first()?.to_vec()));
        let version = connection.protocol_version()?;
        let handshake = Handshake { version, client, groups };
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner).push(handshake);
        let mut inner = TcpStream::connect((Ipv4Addr::LOCALHOST, inner)).await.ok()?;
        tokio::io::copy_bidirectional(&mut tls, &mut inner).await.ok()?;
        Some(())
    }
}
