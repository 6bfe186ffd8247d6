//! How the client opens connections: counted, and one at a time to an HTTP/2 server.

use std::{
    error::Error as StdError,
    fmt,
    fs::File,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::client::legacy::connect::Connection;
use tokio::sync::Mutex;
use tower_layer::Layer;
use tower_service::Service;

/// How many file descriptors a new connection must leave for others: dead letters, the spool, other plugins. Otherwise
/// connections could take all of them, and keep them while idle.
const LEFT: usize = 8;

/// If a connection is not opened because another one replaces it, how long it waits for the pool to hand that over.
const HANDED_OVER: Duration = Duration::from_millis(100);

/// The connections of a client.
///
/// When an HTTP/2 server closes a connection, all requests ask for a new one at the same time, and the pool discards all but
/// the first: with 16 in flight, 16 TLS handshakes for one connection. Once a connection has negotiated HTTP/2, the others
/// wait for the first, which carries them all.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    begun: Arc<AtomicU64>,
    /// Duplicated to find out whether descriptors are left.
    any_file: Option<Arc<File>>,
    /// `None` if no connection is shared.
    http2: Option<Arc<Http2>>,
}

#[derive(Debug, Default)]
struct Http2 {
    /// Whether the last connection negotiated it.
    negotiated: AtomicBool,
    /// Connections that negotiated it.
    made: AtomicU64,
    /// Held while one is being made.
    making: Mutex<()>,
}

/// Another new connection can carry the request as well, so none was made for it.
#[derive(Debug)]
pub(super) struct Superseded;

impl Connections {
    /// Those of a pool.
    pub(super) fn pooled() -> Self {
        Self { begun: Arc::default(), any_file: any_file(), http2: Some(Arc::default()) }
    }

    /// Those of a pool that replaces this one: to an HTTP/2 server, it begins with one connection.
    pub(super) fn anew(&self) -> Self {
        let negotiated = self.http2.as_ref().is_some_and(|http2| http2.negotiated.load(SeqCst));
        let http2 = Http2 { negotiated: AtomicBool::new(negotiated), ..Http2::default() };
        Self { begun: Arc::default(), any_file: self.any_file.clone(), http2: Some(Arc::new(http2)) }
    }

    /// One for each request.
    pub(super) fn of_single_requests() -> Self {
        Self { begun: Arc::default(), any_file: any_file(), http2: None }
    }

    /// How many were begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Relaxed)
    }

    /// # Errors
    /// A connection would take one of the last descriptors.
    fn leave_descriptors(&self) -> io::Result<()> {
        if let Some(file) = &self.any_file {
            // All of them at the same time; then they are dropped.
            (0..=LEFT).map(|_| file.try_clone()).collect::<io::Result<Vec<_>>>()?;
        }
        Ok(())
    }
}

/// A file that takes no space. If there is none, descriptors are not counted.
fn any_file() -> Option<Arc<File>> {
    File::open("/dev/null").map(Arc::new).ok()
}

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another connection was opened instead of this one")
    }
}

impl StdError for Superseded {}

/// The client's own connector, watched.
///
/// The client clones it several times per request, but opens a connection for few of them: so cloning copies a reference.
pub(super) struct Watched<S>(Arc<(S, Connections)>);

impl<S> Clone for Watched<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Layer<S> for Connections {
    type Service = Watched<S>;

    fn layer(&self, connector: S) -> Watched<S> {
        Watched(Arc::new((connector, self.clone())))
    }
}

impl<S, T> Service<T> for Watched<S>
where
    S: Service<T> + Clone + Send + 'static,
    S::Response: Connection,
    S::Error: From<Box<dyn StdError + Send + Sync>>,
    S::Future: Send + 'static,
    T: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: T) -> Self::Future {
        let (connector, connections) = &*self.0;
        connections.begun.fetch_add(1, Relaxed);
        if let Err(why) = connections.leave_descriptors() {
            let why: Box<dyn StdError + Send + Sync> = Box::new(why);
            return Box::pin(async move { Err(why.into()) });
        }
        let mut connector = connector.clone();
        let connecting = async move {
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(target).await
        };
        let Some(http2) = connections.http2.clone() else { return Box::pin(connecting) };
        let made = http2.made.load(SeqCst);
        Box::pin(async move {
            let _making = if http2.negotiated.load(SeqCst) {
                let making = http2.making.lock().await;
                if http2.made.load(SeqCst) != made && http2.negotiated.load(SeqCst) {
                    drop(making);
                    // The pool drops this as soon as it has a connection for the request; if it never does, the request is
                    // resent.
                    tokio::time::sleep(HANDED_OVER).await;
                    let superseded: Box<dyn StdError + Send + Sync> = Box::new(Superseded);
                    return Err(superseded.into());
                }
                Some(making)
            } else {
                None
            };
            let connection = connecting.await?;
            let negotiated = connection.connected().is_negotiated_h2();
            http2.negotiated.store(negotiated, SeqCst);
            http2.made.fetch_add(u64::from(negotiated), SeqCst);
            Ok(connection)
        })
    }
}
