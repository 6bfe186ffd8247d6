//! Shows the progress of a run: what is delivered, what waits, and why. (What does not get through is in the log of the
//! plugin, too.)

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use iggy_connector_sdk::shown;

use super::{OpenPlugin, State};
use crate::terminal::report::{Progress, grouped};

/// How often the connector is asked.
const ASKED: Duration = Duration::from_secs(1);
/// The maximum length of an error, in bytes.
const LONGEST_ERROR: usize = 300;

/// Shows the progress until it is ended.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    over: Mutex<bool>,
    ended: Condvar,
}

impl Watch {
    /// Shows the progress on the progress display, if there is one.
    pub(crate) fn show(&self, plugin: &OpenPlugin, progress: &Progress) {
        while progress.is_shown() && !self.waits(ASKED) {
            let Some(state) = plugin.state() else { return };
            progress.show(&counts(&state), trouble(&state));
        }
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        *self.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }

    /// Waits. Returns whether it is over.
    fn waits(&self, time: Duration) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let (over, _) =
            self.ended.wait_timeout_while(over, time, |over| !*over).unwrap_or_else(PoisonError::into_inner);
        *over
    }
}

/// The counts of messages by outcome, and how many wait.
fn counts(state: &State) -> String {
    let counts =
        [(state.delivered, "delivered"), (state.dead_lettered, "dead-lettered"), (state.failed, "failed")];
    let mut parts: Vec<String> = counts
        .iter()
        .filter(|(count, what)| *count > 0 || *what == "delivered")
        .map(|(count, what)| format!("{} {what}", grouped(*count)))
        .collect();
    if state.waiting > 0 {
        parts.push(format!("{} waiting", grouped(state.waiting)));
    }
    parts.join(", ")
}

/// Why messages wait; the reason comes first, since a terminal may have little room.
fn trouble(state: &State) -> Option<String> {
    let failing = state.endpoints.iter().find(|endpoint| endpoint.failing_since.is_some())?;
    Some(format!(
        "retrying: {} ({}, {} attempts since {})",
        shown(failing.last_error.as_deref().unwrap_or("its answers give no reason"), LONGEST_ERROR),
        shown(&failing.name, LONGEST_ERROR),
        grouped(failing.failures_in_a_row),
        shown(failing.failing_since.as_deref().unwrap_or_default(), 40),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_display_says_what_is_delivered_what_waits_and_why() {
        let state = r#"{"delivered":1234,"dead_lettered":0,"failed":2,"requests":9,"retries":3,"waiting":56,"spool":null,"endpoints":[
            {"endpoint":"http://a:1","failing_since":null,"failures_in_a_row":0,"last_error":null},
            {"endpoint":"http://b:2","failing_since":"2026-01-02T03:04:05Z","failures_in_a_row":7,"last_error":"answered 503"}]}"#;
        let state = serde_json::from_str(state).unwrap();
        assert_eq!(counts(&state), "1,234 delivered, 2 failed, 56 waiting");
        assert_eq!(
            trouble(&state).as_deref(),
            Some("retrying: answered 503 (http://b:2, 7 attempts since 2026-01-02T03:04:05Z)")
        );
        assert_eq!((&*counts(&State::default()), trouble(&State::default())), ("0 delivered", None));
    }
}
