//! The tests of the tool, as a user calls it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod check_connect;
mod check_files;
mod cli;
mod iggy;
mod letters;
#[cfg(target_os = "linux")]
mod loading;
mod log;
#[cfg(unix)]
mod owners;
#[cfg(target_os = "linux")]
mod package;
mod preview;
#[cfg(unix)]
mod run_lines;
mod secrets;
#[path = "../../tests/support/mod.rs"]
mod shared;
#[cfg(unix)]
mod spool_export;
mod support;
mod traces;
