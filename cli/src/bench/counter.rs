//! An endpoint on a free loopback port that accepts everything, keeps nothing, and counts.

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
use memchr::memmem::Finder;
use tokio::{net::TcpListener, runtime::Runtime};

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Text that occurs once in each message, if messages are counted: searching for it takes time.
    mark: Option<&'static [u8]>,
    messages: AtomicU64,
}

/// Serves on a thread of its own until it is dropped.
#[derive(Debug)]
pub(crate) struct Counter {
    address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

impl Counter {
    /// Starts it; each request is answered once it is complete and `latency` is over.
    ///
    /// # Errors
    /// No port is free, or no thread is to be had.
    pub(crate) fn start(latency: Duration) -> io::Result<Self> {
        Self::serve(Counts::default(), latency)
    }

    /// The same, also counting messages, each of which contains `mark` once.
    ///
    /// # Errors
    /// No port is free, or no thread is to be had.
    pub(crate) fn of_messages(mark: &'static [u8]) -> io::Result<Self> {
        Self::serve(Counts { mark: Some(mark), ..Counts::default() }, Duration::ZERO)
    }

    fn serve(counts: Counts, latency: Duration) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let counts = Arc::new(counts);
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

    /// How many messages whole requests had.
    pub(crate) fn messages(&self) -> u64 {
        self.counts.messages.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, counts: Arc<Counts>, latency: Duration) {
    loop {
        // A connection that is closed before it is accepted is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else { continue };
        // Without it, small answers only arrive later.
        let _ = stream.set_nodelay(true);
        let counts = Arc::clone(&counts);
        let service = service_fn(move |request| count(request, Arc::clone(&counts), latency));
        tokio::spawn(async move {
            // Incomplete requests of a broken connection are not counted.
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
    let mut marks = counts.mark.map(Marks::new);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(answer);
        };
        let data = frame.data_ref().map_or(&[][..], |data| data);
        bytes += data.len() as u64;
        if let Some(marks) = &mut marks {
            marks.look_at(data);
        }
    }
    counts.messages.fetch_add(marks.map_or(0, |marks| marks.count), Ordering::SeqCst);
    counts.requests.fetch_add(1, Ordering::SeqCst);
    counts.bytes.fetch_add(bytes, Ordering::SeqCst);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    Ok(answer)
}

/// Counts how often a mark occurs in data that arrives in pieces.
struct Marks {
    finder: Finder<'static>,
    /// The end of the data so far, too short to contain a mark.
    end: Vec<u8>,
    count: u64,
}

impl Marks {
    fn new(mark: &'static [u8]) -> Self {
        Self { finder: Finder::new(mark), end: Vec::new(), count: 0 }
    }

    fn look_at(&mut self, piece: &[u8]) {
        let most = self.finder.needle().len() - 1;
        let start = &piece[..piece.len().min(most)];
        self.end.extend_from_slice(start);
        self.count +=
            (self.finder.find_iter(&self.end).count() + self.finder.find_iter(piece).count()) as u64;
        if start.len() == most {
            self.end.clear();
            self.end.extend_from_slice(&piece[piece.len() - most..]);
        } else {
            self.end.drain(..self.end.len().saturating_sub(most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_however_they_are_cut() {
        let text = b"mark, and maark markmark ma";
        for length in 1..=text.len() {
            let mut marks = Marks::new(b"mark");
            text.chunks(length).for_each(|piece| marks.look_at(piece));
            marks.look_at(b"");
            marks.look_at(b"rk");
            assert_eq!(marks.count, 4, "in pieces of {length}");
        }
    }
}
