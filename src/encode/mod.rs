//! From messages to bodies: each payload is checked once and copied once.

mod envelope;
mod frame;
mod payload;

pub use frame::{Bodies, Body, Encoded};
pub use payload::Refusal;
