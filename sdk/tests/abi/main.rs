//! Plugins over the C ABI, from the runtime's side.
#![allow(clippy::unwrap_used)]

mod close;
mod consume;
mod first_sink;
mod hostile;
mod load;
mod log;
mod open;
mod support;
