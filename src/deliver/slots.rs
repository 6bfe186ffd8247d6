//! How many requests are under way at once, by a limit that may change meanwhile.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::adaptive::{Aimd, Load};
use crate::config::Concurrency;

/// Hands out slots. Whoever holds one is sending; nobody holds one while waiting.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    under_way: AtomicUsize,
    /// `None` where the number is fixed.
    adaptive: Option<Mutex<Adaptive>>,
}

#[derive(Debug)]
struct Adaptive {
    aimd: Aimd,
    /// Slots there are, free or held.
    slots: usize,
    /// Slots to take out of circulation as they come back.
    surplus: usize,
}

/// A slot; it is free again when dropped.
#[derive(Debug)]
pub(super) struct Slot<'s> {
    slots: &'s Slots,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(super) fn new(concurrency: Concurrency) -> Self {
        let (slots, adaptive) = match concurrency {
            Concurrency::Fixed(slots) => (slots.get(), None),
            Concurrency::Adaptive { max } => {
                let aimd = Aimd::up_to(max.get());
                let slots = aimd.limit();
                (slots, Some(Mutex::new(Adaptive { aimd, slots, surplus: 0 })))
            }
        };
        Self { free: Arc::new(Semaphore::new(slots)), under_way: AtomicUsize::new(0), adaptive }
    }

    /// Waits for a free slot.
    pub(super) async fn take(&self) -> Slot<'_> {
        // The semaphore is never closed.
        let permit = self.free.clone().acquire_owned().await.ok();
        self.under_way.fetch_add(1, SeqCst);
        Slot { slots: self, permit }
    }
}

impl Slot<'_> {
    /// The request that held the slot ended; an adaptive limit learns from it.
    pub(super) fn ended(self, load: Load) {
        let Some(adaptive) = &self.slots.adaptive else { return };
        let mut adaptive = adaptive.lock().unwrap_or_else(PoisonError::into_inner);
        adaptive.aimd.ended(load, self.slots.under_way.load(SeqCst), Instant::now());
        let limit = adaptive.aimd.limit();
        if limit > adaptive.slots {
            // Slots that were to go may stay; only the rest is new.
            let kept = adaptive.surplus.min(limit - adaptive.slots);
            adaptive.surplus -= kept;
            self.slots.free.add_permits(limit - adaptive.slots - kept);
        } else {
            let excess = adaptive.slots - limit;
            adaptive.surplus += excess - self.slots.free.forget_permits(excess);
        }
        adaptive.slots = limit;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.under_way.fetch_sub(1, SeqCst);
        let Some(adaptive) = &self.slots.adaptive else { return };
        let mut adaptive = adaptive.lock().unwrap_or_else(PoisonError::into_inner);
        if adaptive.surplus > 0 {
            adaptive.surplus -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}
