//! The whole path from consume to settle, spool included, in one thread under a paused clock: a seed decides the configuration,
//! what is sent, and everything that goes wrong. See `docs/simulation.md`.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod added;
mod bodies;
mod chance;
mod checks;
#[path = "../support/disk.rs"]
#[allow(dead_code, reason = "the spool's own tests use all of it")]
mod disk;
mod endpoint;
mod history;
mod log;
mod model;
mod outages;
mod plain;
#[path = "../support/random.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "other tests use all of it")]
mod random;
mod run;
mod scenario;
mod seam;
mod secrets;
mod seeds;
mod settings;
mod world;

use iggy_connector_http_sink::world::{Files, SegmentFile};
