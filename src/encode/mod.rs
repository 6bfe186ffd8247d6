//! From messages to bodies: each payload is checked once and copied once.

mod body;
mod envelope;
mod frame;
mod payload;

pub use body::Body;
pub use frame::{Bodies, Encoded};
pub use payload::Refusal;
