//! What tests share. Not every test uses all of it.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod again;
pub mod config;
pub mod config_keys;
pub mod endpoint;
#[cfg(unix)]
pub mod nginx;
pub mod plugin;
#[cfg(unix)]
pub mod proxy;
pub mod random;
pub mod spooled;
pub mod tls;
pub mod weather;
pub mod worker;
