//! From messages to bodies: each payload is checked once and copied once.

mod body;
mod buffers;
mod envelope;
mod frame;
mod json;
mod payload;
mod text;

pub use body::Body;
pub use buffers::Buffers;
pub use frame::{Bodies, Encoded};
pub use json::is_json_line;
pub use payload::Refusal;
