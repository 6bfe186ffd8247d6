//! The terminal: results and progress, the log, signals.

pub(crate) mod interrupt;
pub(crate) mod log;
pub(crate) mod report;
mod stderr;
