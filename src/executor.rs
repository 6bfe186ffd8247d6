//! The thread that all I/O of one connector happens on.
//!
//! The runtime's threads encode and then block in consume; requests and answers are handled here by a single-threaded
//! executor, which for one connection does twice the work of a multi-threaded one. In a simulated world, futures run on the
//! present runtime.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::{JoinError, JoinHandle},
};

use crate::world::World;

/// Less than the usual timeout of a request, and long enough to cost an idle connector nothing.
const TICK: Duration = Duration::from_secs(5);

/// Runs futures on its own thread until it is dropped; in a simulated world, as tasks of the runtime that created it.
#[derive(Debug)]
pub(crate) struct Executor {
    handle: Handle,
    /// Ends the thread when dropped; `None` if there is no thread.
    running: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Executor {
    /// # Errors
    /// The system cannot create a thread or a poller.
    pub(crate) fn start(name: String, world: &World) -> io::Result<Self> {
        if !world.is_real() {
            return Ok(Self { handle: Handle::current(), running: None, thread: None });
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Nothing is ever sent: any result means the end.
                    _ = ended => {}
                    () = tick() => {}
                }
            });
            // Remaining blocking work, such as a name lookup, must not delay a close.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, running: Some(running), thread: Some(thread) })
    }

    /// Runs a future as long as somebody waits for it.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task(self.handle.spawn(future))
    }

    /// Returns when tasks that were dropped before have stopped.
    pub(crate) async fn all_stopped(&self) {
        // There is one thread: when it runs this, it has seen that they are aborted. An error means that it has ended.
        let _ = self.spawn(async {}).await;
    }
}

/// Keeps a timer that is due before the timeout of a new request. Without one, tokio writes to an event descriptor for each
/// new request so that the thread wakes up for its timer; but this thread created the timer itself, and would wake up once
/// more for nothing.
async fn tick() {
    loop {
        tokio::time::sleep(TICK).await;
    }
}

/// A future that runs elsewhere, and stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did, nothing could be done about it here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    };

    use super::*;

    /// Takes its time to stop.
    struct Stops(Arc<AtomicBool>);

    impl Drop for Stops {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(20));
            self.0.store(true, SeqCst);
        }
    }

    /// The drain begins anew only then after a panic: what it had under way would be sent beside it.
    #[tokio::test]
    async fn what_was_dropped_has_stopped() {
        let executor = Executor::start("test".to_owned(), &World::real()).unwrap();
        let (begun, has_begun) = mpsc::channel();
        let stopped: Vec<Arc<AtomicBool>> = (0..5).map(|_| Arc::default()).collect();
        let tasks: Vec<_> = stopped
            .iter()
            .map(|stopped| {
                let (stops, begun) = (Stops(stopped.clone()), begun.clone());
                executor.spawn(async move {
                    let _stops = stops;
                    begun.send(()).unwrap();
                    std::future::pending::<()>().await;
                })
            })
            .collect();
        for _ in &tasks {
            has_begun.recv().unwrap();
        }
        drop(tasks);
        executor.all_stopped().await;
        assert!(stopped.iter().all(|stopped| stopped.load(SeqCst)));
    }
}
