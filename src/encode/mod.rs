//! From messages to bodies: each payload is checked once and copied once.

mod body;
mod buffers;
mod compress;
mod envelope;
mod frame;
mod groups;
mod json;
mod payload;
mod text;

pub use body::Body;
pub(crate) use body::single_key;
pub use buffers::Buffers;
pub(crate) use envelope::{write_id, write_number};
pub use frame::{Bodies, Encoded};
pub use json::is_json_line;
pub use payload::Refusal;
pub(crate) use payload::{Json, Known, checked_json, write_json, write_raw};
pub(crate) use text::write_escaped;
