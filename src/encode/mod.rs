//! From messages to bodies: each payload is checked once and copied once.

mod body;
mod buffers;
mod compress;
mod draft;
mod envelope;
mod frame;
mod grouped;
mod groups;

pub use body::Body;
pub use buffers::Buffers;
pub use draft::Encoded;
pub use frame::Bodies;
