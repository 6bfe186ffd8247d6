//! Sums over the life of one connector.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::settle::Account;

/// Counts up from open to close.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    delivered: AtomicU64,
    dead_lettered: AtomicU64,
    failed: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    /// A request goes out, with a body of so many bytes.
    pub(crate) fn request(&self, bytes: usize, retry: bool) {
        self.requests.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.retries.fetch_add(u64::from(retry), Relaxed);
    }

    /// A batch is settled.
    pub(crate) fn settled(&self, account: &Account) {
        self.delivered.fetch_add(account.delivered as u64, Relaxed);
        self.dead_lettered.fetch_add(account.dead_lettered as u64, Relaxed);
        self.failed.fetch_add(account.failed() as u64, Relaxed);
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        write!(
            f,
            "{} messages delivered, {} dead-lettered, {} failed; {} requests with {} bytes, {} of them retries",
            load(&self.delivered),
            load(&self.dead_lettered),
            load(&self.failed),
            load(&self.requests),
            load(&self.bytes),
            load(&self.retries)
        )
    }
}
