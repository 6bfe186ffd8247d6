//! `sync = "100ms"`: a thread makes durable what was written, from time to time.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::Builder,
    task::{self, AbortHandle},
    time,
};
use tracing::error;

use crate::{spool::log::shared::Shared, world::World};

/// What syncs from time to time: a thread, or in a simulated world a task.
#[derive(Debug)]
pub(in crate::spool) enum Syncer {
    Thread(JoinHandle<()>),
    Task { task: AbortHandle, interval: Duration },
}

impl Syncer {
    /// # Errors
    /// The system has no thread to give.
    pub(in crate::spool) fn start(
        world: &World,
        shared: Arc<Shared>,
        interval: Duration,
    ) -> io::Result<Self> {
        if !world.is_real() {
            let task = task::spawn(async move { run(&shared, interval).await }).abort_handle();
            return Ok(Self::Task { task, interval });
        }
        let executor = Builder::new_current_thread().enable_time().build()?;
        let run = move || executor.block_on(run(&shared, interval));
        thread::Builder::new().name("http-sink-spool".to_owned()).spawn(run).map(Self::Thread)
    }

    /// Syncs once more, once the spool is ending and its `ending` notified.
    pub(in crate::spool) fn end(self, shared: &Shared) {
        match self {
            // If it panicked, there is nothing to be done about it here.
            Self::Thread(thread) => drop(thread.join()),
            Self::Task { task, interval } => {
                task.abort();
                shared.sync_unsynced(interval);
            }
        }
    }
}

/// Syncs what was written, each time at most `interval` after it was, until the spool is ending.
async fn run(shared: &Shared, interval: Duration) {
    let mut ending = false;
    loop {
        while !ending && !shared.has_unsynced() {
            tokio::select! {
                () = shared.unsynced.notified() => {}
                () = shared.ending.notified() => ending = true,
            }
        }
        if !ending {
            tokio::select! {
                () = time::sleep(interval) => {}
                () = shared.ending.notified() => ending = true,
            }
        }
        shared.sync_unsynced(interval);
        if ending && !shared.has_unsynced() {
            return;
        }
    }
}

impl Shared {
    fn has_unsynced(&self) -> bool {
        let state = self.lock();
        state.dirty || !state.unsynced.is_empty()
    }

    fn sync_unsynced(&self, interval: Duration) {
        let mut state = self.lock();
        let files = std::mem::take(&mut state.unsynced);
        let active = if std::mem::take(&mut state.dirty) { state.active.clone() } else { None };
        drop(state);
        // Each of them, also when one fails.
        let earlier = files.iter().map(|file| file.sync()).fold(Ok(()), Result::and);
        let synced = (|| {
            if let Some(active) = &active {
                active.file.sync()?;
                if !active.durable {
                    self.files.sync_names()?;
                }
            }
            Ok::<(), io::Error>(())
        })();
        state = self.lock();
        match (earlier.and(synced), active) {
            (Ok(()), Some(synced)) => state.is_durable(synced.number),
            (Ok(()), None) => {}
            (Err(why), active) => {
                error!(
                    "the spool {} cannot be synced: what was stored in the last {} may not survive a crash of \
                     the machine: {why}",
                    self.files.path("").display(),
                    humantime::format_duration(interval)
                );
                // After such an error the system may take for written what is not: better a new file.
                if let Some(failed) = active {
                    state.leave(failed.number);
                }
            }
        }
        drop(state);
        self.delete_settled();
    }
}
