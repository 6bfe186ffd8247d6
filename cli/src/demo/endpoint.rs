//! An endpoint on a free loopback port that accepts everything and keeps the bodies.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime};

/// What has arrived since it was last taken.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) bytes: usize,
}

/// Serves on a thread of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    arrived: Arc<Mutex<Arrived>>,
    _runtime: Runtime,
}

impl Endpoint {
    /// # Errors
    /// No port is free, or no thread can be created.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let arrived = Arc::<Mutex<Arrived>>::default();
        runtime.spawn(serve(listener, Arc::clone(&arrived)));
        Ok(Self { address, arrived, _runtime: runtime })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/orders", self.address)
    }

    /// How many bytes wait to be taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// What has arrived since the last call. Every request that was answered is in it.
    pub(crate) fn take(&self) -> Arrived {
        std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(listener: TcpListener, arrived: Arc<Mutex<Arrived>>) {
    loop {
        // A connection that is closed before it is accepted is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let arrived = Arc::clone(&arrived);
        let service = service_fn(move |request| record(request, Arc::clone(&arrived)));
        tokio::spawn(async move {
            // A broken connection shows in the count: what it carried is missing, or comes again.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn record(
    request: Request<Incoming>,
    arrived: Arc<Mutex<Arrived>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut answer = Response::new(Empty::new());
    match request.into_body().collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            arrived.bytes += body.len();
            arrived.bodies.push(body);
        }
        Err(_) => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(answer)
}
