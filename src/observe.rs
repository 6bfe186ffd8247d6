//! Two functions in addition to those of the ABI, for a host that shows people how a connector is doing: the Iggy runtime
//! calls neither, and then nothing is counted for them.
#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::c_void,
    panic::catch_unwind,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::status::{Board, HostReport};

/// Whether a host has asked.
static OBSERVED: AtomicBool = AtomicBool::new(false);
/// The connectors of an observed process, by id.
static CONNECTORS: Mutex<BTreeMap<u32, Connector>> = Mutex::new(BTreeMap::new());

#[derive(Debug)]
enum Connector {
    Open(Board),
    /// The last report before it was closed.
    Closed(Box<HostReport>),
}

/// Receives a report: `context` as it was given, and UTF-8 text that is valid during the call.
pub type Write = extern "C" fn(context: *mut c_void, text: *const u8, length: usize);

/// Whether reports were requested in this process.
pub(crate) fn is_on() -> bool {
    OBSERVED.load(Relaxed)
}

/// Lets a connector that has opened be observed.
pub(crate) fn opened(id: u32, board: impl FnOnce() -> Board) {
    if is_on() {
        lock().insert(id, Connector::Open(board()));
    }
}

/// Keeps the last report of a connector, and nothing else of it.
pub(crate) fn closed(id: u32) {
    let mut connectors = lock();
    if let Some(Connector::Open(board)) = connectors.get(&id) {
        let last = board.host_report();
        connectors.insert(id, Connector::Closed(Box::new(last)));
    }
}

fn lock() -> MutexGuard<'static, BTreeMap<u32, Connector>> {
    CONNECTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The report as JSON; it has the failures since the last one.
fn report(id: u32) -> Option<String> {
    let mut connectors = lock();
    let text = match connectors.get_mut(&id)? {
        Connector::Open(board) => serde_json::to_string(&board.host_report()),
        Connector::Closed(last) => {
            let text = serde_json::to_string(last);
            last.failures.clear();
            text
        }
    };
    // All its keys are text, so it can be written.
    text.ok()
}

/// Makes every connector that is opened from now on collect what [`iggy_http_sink_report`] returns.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn iggy_http_sink_observe() {
    OBSERVED.store(true, Relaxed);
}

/// Passes the state of a connector to `write`, as JSON: that of `/api/status`, with `requests`, `retries`, `bytes`, `waiting`
/// messages, and the `failures` since the last report. After close it is the last state. Returns 0, or -1 if the connector is
/// not known.
///
/// # Safety
/// `write` may be called with `context` from this thread, before this returns.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn iggy_http_sink_report(id: u32, write: Write, context: *mut c_void) -> i32 {
    // A panic must not leave this function.
    match catch_unwind(|| report(id)) {
        Ok(Some(text)) => {
            write(context, text.as_ptr(), text.len());
            0
        }
        Ok(None) | Err(_) => -1,
    }
}
