//! Exports spans of attempts to a collector as OTLP over HTTP. Without an endpoint for them there is no [`Tracer`] and no
//! cost.
//!
//! They do not pass through the subscriber of `tracing`: everything about an attempt is known when it ends, and a span that
//! is handed over then costs nothing before.

mod span;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use reqwest::{
    Request, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

pub(crate) use self::span::Value;
use self::span::{Attribute, Span};
use crate::{
    auth::Transport,
    each_minute::EachMinute,
    request::{Trace, TraceContext},
    world::World,
};

/// The maximum number of spans that wait to be sent; more are lost, and counted.
const QUEUE: usize = 4096;
/// The maximum number of spans in a request, and how long they are collected.
const MOST: usize = 512;
const WITHIN: Duration = Duration::from_secs(1);
/// How long close waits for the last spans.
const LAST: Duration = Duration::from_secs(2);

/// The maximum number of links of a span, as in the defaults of the OpenTelemetry SDKs; more are counted.
const LINKS: usize = 128;

const SERVICE: &str = "iggy-http-sink";

/// An attempt in flight.
#[derive(Debug)]
pub(crate) struct OpenSpan {
    context: TraceContext,
    id: [u8; 8],
    began: SystemTime,
}

/// Accepts spans to be sent.
#[derive(Debug)]
pub(crate) struct Tracer {
    queue: mpsc::Sender<Item>,
    lost: Arc<AtomicU64>,
    world: World,
}

#[derive(Debug)]
enum Item {
    Span(Box<Span>),
    /// Asks to send everything before it; notified when that is sent.
    Flush(oneshot::Sender<()>),
}

/// Sends them.
#[derive(Debug)]
pub(crate) struct Exporter {
    transport: Box<dyn Transport>,
    url: Url,
    service: String,
    queue: mpsc::Receiver<Item>,
    lost: Arc<AtomicU64>,
    trouble: EachMinute,
}

/// Creates the tracer that accepts spans for `url`, and the exporter that sends them.
pub(crate) fn to(url: Url, transport: Box<dyn Transport>, world: &World) -> (Tracer, Exporter) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let lost = Arc::<AtomicU64>::default();
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let exporter = Exporter {
        transport,
        url,
        service: service.unwrap_or_else(|| SERVICE.to_owned()),
        queue,
        lost: lost.clone(),
        trouble: EachMinute::default(),
    };
    (Tracer { queue: sender, lost, world: world.clone() }, exporter)
}

impl Tracer {
    /// Begins the span of an attempt, for a message of this trace or of none. `None` if the trace is not sampled.
    pub(crate) fn begin(&self, trace: Option<&Trace>) -> Option<OpenSpan> {
        let context = if let Some(trace) = trace {
            trace.context()?
        } else {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&self.id());
            id[8..].copy_from_slice(&self.id());
            TraceContext { trace: id, parent: None, state: None }
        };
        Some(OpenSpan { context, id: self.id(), began: self.world.now() })
    }

    /// Ends a span. If the queue is full, it is lost. `of`: the traces of its messages, each of which is linked once.
    pub(crate) fn end<'t>(
        &self,
        span: OpenSpan,
        name: &'static str,
        attributes: Vec<Attribute>,
        failure: Option<String>,
        of: impl Iterator<Item = &'t TraceContext>,
    ) {
        let OpenSpan { context, id, began } = span;
        let TraceContext { trace, parent, state } = context;
        let ended = self.world.now();
        let (mut links, mut links_left_out) = (Vec::new(), 0);
        for context in of.filter(|context| context.parent.is_some()) {
            if links.contains(context) {
                continue;
            }
            if links.len() < LINKS {
                links.push(context.clone());
            } else {
                links_left_out += 1;
            }
        }
        let span =
            Span { trace, id, parent, state, name, began, ended, attributes, failure, links, links_left_out };
        if self.queue.try_send(Item::Span(Box::new(span))).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Returns when all spans so far are sent, or when that takes too long.
    pub(crate) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flush = async {
            if self.queue.send(Item::Flush(done)).await.is_ok() {
                // An error means that the exporter has ended.
                let _ = is_done.await;
            }
        };
        // Spans that are not sent by then are lost.
        let _ = timeout(LAST, flush).await;
    }

    /// Returns eight random bytes, which are a valid id if they are not all zero.
    fn id(&self) -> [u8; 8] {
        self.world.random().max(1).to_be_bytes()
    }
}

impl OpenSpan {
    /// Adds this span to the headers of a request, unless that belongs to another trace.
    pub(crate) fn send(&self, headers: &mut HeaderMap, of_message: Option<&Trace>) {
        let is_other = headers
            .get(Trace::PARENT)
            .is_some_and(|parent| of_message.is_none_or(|trace| trace.parent() != parent));
        if is_other {
            return;
        }
        let parent = format!(
            "00-{:032x}-{:016x}-01",
            u128::from_be_bytes(self.context.trace),
            u64::from_be_bytes(self.id)
        );
        if let Ok(parent) = HeaderValue::from_str(&parent) {
            headers.insert(Trace::PARENT, parent);
        }
    }
}

impl Exporter {
    /// Sends spans until no tracer is left.
    pub(crate) async fn run(mut self) {
        let (mut items, mut spans) = (Vec::new(), Vec::new());
        loop {
            let until = Instant::now() + WITHIN;
            // There is no limit for the wait for the first one.
            let mut open = self.queue.recv_many(&mut items, MOST).await > 0;
            let mut flushed = Vec::new();
            loop {
                for item in items.drain(..) {
                    match item {
                        Item::Span(span) => spans.push(*span),
                        Item::Flush(done) => flushed.push(done),
                    }
                }
                if !open || !flushed.is_empty() || spans.len() >= MOST {
                    break;
                }
                match timeout_at(until.max(Instant::now()), self.queue.recv_many(&mut items, MOST)).await {
                    Ok(received) => open = received > 0,
                    Err(_) => break,
                }
            }
            if !spans.is_empty() {
                self.send(&spans).await;
                spans.clear();
            }
            for done in flushed {
                // The receiver may have given up.
                let _ = done.send(());
            }
            if !open {
                return;
            }
        }
    }

    async fn send(&self, spans: &[Span]) {
        let mut request = Request::new(reqwest::Method::POST, self.url.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        *request.body_mut() = Some(wire::request(&self.service, spans).into());
        let why = match self.transport.send(request).await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("answered {}", answer.status())),
            Err(why) => Some(crate::causes::chain(&why)),
        };
        if why.is_some() {
            self.lost.fetch_add(spans.len() as u64, Relaxed);
        }
        let why =
            why.or_else(|| (self.lost.load(Relaxed) > 0).then(|| "it takes them too slowly".to_owned()));
        if let Some(why) = why
            && self.trouble.happened(Instant::now()).is_some()
        {
            let lost = self.lost.swap(0, Relaxed);
            warn!(
                "tracing.otlp_endpoint {}: {why}: {lost} spans are lost since the last such line; messages are delivered all the same",
                self.url.origin().ascii_serialization()
            );
        }
    }
}
