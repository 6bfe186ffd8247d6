//! One open sink: the calls inside it, and how it is closed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::error;

use crate::Sink;
use crate::executor::{Panic, catch, drive, get_runtime};

/// How long close waits if the sink panics instead of returning a time.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// A sink between its open and its close.
#[derive(Debug)]
pub(crate) struct Instance<T> {
    id: u32,
    state: Mutex<State<T>>,
    /// Notified when the last running consume leaves.
    idle: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// Shared with each running consume; if none is running this is the only reference, so close can take the sink out.
    sink: Option<Arc<T>>,
    running: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Accepts batches.
    Open,
    /// Accepts no batch; close waits for those inside.
    Closing,
    /// Close has given up waiting; the last consume to leave ends the sink.
    Abandoned,
}

impl<T: Sink> Instance<T> {
    pub(crate) fn new(id: u32, sink: T) -> Arc<Self> {
        let state = State { sink: Some(Arc::new(sink)), running: 0, phase: Phase::Open };
        Arc::new(Self { id, state: Mutex::new(state), idle: Condvar::new() })
    }

    /// Begins a consume; `None` once close has begun.
    pub(crate) fn enter(&self) -> Option<Running<'_, T>> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return None;
        }
        let sink = state.sink.clone()?;
        state.running += 1;
        Some(Running { instance: self, sink: Some(sink) })
    }

    /// Closes the sink, or leaves that to the last running consume if the sink's wait ends before.
    pub(crate) fn close(&self) -> Result<(), Panic> {
        let sink = {
            let mut state = self.lock();
            state.phase = Phase::Closing;
            state.sink.clone()
        };
        let wait = catch(|| {
            let _context = get_runtime().enter();
            sink.as_ref().map_or(Duration::ZERO, |sink| sink.begin_close())
        })
        .unwrap_or_else(|panic| {
            error!("Sink connector with ID: {} {panic} when close began", self.id);
            DEFAULT_WAIT
        });
        drop(sink);

        let (mut state, _) = self
            .idle
            .wait_timeout_while(self.lock(), wait, |state| state.running > 0)
            .unwrap_or_else(PoisonError::into_inner);
        if state.running == 0 {
            let sink = state.sink.take();
            drop(state);
            return self.finish(sink);
        }
        state.phase = Phase::Abandoned;
        let running = state.running;
        drop(state);
        error!(
            "Sink connector with ID: {}: close has waited {wait:?} and {running} consume calls are still running; \
             the last of them will close the sink",
            self.id
        );
        Ok(())
    }

    /// Closes and drops the sink, which nobody else holds any more.
    fn finish(&self, sink: Option<Arc<T>>) -> Result<(), Panic> {
        let Some(mut sink) = sink.and_then(Arc::into_inner) else {
            return Ok(());
        };
        let closed = catch(|| drive(sink.close()));
        match &closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!("Sink connector with ID: {}: close failed: {error}", self.id),
            Err(panic) => error!("Sink connector with ID: {}: close {panic}", self.id),
        }
        let dropped = catch(|| drop(sink));
        if let Err(panic) = &dropped {
            error!("Sink connector with ID: {}: drop {panic}", self.id);
        }
        closed.map(drop).and(dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code of a sink runs under the lock, so the state is intact even if the lock is poisoned.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running consume. Dropped when it ends, also by a panic.
#[derive(Debug)]
pub(crate) struct Running<'a, T: Sink> {
    instance: &'a Instance<T>,
    /// Taken only by drop.
    sink: Option<Arc<T>>,
}

impl<T: Sink> Running<'_, T> {
    pub(crate) fn sink(&self) -> &T {
        self.sink.as_deref().expect("there until drop")
    }
}

impl<T: Sink> Drop for Running<'_, T> {
    fn drop(&mut self) {
        let mut state = self.instance.lock();
        // Under the lock, so that a caller that sees `running` at 0 holds the only reference.
        self.sink = None;
        state.running -= 1;
        if state.running > 0 {
            return;
        }
        if state.phase == Phase::Abandoned {
            let sink = state.sink.take();
            drop(state);
            // Its panics are logged there; this consume has its own result.
            let _ = self.instance.finish(sink);
        } else {
            self.instance.idle.notify_all();
        }
    }
}
