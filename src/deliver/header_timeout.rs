//! `response_header_timeout`: the time from the end of a request to the head of its answer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next, Result};
use tokio::sync::oneshot;

/// The size of the chunks that a body is handed over in: when the last one is taken, most are sent.
const CHUNK: usize = 16 * 1024;

/// The head of an answer did not come in time.
#[derive(Debug)]
pub(super) struct HeaderTimeout(Duration);

impl fmt::Display for HeaderTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer began within {} of the request", humantime::format_duration(self.0))
    }
}

impl std::error::Error for HeaderTimeout {}

/// Fails requests whose answer does not begin in time. It is the innermost middleware, since it replaces the body by one that
/// other middleware cannot read.
#[derive(Debug)]
pub(super) struct LimitsHeader {
    pub(super) limit: Duration,
}

#[async_trait]
impl Middleware for LimitsHeader {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let Some(sent) = watch(&mut request) else {
            // Without a body, nothing tells when the request has been sent.
            return next.run(request, extensions).await;
        };
        let limited = async {
            if sent.await.is_err() {
                // It was dropped before it was sent, and the sender knows why.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.limit).await;
        };
        tokio::select! {
            biased;
            outcome = next.run(request, extensions) => outcome,
            () = limited => Err(Error::middleware(HeaderTimeout(self.limit))),
        }
    }
}

/// Wraps the body of a request, if it has one; the returned receiver resolves when all of it is sent.
fn watch(request: &mut Request) -> Option<oneshot::Receiver<()>> {
    let bytes = request.body()?.as_bytes().filter(|bytes| !bytes.is_empty()).map(Bytes::copy_from_slice)?;
    let (sent, watched) = oneshot::channel();
    *request.body_mut() = Some(reqwest::Body::wrap(Watched { left: bytes, sent: Some(sent) }));
    Some(watched)
}

/// A body that notifies when its last chunk is taken.
struct Watched {
    left: Bytes,
    sent: Option<oneshot::Sender<()>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let next = self.left.len().min(CHUNK);
        let chunk = self.left.split_to(next);
        if self.left.is_empty()
            && let Some(sent) = self.sent.take()
        {
            // The receiver may be gone.
            let _ = sent.send(());
        }
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
