//! Says while a run goes on why nothing gets through, and since when.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use iggy_connector_sdk::shown;

use crate::{
    host::{OpenPlugin, State},
    report,
};

/// How often the connector is asked.
const ASKED: Duration = Duration::from_secs(1);
/// Of the time in which nothing gets through until it is told, and between two lines about it.
const SILENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(30)];
/// The most bytes of an error.
const LONGEST_ERROR: usize = 300;

/// Tells until it is ended.
#[derive(Debug, Default)]
pub(super) struct Watch {
    over: Mutex<bool>,
    ended: Condvar,
}

impl Watch {
    /// Tells whenever nothing has got through for a while.
    pub(super) fn tell(&self, plugin: &OpenPlugin) {
        let (mut last, mut told) = (None, None::<Instant>);
        let mut quiet = Instant::now();
        while !self.waits(ASKED) {
            let Some(state) = plugin.state() else { return };
            let through = state.delivered + state.dead_lettered;
            if last.replace(through) != Some(through) {
                (quiet, told) = (Instant::now(), None);
                continue;
            }
            let silence = SILENCE[usize::from(told.is_some())];
            if told.unwrap_or(quiet).elapsed() >= silence
                && let Some(line) = line(&state)
            {
                report::note(&line);
                told = Some(Instant::now());
            }
        }
    }

    /// Ends it.
    pub(super) fn end(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }

    /// Waits; whether it is over.
    fn waits(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let (over, _) =
            self.ended.wait_timeout_while(over, time, |over| !*over).unwrap_or_else(PoisonError::into_inner);
        *over
    }
}

/// Why nothing gets through, where the endpoint is the reason.
fn line(state: &State) -> Option<String> {
    let failing = state.endpoints.iter().find(|endpoint| endpoint.failing_since.is_some())?;
    let since = failing.failing_since.as_deref().unwrap_or_default();
    let why = failing.last_error.as_deref().unwrap_or("its answers tell no reason");
    Some(format!(
        "nothing gets through to {} since {}, after {} attempts: {}",
        shown(&failing.name, LONGEST_ERROR),
        shown(since, 40),
        report::grouped(failing.failures_in_a_row),
        shown(why, LONGEST_ERROR)
    ))
}
