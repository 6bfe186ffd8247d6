//! Counts the messages that a connector holds and has not settled yet.

use std::{
    fmt,
    sync::{
        OnceLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::spool::Spool;

#[derive(Debug, Default)]
pub(super) struct Holding {
    messages: AtomicU64,
    batches: AtomicU64,
    spool: OnceLock<Weak<Spool>>,
}

/// A batch that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBatch<'h> {
    holding: &'h Holding,
    messages: u64,
}

/// How many messages are held, and where; shown as `12 messages in 3 batches`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// By calls of consume.
    Consume { messages: u64, batches: u64 },
    /// On disk.
    Spool { messages: u64, lanes: usize },
}

impl Holding {
    pub(super) fn batch(&self, messages: usize) -> HeldBatch<'_> {
        let messages = messages as u64;
        self.messages.fetch_add(messages, Relaxed);
        self.batches.fetch_add(1, Relaxed);
        HeldBatch { holding: self, messages }
    }

    /// Records that messages are held by this spool from now on.
    pub(super) fn keep(&self, spool: Weak<Spool>) {
        // A connector opens one spool, once.
        let _ = self.spool.set(spool);
    }

    pub(super) fn held(&self) -> Held {
        match self.spool.get().and_then(Weak::upgrade) {
            Some(spool) => {
                let (messages, lanes) = spool.waiting();
                Held::Spool { messages, lanes }
            }
            None => {
                Held::Consume { messages: self.messages.load(Relaxed), batches: self.batches.load(Relaxed) }
            }
        }
    }
}

impl Held {
    /// How many messages there are.
    pub(crate) fn messages(self) -> u64 {
        match self {
            Self::Consume { messages, .. } | Self::Spool { messages, .. } => messages,
        }
    }
}

impl Drop for HeldBatch<'_> {
    fn drop(&mut self) {
        self.holding.messages.fetch_sub(self.messages, Relaxed);
        self.holding.batches.fetch_sub(1, Relaxed);
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consume { messages, batches } => {
                write!(
                    f,
                    "{messages} {} in {batches} {}",
                    of(*messages, "message"),
                    if *batches == 1 { "batch" } else { "batches" }
                )
            }
            Self::Spool { messages, lanes } => {
                let lanes_of = of(*lanes as u64, "lane");
                write!(f, "{messages} {} in {lanes} {lanes_of} of the spool", of(*messages, "message"))
            }
        }
    }
}

/// The singular or plural of a word.
fn of(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}
