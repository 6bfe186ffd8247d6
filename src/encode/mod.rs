//! Encodes messages into bodies: each payload is validated once and copied once.

mod body;
mod buffers;
mod compress;
mod draft;
mod envelope;
mod groups;
mod packing;
mod packing_by_target;

pub use body::Body;
pub use buffers::Buffers;
pub use draft::Encoded;
pub use packing::Bodies;
