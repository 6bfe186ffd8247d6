//! Delivery behind a spool: sends what is stored, lane by lane, through the pipeline, and records what is settled.
//!
//! Messages that have to be sent again wait on disk and not in memory: their record is dropped, and read again when they are
//! due. With a strict order ([`strict`]) the whole lane waits behind them; otherwise ([`parking`]) only the messages
//! themselves, or their keys, wait.

mod budget;
mod deliver;
mod lanes;
mod parked;
mod parking;
mod progress;
mod strict;
mod unit;
mod window;

use std::{
    collections::HashSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{runtime::Builder, task};
use tracing::error;

use self::lanes::{Lanes, WAITS};
use crate::{config::Ordering, pipeline::Pipeline, spool::Spool};

/// Encodes and delivers what is stored, on a thread or, in a simulated world, in a task.
#[derive(Debug)]
pub(crate) enum Drain {
    Thread(thread::JoinHandle<()>),
    Task(task::JoinHandle<()>),
}

impl Drain {
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(name: String, pipeline: Arc<Pipeline>, spool: Arc<Spool>) -> io::Result<Self> {
        if !pipeline.world.is_real() {
            return Ok(Self::Task(task::spawn(async move { Lanes::of(pipeline, spool).run().await })));
        }
        let executor = Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(name).spawn(move || {
            let run = || executor.block_on(Lanes::of(pipeline.clone(), spool.clone()).run());
            // Only the spool and the pipeline outlive a panic, and they are unwind-safe.
            while catch_unwind(AssertUnwindSafe(run)).is_err() {
                error!("delivery from the spool panicked, and starts again with what is stored");
                if pipeline.is_closing() {
                    break;
                }
                // Requests that it had in flight must end before it starts anew.
                executor.block_on(pipeline.all_stopped());
                thread::sleep(WAITS.0);
            }
        })?;
        Ok(Self::Thread(thread))
    }

    /// Waits until all deliveries have ended, once the connector is being closed: then no new one begins.
    pub(crate) async fn join(self) {
        match self {
            // Its panics are caught.
            Self::Thread(thread) => drop(thread.join()),
            Self::Task(task) => task.await.expect("a panic ends a simulation"),
        }
    }
}

impl Lanes {
    /// Delivers what is stored until the connector is being closed.
    async fn run(&self) {
        let mut version = self.spool.subscribe();
        let mut lanes = FuturesUnordered::new();
        let mut under_way = HashSet::new();
        loop {
            version.mark_unchanged();
            for lane in self.spool.lanes() {
                if under_way.insert(lane.clone()) {
                    lanes.push(async move {
                        match self.terms(&lane).ordering {
                            Ordering::Partition => self.deliver_in_order(&lane).await,
                            Ordering::Key(_) | Ordering::None => self.deliver_side_by_side(&lane).await,
                        }
                        lane
                    });
                }
            }
            tokio::select! {
                biased;
                () = self.pipeline.closing() => break,
                Some(lane) = lanes.next() => {
                    under_way.remove(&lane);
                }
                // The spool outlives this, so there is no error.
                _ = version.changed() => {}
            }
        }
        while lanes.next().await.is_some() {}
    }
}
