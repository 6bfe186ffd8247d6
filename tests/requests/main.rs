//! What requests are made of their messages, and what their answers say of these. Through the built plugin.
#![allow(clippy::unwrap_used)]

mod forms;
mod forwarded;
mod placeholders;
mod presets;
#[path = "../support/mod.rs"]
mod support;
mod verdicts;
