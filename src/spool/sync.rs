//! `sync = "100ms"`: a thread makes durable what was written, from time to time.

use std::{
    io,
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::error;

use super::{state::Phase, store::Shared};

/// Starts the thread. It ends, after a last sync, once the spool is closing and its `unsynced` notified.
pub(super) fn start(shared: Arc<Shared>, interval: Duration) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("http-sink-spool".to_owned()).spawn(move || run(&shared, interval))
}

fn run(shared: &Shared, interval: Duration) {
    let mut state = shared.lock();
    loop {
        while !state.dirty && state.unsynced.is_empty() && state.phase < Phase::Ending {
            state = shared.unsynced.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let due = Instant::now() + interval;
        while state.phase < Phase::Ending {
            let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                break;
            };
            let waited = shared.unsynced.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let files = std::mem::take(&mut state.unsynced);
        let active = if std::mem::take(&mut state.dirty) { state.active.clone() } else { None };
        drop(state);
        // Each of them, also when one fails.
        let earlier = files.iter().map(|file| file.sync()).fold(Ok(()), Result::and);
        let synced = (|| {
            if let Some(active) = &active {
                active.file.sync()?;
                if !active.durable {
                    shared.files.sync_names()?;
                }
            }
            Ok::<(), io::Error>(())
        })();
        state = shared.lock();
        match (earlier.and(synced), active) {
            (Ok(()), Some(synced)) => state.is_durable(synced.number),
            (Ok(()), None) => {}
            (Err(why), active) => {
                error!(
                    "the spool {} cannot be synced: what was stored in the last {} may not survive a crash of \
                     the machine: {why}",
                    shared.files.path("").display(),
                    humantime::format_duration(interval)
                );
                // After such an error the system may take for written what is not: better a new file.
                if let Some(failed) = active {
                    state.leave(failed.number);
                }
            }
        }
        shared.delete_settled(&mut state);
        if state.phase == Phase::Ending && !state.dirty && state.unsynced.is_empty() {
            return;
        }
    }
}
