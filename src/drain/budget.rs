//! The memory that the records of all lanes take while they are sent.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::world::World;

/// Memory that is granted first come, first served. One record is always admitted, however large it is, with those that it
/// shares a body with.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
    used: AtomicUsize,
    freed: Notify,
    /// Held by the one that waits for memory, or has been admitted and does not know yet how much it needs.
    queue: Arc<Mutex<()>>,
    world: World,
}

/// The permit to read a record into memory, with those that it shares a body with.
#[derive(Debug)]
pub(super) struct Admission {
    budget: Arc<Budget>,
    /// Whether nothing was taken yet.
    is_new: AtomicBool,
    _queue: OwnedMutexGuard<()>,
}

/// The memory of a record, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Creates a budget of this many bytes, or of what a simulated world sets.
    pub(super) fn of(bytes: usize, world: &World) -> Arc<Self> {
        let bytes = world.simulation().and_then(|simulation| simulation.memory()).unwrap_or(bytes);
        let (used, world) = (AtomicUsize::new(0), world.clone());
        Arc::new(Self { bytes, used, freed: Notify::new(), queue: Arc::default(), world })
    }

    /// Waits until there is memory left.
    pub(super) async fn admit(self: &Arc<Self>) -> Admission {
        let queue = self.queue.clone().lock_owned().await;
        while self.is_spent() {
            // Only the holder of the queue lock waits, and a notification from before that is kept for it.
            self.freed.notified().await;
        }
        Admission { budget: self.clone(), is_new: true.into(), _queue: queue }
    }

    /// Returns a permit if there is memory left and nobody waits for it.
    pub(super) fn try_admit(self: &Arc<Self>) -> Option<Admission> {
        let queue = self.queue.clone().try_lock_owned().ok()?;
        (!self.is_spent()).then(|| Admission { budget: self.clone(), is_new: true.into(), _queue: queue })
    }

    fn is_spent(&self) -> bool {
        self.used.load(SeqCst) >= self.bytes
    }
}

impl Admission {
    /// Takes `bytes`.
    pub(super) fn take(&self, bytes: usize) -> Share {
        let beside = self.budget.used.fetch_add(bytes, SeqCst);
        let is_first = self.is_new.swap(false, SeqCst);
        if let Some(simulation) = self.budget.world.simulation().filter(|_| is_first) {
            simulation.record_read(bytes, beside);
        }
        Share { budget: self.budget.clone(), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, SeqCst);
        self.budget.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_over_the_budget_waits_until_something_is_given_back() {
        let budget = Budget::of(10, &World::real());
        let large = budget.admit().await.take(25);
        assert!(budget.try_admit().is_none());
        let mut first = Box::pin(budget.admit());
        assert!(first.as_mut().now_or_never().is_none());
        let mut second = Box::pin(budget.admit());
        assert!(second.as_mut().now_or_never().is_none());
        drop(large);
        let first = first.await.take(10);
        assert!(second.as_mut().now_or_never().is_none(), "first come, first served");
        drop(first);
        drop(second.await);
    }
}
