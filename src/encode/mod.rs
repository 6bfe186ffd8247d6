//! From messages to bodies: each payload is checked once and copied once.

mod body;
mod buffers;
mod compress;
mod envelope;
mod frame;
mod groups;

pub use body::Body;
pub use buffers::Buffers;
pub use frame::{Bodies, Encoded};
