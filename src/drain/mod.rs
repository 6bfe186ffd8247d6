//! Delivery behind a spool: takes what is stored, lane by lane, through the pipeline, and writes down what is settled.
//!
//! What has to be sent again waits on disk and not in memory: its record is let go, and read once more when its time has
//! come. In order ([`strict`]) all of the lane waits behind it, otherwise ([`parking`]) the messages themselves, or their
//! keys, wait alone.

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

/// What encodes what is stored: a thread, or in a simulated world a task.
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
            // Nothing in memory outlives a panic but the spool and the pipeline, which bear one.
            while catch_unwind(AssertUnwindSafe(run)).is_err() {
                error!("delivery from the spool has panicked, and begins anew with what is stored");
                if pipeline.is_closing() {
                    break;
                }
                // What it had under way must not go on beside what begins anew.
                executor.block_on(pipeline.all_stopped());
                thread::sleep(WAITS.0);
            }
        })?;
        Ok(Self::Thread(thread))
    }

    /// Waits until what is under way has ended, once the connector is being closed: then nothing more begins.
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
