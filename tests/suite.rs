//! The tests of the plugin: one program, so that the waiting of one test is time for another, and one library is linked once.
#![allow(clippy::unwrap_used)]

mod abi;
mod auth;
mod canary;
mod combinations;
mod concurrency;
mod config;
#[cfg(unix)]
mod crash;
mod dead_letters;
mod delivery;
mod documents;
mod durability;
mod endpoint;
mod fairness;
mod faults;
#[cfg(unix)]
mod files;
#[cfg(target_os = "linux")]
mod full_disk;
mod full_spool;
mod modes;
#[cfg(unix)]
mod nginx;
mod order;
#[cfg(target_os = "linux")]
mod outage;
#[cfg(unix)]
mod real;
mod requests;
mod routes;
#[cfg(target_os = "linux")]
mod shortage;
mod spool_store;
mod status;
mod strict;
mod summed;
mod support;
mod tracing;
mod transport;
