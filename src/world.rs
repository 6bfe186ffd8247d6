//! The seam through which the sink gets everything from outside: the time of day, randomness, threads, the network and the
//! disk.
//!
//! All of it comes in through a [`World`]. In the real one, requests and the spool have their own threads. A test uses a
//! [`Simulation`] instead: then everything runs as tasks of the runtime that calls the sink, and with one thread, tokio's
//! paused clock and a seed, the same seed gives the same run. The monotonic clock is tokio's in both.

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

/// The world of a sink. Cloning it is cheap.
#[derive(Debug, Clone, Default)]
pub struct World(Kind);

#[derive(Debug, Clone, Default)]
enum Kind {
    #[default]
    Real,
    Simulated(Arc<dyn Simulation>),
}

/// Decides what happens in a simulated world.
pub trait Simulation: fmt::Debug + Send + Sync {
    /// The time of day.
    fn now(&self) -> SystemTime;

    /// Returns 64 random bits.
    fn random(&self) -> u64;

    /// Sends a request. The configured `timeout` is applied by the caller, which drops the future.
    fn send(&self, request: Request) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

    /// Returns the folder at a path, and creates it if there is none.
    ///
    /// # Errors
    /// It cannot be created.
    fn folder(&self, path: &Path) -> io::Result<Arc<dyn Files>>;

    /// How long it takes until dead letters that were written are on disk.
    fn letters_take(&self) -> Duration {
        Duration::ZERO
    }

    /// The bytes of memory for what is read from a spool; `None` for the default.
    fn memory(&self) -> Option<usize> {
        None
    }

    /// Is notified of a record that takes this many bytes of that memory, in addition to others with `beside` bytes.
    fn record_read(&self, _bytes: usize, _beside: usize) {}
}

/// The reply to a request.
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
    /// The kind of fault, which decides what is done about it.
    pub kind: NetworkFaultKind,
    /// What happened, for people.
    pub detail: String,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFaultKind {
    /// No connection could be established.
    Connect,
    /// No trust could be established.
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
    /// The real world.
    pub fn real() -> Self {
        Self::default()
    }

    /// A world in which a simulation decides what happens.
    pub fn simulated(simulation: impl Simulation + 'static) -> Self {
        Self(Kind::Simulated(Arc::new(simulation)))
    }

    /// Returns the simulation, if there is one.
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

    /// Returns 64 random bits.
    pub(crate) fn random(&self) -> u64 {
        match &self.0 {
            Kind::Real => {
                let random = ring::rand::generate(&ring::rand::SystemRandom::new());
                // If the system had no randomness, which does not happen, all waits would be the longest.
                random.map_or(u64::MAX, |bytes| u64::from_ne_bytes(bytes.expose()))
            }
            Kind::Simulated(simulation) => simulation.random(),
        }
    }

    /// Returns the folder at a path, and creates it if there is none.
    ///
    /// # Errors
    /// The system cannot create it.
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
