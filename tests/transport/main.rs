//! How requests get there: connections, their protocol, whom they trust and which way they take. Through the built plugin.
#![allow(clippy::unwrap_used)]

mod connections;
mod health_check;
mod http2;
#[cfg(unix)]
mod nginx_tls;
#[cfg(unix)]
mod proxy;
#[path = "../support/mod.rs"]
mod support;
mod tls;
