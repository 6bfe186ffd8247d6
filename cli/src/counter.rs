//! An endpoint on a free loopback port that takes everything, keeps nothing, and counts.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime};

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Serves on a thread of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Counter {
    address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

impl Counter {
    /// Each request is answered once it is whole and `latency` is over.
    ///
    /// # Errors
    /// No port is free, or no thread is to be had.
    pub(crate) fn start(latency: Duration) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let counts = Arc::<Counts>::default();
        runtime.spawn(serve(listener, Arc::clone(&counts), latency));
        Ok(Self { address, counts, _runtime: runtime })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/bench", self.address)
    }

    /// How many requests were whole, and how many bytes their bodies had.
    pub(crate) fn requests_and_bytes(&self) -> (u64, u64) {
        (self.counts.requests.load(Ordering::SeqCst), self.counts.bytes.load(Ordering::SeqCst))
    }
}

async fn serve(listener: TcpListener, counts: Arc<Counts>, latency: Duration) {
    loop {
        // A connection that is gone before it is accepted is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it small answers only come later.
        let _ = stream.set_nodelay(true);
        let counts = Arc::clone(&counts);
        let service = service_fn(move |request| count(request, Arc::clone(&counts), latency));
        tokio::spawn(async move {
            // What a broken connection did not carry whole is not counted.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn count(
    request: Request<Incoming>,
    counts: Arc<Counts>,
    latency: Duration,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut answer = Response::new(Empty::new());
    let mut body = request.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(answer);
        };
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
    counts.requests.fetch_add(1, Ordering::SeqCst);
    counts.bytes.fetch_add(bytes, Ordering::SeqCst);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    Ok(answer)
}
