//! The host and the plugin between a real Iggy server, the real connectors runtime and real receivers.

mod bench;
mod cases;
mod crash;
mod host;
mod login;
mod runtime;
mod spool;
mod support;
