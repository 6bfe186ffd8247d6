//! The listener of an address, with its thread, which the connectors of a process share.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, oneshot},
    time,
};

use super::{
    Board, routes,
    server::{Running, Server, lock},
};
use crate::config::StatusConfig;

/// The maximum number of connections; others wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a client may take to send the head of a request, including the wait after the one before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// The maximum size of a head, in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// The wait after a connection could not be accepted, for example for lack of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The servers of this process.
static SERVERS: Mutex<Vec<Arc<Server>>> = Mutex::new(Vec::new());

/// A connector's registration with a server. When the last is dropped, the server stops.
#[derive(Debug)]
pub(crate) struct Registration {
    server: Arc<Server>,
    connector: u32,
}

impl Registration {
    /// Registers with the server of an address, which is started if there is none.
    ///
    /// # Errors
    /// The address cannot be listened on, or another connector uses it with another token.
    pub(crate) fn new(connector: u32, config: &StatusConfig) -> Result<Self, String> {
        let mut servers = lock(&SERVERS);
        // Port 0 is a different port each time.
        let shared =
            servers.iter().find(|server| server.configured == config.address && config.address.port() != 0);
        let server = if let Some(server) = shared {
            if !server.has_token(config.token.as_ref()) {
                return Err(format!(
                    "plugin_config.status.token: another connector of this process has the address {} with another token, \
                     or without one: write the same, or another address",
                    config.address
                ));
            }
            server.clone()
        } else {
            let server = Server::start(config).map_err(|why| {
                format!(
                    "plugin_config.status.address: {} cannot be listened on: {why}. Another process may have it, or it is not \
                     of this machine: write another address or port",
                    config.address
                )
            })?;
            servers.push(server.clone());
            server
        };
        lock(&server.boards).insert(connector, None);
        Ok(Self { server, connector })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Shows a connector that is open.
    pub(crate) fn show(&self, board: Board) {
        lock(&self.server.boards).insert(self.connector, Some(board));
    }
}

impl Drop for Registration {
    /// Returns when no request reads the connector any more.
    fn drop(&mut self) {
        let mut servers = lock(&SERVERS);
        let letters;
        let is_last = {
            let mut boards = lock(&self.server.boards);
            let removed = boards.remove(&self.connector).flatten();
            letters = removed.and_then(|board| board.letters());
            boards.is_empty()
        };
        if let Some(letters) = letters {
            letters.join();
        }
        if is_last {
            servers.retain(|server| !Arc::ptr_eq(server, &self.server));
            if let Some(Running { stop, thread }) = lock(&self.server.running).take() {
                drop(stop);
                // Only requests can panic in it, and these panics are caught.
                let _ = thread.join();
            }
        }
    }
}

impl Server {
    fn start(config: &StatusConfig) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(config.address)?;
        listener.set_nonblocking(true)?;
        let server = Arc::new(Self {
            configured: config.address,
            address: listener.local_addr()?,
            token: config.token.clone(),
            boards: Mutex::default(),
            running: Mutex::default(),
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let listening = server.clone();
        let thread = thread::Builder::new().name("http-sink-status".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Nothing is ever sent.
                    _ = stopped => {}
                    () = accept(listening, listener) => {}
                }
            });
        })?;
        *lock(&server.running) = Some(Running { stop, thread });
        Ok(server)
    }
}

async fn accept(server: Arc<Server>, listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    // It is never closed.
    while let Ok(permit) = connections.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let (server, request) = (server.clone(), request.map(drop));
                async move { Ok::<_, Infallible>(routes::respond(&server, &request).await) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
            // An error of a connection only concerns its client.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}
