//! Handles a signal during a run.

use std::{
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{lines::Stopper, outcome::Outcome, resume::Resume, selection::Selection};
use crate::{host::Closer, terminal::report};

/// The parts of a run that a signal ends.
pub(super) struct Stop {
    resume: Resume,
    selection: Selection,
    /// The first line that may not be settled.
    first: AtomicU64,
    /// `None` until the connector is open.
    parts: Mutex<Option<(Stopper, Closer)>>,
    json: bool,
}

impl Stop {
    pub(super) fn new(resume: Resume, selection: Selection, json: bool) -> Self {
        let first = AtomicU64::new(selection.first());
        Self { resume, selection, first, parts: Mutex::default(), json }
    }

    /// Records that the connector is open.
    pub(super) fn goes(&self, stopper: Stopper, closer: Closer) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = Some((stopper, closer));
    }

    /// Records that everything before this line is settled.
    pub(super) fn begins(&self, line: u64) {
        self.first.store(line, Relaxed);
    }

    /// Makes the batch in flight the last one.
    pub(super) fn stop(&self) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stopper, closer)) = parts {
            stopper.stop();
            // The batch in flight ends within close_timeout, even if the endpoint is down for longer. Its result is in the
            // report.
            let _ = closer.close();
        } else {
            // Nothing was sent, and there is nothing to wait for.
            let rest = Some(self.selection.clone());
            let resume = Some(self.resume.command(&self.selection, None));
            let outcome = Outcome { rest, resume, ..Outcome::default() };
            let text = if self.json { outcome.as_json() } else { outcome.as_table() };
            let _ = report::result(&text, self.json);
            process::exit(1);
        }
    }

    /// Prints what is known when there is no time for more.
    pub(super) fn last_words(&self) {
        let first = self.first.load(Relaxed);
        if let Some(left) = self.selection.since(first) {
            let command = self.resume.command(&left, None);
            report::note(&format!(
                "ended at once: lines from {first} on may not be settled; to go on call: {command}"
            ));
        }
    }
}
