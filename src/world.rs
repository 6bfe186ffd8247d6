//! What the sink takes from outside of itself: the time of day, chance, threads, the network and the disk.
//!
//! All of it comes in through a [`World`]. In the real one requests and the spool have threads of their own. A test puts a
//! [`Simulation`] there instead: then everything runs as tasks of the runtime that calls the sink, and with one thread,
//! tokio's paused clock and a seed, the same seed gives the same run. The monotonic clock is tokio's in both.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::{Request, Response};

pub use crate::files::{Files, SegmentFile};
use crate::{files, folder};

/// Where the sink lives. Cloning it is cheap.
#[derive(Debug, Clone, Default)]
pub struct World(Kind);

#[derive(Debug, Clone, Default)]
enum Kind {
    #[default]
    Real,
    Simulated(Arc<dyn Simulation>),
}

/// A world in which somebody else decides what happens.
pub trait Simulation: fmt::Debug + Send + Sync {
    /// The time of day.
    fn now(&self) -> SystemTime;

    /// 64 bits of chance.
    fn random(&self) -> u64;

    /// Sends a request. The configured `timeout` is applied by the caller, which drops the future.
    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

    /// The folder at a path, made where there is none.
    ///
    /// # Errors
    /// It cannot be made.
    fn folder(&self, path: &Path) -> io::Result<Arc<dyn Files>>;

    /// How long it takes until dead letters that were written are on disk.
    fn letters_take(&self) -> Duration {
        Duration::ZERO
    }

    /// The bytes of memory for what is read from a spool; `None` for the default.
    fn memory(&self) -> Option<usize> {
        None
    }

    /// Is notified of a record that takes this many bytes of that memory, beside others with as many as `beside`.
    fn record_read(&self, _bytes: usize, _beside: usize) {}
}

/// What comes back for a request.
#[derive(Debug)]
pub struct Reply {
    /// The answer, or why there is none.
    pub outcome: Result<Response, NetworkFault>,
    /// Whether the connection may have been used for a request before.
    pub reused: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkFault {
    /// What kind of fault it is: that decides what is done about it.
    pub kind: NetworkFaultKind,
    /// What happened, for people.
    pub detail: String,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFaultKind {
    /// No connection came about.
    Connect,
    /// No trust came about.
    Tls,
    /// The endpoint closed or reset the connection.
    Closed,
    /// There was no answer in time.
    Timeout,
    /// The endpoint says that it has not begun to process the request.
    Unprocessed,
    /// This machine lacks file descriptors, threads, memory or ports.
    Shortage,
    /// Anything else.
    Transport,
}

impl fmt::Display for NetworkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for NetworkFault {}

impl World {
    /// The world as it is.
    pub fn real() -> Self {
        Self::default()
    }

    /// A world in which a simulation decides what happens.
    pub fn simulated(simulation: impl Simulation + 'static) -> Self {
        Self(Kind::Simulated(Arc::new(simulation)))
    }

    /// What decides instead of the real world.
    pub(crate) fn simulation(&self) -> Option<&Arc<dyn Simulation>> {
        match &self.0 {
            Kind::Real => None,
            Kind::Simulated(simulation) => Some(simulation),
        }
    }

    pub(crate) fn is_real(&self) -> bool {
        self.simulation().is_none()
    }

    /// The time of day.
    pub(crate) fn now(&self) -> SystemTime {
        self.simulation().map_or_else(SystemTime::now, |simulation| simulation.now())
    }

    /// 64 bits of chance.
    pub(crate) fn random(&self) -> u64 {
        match &self.0 {
            Kind::Real => {
                let random = ring::rand::generate(&ring::rand::SystemRandom::new());
                // A system without chance, which there is not, makes everybody wait the longest.
                random.map_or(u64::MAX, |bytes| u64::from_ne_bytes(bytes.expose()))
            }
            Kind::Simulated(simulation) => simulation.random(),
        }
    }

    /// The folder at a path, made where there is none.
    ///
    /// # Errors
    /// The system cannot make it.
    pub(crate) fn folder(&self, path: &Path) -> io::Result<Arc<dyn Files>> {
        match &self.0 {
            Kind::Real => {
                folder::create(path)?;
                Ok(files::on_disk(path))
            }
            Kind::Simulated(simulation) => simulation.folder(path),
        }
    }
}
