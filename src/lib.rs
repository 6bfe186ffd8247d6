//! Delivers Apache Iggy messages to HTTP endpoints: a sink plugin of the Iggy connectors runtime.
//!
//! ```text
//! FFI bytes -> batch -> [spool -> drain] -> plan -> encode -> deliver -> settle -> (delivered | dead letter | failed)
//!                                                                     |
//!            parts -> send (the one loop, the one wait) -> gate -> attempt -> trace -> auth -> reqwest
//! ```
//!
//! Each stage takes what the stage before made and none calls back. [`sink`] is what the runtime calls, and
//! `pipeline` shows the whole way; the modules follow in its order.

pub mod sink;

pub mod config;

mod pipeline;

mod route;

pub mod batch;

pub mod spool;

mod drain;

mod abandoned;

pub mod plan;

pub mod request;

pub mod encode;

mod deliver;
pub use deliver::{preview, reach};

pub mod auth;

mod settle;

pub mod dead_letter;

mod keyed_lock;
mod lane;
mod machine;
mod mask;
pub mod observe;
mod otlp;

mod each_minute;
mod executor;
mod folder;
mod private;
#[cfg(target_arch = "x86_64")]
mod simd;
mod status;
mod telemetry;
pub mod world;

use iggy_connector_sdk::sink_connector;
pub use sink::HttpSink;

sink_connector!(HttpSink);
