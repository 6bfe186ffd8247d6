//! Delivers Apache Iggy messages to HTTP endpoints: a sink plugin of the Iggy connectors runtime.
//!
//! ```text
//! FFI bytes -> batch -> encode -> deliver -> settle -> (delivered | failed)
//!                                    |
//!                 retry (the one loop, the one wait) -> attempt -> trace -> reqwest
//! ```
//!
//! Each stage takes what the stage before made and none calls back. [`sink`] shows the whole way;
//! the modules follow in its order.

pub mod sink;

pub mod config;

pub mod batch;

pub mod encode;

mod deliver;

mod settle;

mod executor;
mod telemetry;

use iggy_connector_sdk::sink_connector;
pub use sink::HttpSink;

sink_connector!(HttpSink);
