//! What requests are made of their messages, and what their answers say of these. Through the built plugin.

mod forms;
mod forwarded;
mod placeholders;
mod presets;
mod verdicts;
