//! The state that the listener of an address shares with its connectors.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::oneshot;

use super::Board;
use crate::config::Text;

/// The state that the thread of an address shares with its connectors.
#[derive(Debug)]
pub(super) struct Server {
    /// As configured.
    pub(super) configured: SocketAddr,
    pub(super) address: SocketAddr,
    pub(super) token: Option<Text>,
    pub(super) boards: Mutex<BTreeMap<u32, Option<Board>>>,
    pub(super) running: Mutex<Option<Running>>,
}

#[derive(Debug)]
pub(super) struct Running {
    /// Ends the thread when dropped.
    pub(super) stop: oneshot::Sender<()>,
    pub(super) thread: thread::JoinHandle<()>,
}

impl Server {
    /// Whether this is its token.
    pub(super) fn has_token(&self, token: Option<&Text>) -> bool {
        let resolved = |token: Option<&Text>| token.map(|token| token.resolve().ok());
        resolved(self.token.as_ref()) == resolved(token)
    }

    /// The connectors; `None` for one that is being opened. No connector is closed while this lock is held.
    pub(super) fn boards(&self) -> MutexGuard<'_, BTreeMap<u32, Option<Board>>> {
        lock(&self.boards)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
