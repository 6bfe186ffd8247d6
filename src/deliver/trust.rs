//! Logs faults that last until somebody fixes them, above all those of certificates: once, with what to do.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::{error, info};

use super::fault::Fault;

/// How often a fault is logged that continues, or that comes and goes, as with one bad server of several.
const LOG_INTERVAL: Duration = Duration::from_hours(1);
const RELOG_INTERVAL: Duration = Duration::from_mins(1);

/// The trust faults towards the endpoint that were logged.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Whether one was logged and has not ended: checked at each answer.
    broken: AtomicBool,
    logged: Mutex<Option<Logged>>,
}

#[derive(Debug)]
struct Logged {
    fault: String,
    at: Instant,
    /// Attempts that it has ended since it first occurred.
    attempts: u64,
}

impl Trust {
    /// Records a fault that lasts until somebody does what `remedy` says.
    pub(super) fn broken(&self, label: &str, fault: &Fault, remedy: &str) {
        let fault = fault.to_string();
        let now = Instant::now();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = logged.as_ref().map_or(0, |logged| logged.attempts) + 1;
        let silence = if self.broken.load(Relaxed) { LOG_INTERVAL } else { RELOG_INTERVAL };
        match &mut *logged {
            Some(before)
                if now.saturating_duration_since(before.at) < silence && alike(&before.fault, &fault) =>
            {
                before.attempts = attempts;
            }
            _ => {
                let again =
                    if attempts > 1 { format!(" ({attempts} attempts so far)") } else { String::new() };
                error!(
                    "{label}: {fault}: {remedy}. Messages are held until it is fixed, at most for max_retry_duration{again}"
                );
                *logged = Some(Logged { fault, at: now, attempts });
                self.broken.store(true, Relaxed);
            }
        }
    }

    /// Records that an answer arrived.
    pub(super) fn restored(&self, label: &str) {
        if self.broken.load(Relaxed) && self.broken.swap(false, Relaxed) {
            let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
            let attempts = logged.as_mut().map_or(0, |logged| std::mem::take(&mut logged.attempts));
            info!(
                "{label}: certificates and credentials of the connection are in order again, after {attempts} attempts"
            );
        }
    }
}

/// Whether two faults are the same except for numbers: some contain a time.
fn alike(one: &str, other: &str) -> bool {
    let words = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    words(one) == words(other)
}
