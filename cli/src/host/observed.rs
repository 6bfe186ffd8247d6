//! What the plugin reports about itself beyond the ABI: how many messages ended in which way, which failed and why, and
//! whether anything gets through.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    sync::{Mutex, PoisonError},
};

use iggy_connector_sdk::host::Plugin;
use serde::Deserialize;

type Write = extern "C" fn(*mut c_void, *const u8, usize);
type Observe = extern "C" fn();
type Report = unsafe extern "C" fn(u32, Write, *mut c_void) -> i32;

/// The functions of a plugin that has them.
#[derive(Debug)]
pub(crate) struct Observed {
    report: Report,
    /// Those that were reported and not taken yet.
    failures: Mutex<Failures>,
}

/// The state of the connector.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct State {
    pub(crate) delivered: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) failed: u64,
    pub(crate) requests: u64,
    pub(crate) retries: u64,
    /// What the connector holds that is not settled yet.
    #[serde(default)]
    pub(crate) waiting: u64,
    /// `None` if it has none.
    pub(crate) spool: Option<Spool>,
    pub(crate) endpoints: Vec<Endpoint>,
    #[serde(default)]
    failures: Vec<FailedRange>,
    #[serde(default)]
    failures_left_out: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Spool {
    pub(crate) messages: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Endpoint {
    /// Scheme, host and port.
    #[serde(rename = "endpoint")]
    pub(crate) name: String,
    /// RFC 3339; `None` where the last attempt succeeded.
    pub(crate) failing_since: Option<String>,
    pub(crate) failures_in_a_row: u64,
    pub(crate) last_error: Option<String>,
}

/// Messages that failed for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct FailedRange {
    pub(crate) first_offset: u64,
    pub(crate) last_offset: u64,
    pub(crate) reason: String,
    /// In the words of the log.
    pub(crate) why: String,
}

/// Messages that failed, as far as they are known one by one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    pub(crate) ranges: Vec<FailedRange>,
    /// How many more there are.
    pub(crate) left_out: u64,
}

impl Observed {
    /// Makes the plugin count for a host, before its connector is opened. `None` if it is not a plugin of this kind.
    pub(crate) fn of(plugin: &Plugin) -> Option<Self> {
        // SAFETY: this is the type that the HTTP sink declares for this function.
        let observe: Observe = unsafe { plugin.function("iggy_http_sink_observe") }?;
        // SAFETY: and for this one.
        let report: Report = unsafe { plugin.function("iggy_http_sink_report") }?;
        observe();
        Some(Self { report, failures: Mutex::default() })
    }

    /// Returns the present state, or the last state of a closed connector; `None` before it was opened.
    pub(crate) fn state(&self, id: u32) -> Option<State> {
        let mut text = String::new();
        // SAFETY: the function calls `keep` with this context before it returns, from this thread.
        let code = unsafe { (self.report)(id, keep, (&raw mut text).cast()) };
        let mut state: State = serde_json::from_str(&text).ok().filter(|_| code == 0)?;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.ranges.append(&mut state.failures);
        failures.left_out += std::mem::take(&mut state.failures_left_out);
        Some(state)
    }

    /// The messages that failed since the last call.
    pub(crate) fn take_failures(&self, id: u32) -> Failures {
        self.state(id);
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

extern "C" fn keep(context: *mut c_void, text: *const u8, length: usize) {
    // SAFETY: the plugin hands back the context of `state`, and text that lives during this call.
    let (target, bytes) =
        unsafe { (&mut *context.cast::<String>(), std::slice::from_raw_parts(text, length)) };
    target.push_str(&String::from_utf8_lossy(bytes));
}
