//! For writing sink plugins of the Apache Iggy connectors runtime.
//!
//! A plugin is a shared library. The runtime opens it once per connector with the JSON of `[plugin_config]`, then
//! calls it with batches of messages until it closes it, all over a C ABI. This crate owns that ABI: a plugin
//! implements [`Sink`] and names its type to [`sink_connector!`], and never sees a pointer.
//!
//! ```
//! use async_trait::async_trait;
//! use iggy_connector_sdk::{ConsumedMessage, Error, MessagesMetadata, Sink, TopicMetadata, sink_connector};
//!
//! #[derive(Debug)]
//! struct Counting {
//!     name: String,
//! }
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     name: String,
//! }
//!
//! impl Counting {
//!     fn new(_id: u32, config: Config) -> Self {
//!         Self { name: config.name }
//!     }
//! }
//!
//! #[async_trait]
//! impl Sink for Counting {
//!     async fn open(&mut self) -> Result<(), Error> {
//!         Ok(())
//!     }
//!
//!     async fn consume(
//!         &self,
//!         topic: &TopicMetadata,
//!         metadata: MessagesMetadata,
//!         messages: Vec<ConsumedMessage>,
//!     ) -> Result<(), Error> {
//!         tracing::info!(sink = self.name, topic = topic.topic, schema = %metadata.schema, "{}", messages.len());
//!         Ok(())
//!     }
//!
//!     async fn close(&mut self) -> Result<(), Error> {
//!         Ok(())
//!     }
//! }
//!
//! sink_connector!(Counting);
//! # fn main() {}
//! ```
//!
//! The path of a call: `ffi` receives it and decodes it over the runtime's buffer ([`message`]), `instance` counts the calls
//! inside a sink, `executor` drives the [`sink`]'s futures and catches its panics; the [`log`] goes back through the
//! runtime's callback.
//!
//! # Features
//! - `retry`: the module `retry`, with retries for HTTP sinks.
//! - `iggy_common`: [`HeaderKey`], [`HeaderValue`] and [`HeaderKind`] are those of the crate `iggy_common`, for a sink that
//!   passes them to code of Iggy. They have the same methods as this crate's types, but their own errors.
//! - `dashmap`: [`sink_connector!`] imports `DashMap`, as the macro of the runtime's SDK does, so that a sink can name it
//!   without importing it.
//! - `host`: the module `host`, which loads plugins and calls them.

pub mod convert;
mod error;
mod executor;
mod export;
#[doc(hidden)]
pub mod ffi;
#[cfg(not(feature = "iggy_common"))]
mod header;
mod header_base64;
#[cfg(not(feature = "iggy_common"))]
mod header_kind;
mod header_text;
mod header_wire;
#[cfg(feature = "host")]
pub mod host;
mod instance;
#[cfg(feature = "host")]
mod library;
pub mod log;
pub mod message;
mod offsets;
mod payload;
#[cfg(feature = "retry")]
pub mod retry;
mod schema;
mod shown;
pub mod sink;

pub use convert::owned_value_to_serde_json;
#[cfg(feature = "dashmap")]
#[doc(hidden)]
pub use dashmap::DashMap;
pub use error::Error;
pub use executor::get_runtime;
#[cfg(not(feature = "iggy_common"))]
pub use header::{HeaderField, HeaderKey, HeaderValue, KeyMarker, ValueMarker};
#[cfg(not(feature = "iggy_common"))]
pub use header_kind::{HeaderError, HeaderKind};
pub use header_wire::{BorrowedField, BorrowedHeaders, decode_headers, encode_headers};
#[cfg(feature = "iggy_common")]
pub use iggy_common::{HeaderField, HeaderKey, HeaderKind, HeaderValue};
pub use log::LogCallback;
pub use message::{
    BorrowedMessage, BorrowedMessages, ConsumedMessage, MessagesMetadata, RawMessage, RawMessages,
    TopicMetadata,
};
pub use offsets::OffsetRanges;
pub use payload::Payload;
pub use schema::Schema;
pub use shown::{Shown, shown, shown_json, shown_lines};
/// The version whose value [`Payload::Json`] contains.
pub use simd_json;
pub use sink::Sink;
