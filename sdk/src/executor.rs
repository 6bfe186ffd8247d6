//! Runs the futures of a sink, and catches its panics.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// The executor of this plugin, shared by all its sinks: multi-threaded, started at the first call, never stopped.
///
/// The connectors runtime calls a plugin from threads of its own executor, but that belongs to another copy of tokio: a
/// plugin can neither see nor use it.
///
/// # Panics
/// If the system cannot create threads or an event queue.
pub fn get_runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .enable_all()
            .thread_name("iggy-sink")
            .build()
            // A sink can do nothing without its executor; the container turns the panic into a refused call.
            .expect("the executor of the plugin starts")
    })
}

/// Runs `future` to completion on this thread.
///
/// A thread that is already inside an executor of this copy of tokio (a host that links the plugin, or a sink that loads
/// another) cannot block on a second one; then the future runs on a separate thread.
pub(crate) fn drive<F>(future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    if Handle::try_current().is_err() {
        return get_runtime().block_on(future);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| get_runtime().block_on(future)).join().unwrap_or_else(|payload| resume_unwind(payload))
    })
}

/// The message of a panic.
#[derive(Debug)]
pub(crate) struct Panic(String);

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.0)
    }
}

/// Runs code of a sink, and catches its panics.
pub(crate) fn catch<R>(body: impl FnOnce() -> R) -> Result<R, Panic> {
    // A panic can only leave the sink's own state inconsistent, which the sink must guard itself, as in any program that
    // joins threads.
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
        let message = text(payload.as_ref());
        // A payload can be any value, including one whose Drop panics.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Panic(message)
    })
}

fn text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn drives_from_outside_and_from_inside_an_executor() {
        assert_eq!(drive(async { 1 }), 1);
        assert_eq!(get_runtime().block_on(async { drive(async { 2 }) }), 2);
        let task = get_runtime().spawn(async { drive(async { tokio::spawn(async { 3 }).await.unwrap() }) });
        assert_eq!(drive(task).unwrap(), 3);
        let blocking = get_runtime().spawn_blocking(|| drive(async { 4 }));
        assert_eq!(drive(blocking).unwrap(), 4);
        let other = Builder::new_current_thread().build().unwrap();
        assert_eq!(other.block_on(async { drive(async { 5 }) }), 5);
    }

    #[test]
    fn panics_end_with_their_message() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        let message = |body: fn()| catch(body).unwrap_err().to_string();
        assert_eq!(message(|| panic!("plain")), "panicked: plain");
        assert_eq!(message(|| panic!("number {}", 7)), "panicked: number 7");
        assert_eq!(message(|| std::panic::panic_any(7)), "panicked: without a message");
        assert_eq!(message(|| std::panic::panic_any(Bomb)), "panicked: without a message");
        assert_eq!(message(|| drive(async { panic!("async") })), "panicked: async");
        assert_eq!(
            message(|| get_runtime().block_on(async { drive(async { panic!("nested") }) })),
            "panicked: nested"
        );
    }
}
