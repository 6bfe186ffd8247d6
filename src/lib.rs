//! Delivers Apache Iggy messages to HTTP endpoints: a sink plugin of the Iggy connectors runtime.
//!
//! ```text
//! FFI bytes -> batch -> [spool -> drain] -> plan -> encode -> deliver -> settle -> (delivered | dead letter | failed)
//!                                                                     |
//!            parts -> send (the one loop, the one wait) -> gate -> attempt -> trace -> auth -> reqwest
//! ```
//!
//! Each stage takes what the stage before made, and none calls back. [`sink`] is what the runtime calls, and `pipeline` shows
//! the whole path; the modules follow in its order.

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

pub mod payload;

mod deliver;
pub use deliver::reach;

pub mod preview;

pub mod auth;

mod settle;

pub mod dead_letter;

pub mod replay;

mod offline_replay;

mod keyed_lock;
mod lane;
mod machine;
mod mask;
pub mod observe;
mod otlp;

mod causes;
mod each_minute;
mod executor;
mod failure;
mod files;
mod folder;
mod idempotency;
mod private;
mod secret;
mod signing_key;
#[cfg(target_arch = "x86_64")]
mod simd;
mod status;
mod telemetry;
pub mod world;

use iggy_connector_sdk::sink_connector;
pub use sink::HttpSink;

sink_connector!(HttpSink);
