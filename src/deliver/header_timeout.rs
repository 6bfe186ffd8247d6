//! The time from a request sent to the head of its answer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::Request;
use tokio::sync::oneshot;

/// In so many bytes a body is handed over: the last of them when most are on their way.
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

/// Tells once a request is sent.
#[derive(Debug)]
pub(super) struct Sending(oneshot::Receiver<()>);

impl Sending {
    /// Watches the body of a request. `None` where it cannot be.
    pub(super) fn watch(request: &mut Request) -> Option<Self> {
        let bytes = request.body()?.as_bytes().map(Bytes::copy_from_slice)?;
        let (sent, watched) = oneshot::channel();
        *request.body_mut() = Some(reqwest::Body::wrap(Watched { left: bytes, sent: Some(sent) }));
        Some(Self(watched))
    }

    /// Counts from now on.
    pub(super) fn begun() -> Self {
        let (sent, watched) = oneshot::channel();
        // The receiver is there.
        let _ = sent.send(());
        Self(watched)
    }

    /// Ends when the request has been sent for so long.
    pub(super) async fn over(self, limit: Duration) -> HeaderTimeout {
        if self.0.await.is_err() {
            // It is given up without having been sent, and whoever sends it knows why.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(limit).await;
        HeaderTimeout(limit)
    }
}

/// A body that tells when the last of it is taken to be written.
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
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.left.len().min(CHUNK);
        let chunk = self.left.split_to(next);
        if self.left.is_empty()
            && let Some(sent) = self.sent.take()
        {
            // Nobody may be left who wants to know.
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
