//! The state of one topic, and the state that all topics share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool};

use iggy_connector_http_sink::config::{BodyConfig, Config};
use iggy_connector_sdk::TopicMetadata;
use tokio::{sync::watch, time::Instant};

use super::{outcome::Outcome, replay::ReplayFrom, server::Server, session::Names};
use crate::{
    connector_file::{ConnectorFile, StreamConfig},
    host::OpenPlugin,
    terminal::report::Progress,
};

/// The maximum that is polled for one body without a limit, in bytes.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// A topic to read, and how.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) shared: Arc<Shared>,
    pub(super) config: StreamConfig,
    pub(super) names: Names,
    pub(super) metadata: TopicMetadata,
}

/// The state that all topics share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) server: Server,
    pub(super) plugin: OpenPlugin,
    /// Whether to stop at the end that each partition had at the start.
    pub(super) once: bool,
    pub(super) replay: Option<ReplayFrom>,
    /// The room of one request, if requests hold several messages and nothing else fills bodies.
    pub(super) body: Option<BodyRoom>,
    /// Whether any group was ever joined.
    pub(super) joined: AtomicBool,
    /// When the first connection must have succeeded.
    pub(super) connect_deadline: Option<Instant>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) outcome: Mutex<Outcome>,
    pub(super) progress: Progress,
}

impl Shared {
    /// The count so far.
    pub(super) fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyRoom {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl BodyRoom {
    /// Returns the room for a connector, if its plugin is the HTTP sink. With a spool, bodies fill by themselves.
    pub(super) fn of(file: &ConnectorFile) -> Option<Self> {
        let config = Config::from_json(&file.plugin_config).ok()?;
        if config.spool.is_some() {
            return None;
        }
        // The largest of several routes: what is too much for the bodies of another route is split.
        let bodies = config.destinations().map(|of| &of.body).filter(|body| body.mode.batches());
        let room = |body: &BodyConfig| Self {
            messages: body.max_messages.map_or(usize::MAX, Into::into),
            bytes: body.max_bytes.min(LARGEST_BODY),
        };
        bodies.map(room).reduce(|one, other| Self {
            messages: one.messages.max(other.messages),
            bytes: one.bytes.max(other.bytes),
        })
    }
}
