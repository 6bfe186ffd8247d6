//! Ctrl-C, SIGTERM and a lost terminal: the first signal asks for an orderly end, a second one ends at once.

use std::{
    io, process, thread,
    time::{Duration, Instant},
};

use crate::terminal::log::{self, Level};

/// What a shell reports for a program ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// A signal counts as a second one only this long after the first: GNU `timeout` sends two, and a closed terminal several.
const APART: Duration = Duration::from_secs(1);

/// Calls `stop` at the first signal; at the second calls `last_words` and ends the process.
///
/// # Errors
/// The system does not accept a handler.
pub(crate) fn at_first(
    stop: impl FnOnce() + Send + 'static,
    last_words: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        // A handler is bound to the runtime that it is created in.
        let _inside = runtime.enter();
        Signals::new()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            signals.next().await;
            let first = Instant::now();
            log::line(
                Level::Info,
                "stopping: the batch in flight is finished, within close_timeout; a second signal ends at once",
            );
            thread::spawn(stop);
            loop {
                signals.next().await;
                if first.elapsed() >= APART {
                    break;
                }
            }
            last_words();
            process::exit(INTERRUPTED);
        });
    });
    Ok(())
}

#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    /// Handles each signal that was not ignored when this program started, as `nohup` sets SIGHUP.
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .into_iter()
            .filter(|kind| ignored >> (kind.as_raw_value() - 1) & 1 == 0)
            .map(signal)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// The signals that a process ignores according to its `/proc/PID/status`, one bit each, from number 1 on; none if there is
/// no such file.
#[cfg(unix)]
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
