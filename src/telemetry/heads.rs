//! Bodies that have to be sent again and block those behind them, so that an operator can see them and give them up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use tokio::{sync::watch, time::Instant};

/// How many are tracked; more are retried nevertheless.
const HEADS: usize = 10_000;

/// The bodies of one connector that have failed and will be sent again.
#[derive(Debug)]
pub(crate) struct Heads {
    known: Mutex<BTreeMap<u64, Weak<Head>>>,
    next: AtomicU64,
    /// Counts how many an operator gave up.
    given_up: watch::Sender<u64>,
}

/// Where the messages of a body come from, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadOf {
    pub(crate) stream: String,
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) first_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) messages: usize,
}

/// One such body. It is tracked for as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Head {
    heads: Arc<Heads>,
    /// Unique within the connector, so that an operator never gives up a different head than the one shown.
    pub(crate) number: u64,
    pub(crate) of: HeadOf,
    /// When its first attempt failed.
    pub(crate) since: SystemTime,
    wait: Mutex<HeadWait>,
    given_up: watch::Sender<bool>,
}

/// What a head waits for.
#[derive(Debug, Clone)]
pub(crate) struct HeadWait {
    pub(crate) attempts: u32,
    /// How the last of them ended.
    pub(crate) why: String,
    /// When the next one is due.
    pub(crate) until: Instant,
}

impl Default for Heads {
    fn default() -> Self {
        Self { known: Mutex::default(), next: AtomicU64::new(1), given_up: watch::Sender::new(0) }
    }
}

impl Heads {
    /// Adds one; `None` if there are too many.
    pub(super) fn add(self: &Arc<Self>, of: HeadOf, wait: HeadWait) -> Option<Arc<Head>> {
        let mut known = lock(&self.known);
        if known.len() >= HEADS {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        let head = Arc::new(Head {
            heads: self.clone(),
            number,
            of,
            since: SystemTime::now(),
            wait: Mutex::new(wait),
            given_up: watch::Sender::new(false),
        });
        known.insert(number, Arc::downgrade(&head));
        Some(head)
    }

    /// Those that wait now, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Head>> {
        // One of these may be the last reference, which locks the same mutex when it is dropped: so they are taken out first.
        let known: Vec<Weak<Head>> = lock(&self.known).values().cloned().collect();
        known.iter().filter_map(Weak::upgrade).collect()
    }

    /// The one with this number, if it still waits.
    pub(super) fn find(&self, number: u64) -> Option<Arc<Head>> {
        let known = lock(&self.known).get(&number).cloned();
        known?.upgrade()
    }

    /// Changes whenever one is given up.
    pub(super) fn given_up(&self) -> watch::Receiver<u64> {
        self.given_up.subscribe()
    }
}

impl Head {
    /// Records that it failed again.
    pub(crate) fn waits(&self, wait: HeadWait) {
        *lock(&self.wait) = wait;
    }

    /// What it waits for.
    pub(crate) fn wait(&self) -> HeadWait {
        lock(&self.wait).clone()
    }

    /// Records that it has ended.
    pub(crate) fn ended(&self) {
        lock(&self.heads.known).remove(&self.number);
    }

    /// An operator gives it up: once an attempt in flight has ended, there is no other.
    pub(crate) fn give_up(&self) {
        self.given_up.send_replace(true);
        self.heads.given_up.send_modify(|times| *times += 1);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        *self.given_up.borrow()
    }

    /// Returns once it is given up.
    pub(crate) async fn until_given_up(&self) {
        // The sender lives as long as this does, so there is no error.
        let _ = self.given_up.subscribe().wait_for(|given_up| *given_up).await;
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.ended();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(offset: u64) -> HeadOf {
        HeadOf {
            stream: "s".to_owned(),
            topic: "t".to_owned(),
            partition: 1,
            first_offset: offset,
            last_offset: offset,
            messages: 1,
        }
    }

    fn wait() -> HeadWait {
        HeadWait { attempts: 1, why: "answered 503".to_owned(), until: Instant::now() }
    }

    #[tokio::test]
    async fn a_head_is_known_until_it_ends_or_nobody_holds_it() {
        let heads = Arc::<Heads>::default();
        let [first, second] = [5, 6].map(|offset| heads.add(of(offset), wait()).expect("there is room"));
        assert_eq!(heads.all().iter().map(|head| head.of.first_offset).collect::<Vec<_>>(), [5, 6]);
        let number = first.number;
        drop(first);
        assert!(heads.find(number).is_none());
        second.ended();
        assert!(heads.all().is_empty());
    }

    #[tokio::test]
    async fn giving_one_up_tells_its_holder_and_nobody_elses() {
        let heads = Arc::<Heads>::default();
        let [first, second] = [5, 6].map(|offset| heads.add(of(offset), wait()).expect("there is room"));
        let mut given_up = heads.given_up();
        heads.find(second.number).expect("it waits").give_up();
        second.until_given_up().await;
        assert!(given_up.has_changed().expect("heads live") && second.is_given_up() && !first.is_given_up());
        given_up.mark_unchanged();
        assert!(!given_up.has_changed().expect("heads live"));
    }

    #[test]
    fn heads_are_bounded() {
        let heads = Arc::<Heads>::default();
        let held: Vec<_> = (0..HEADS as u64 + 3).map(|offset| heads.add(of(offset), wait())).collect();
        assert_eq!(held.iter().flatten().count(), HEADS);
    }
}
