//! Lines on stderr, above the progress bar.

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
};

use indicatif::ProgressBar;

/// The bar on the terminal, if there is one: lines for stderr go above it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Sets the bar that lines go above, or none.
pub(crate) fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Writes a line, which a terminal can show, to stderr without tearing the progress bar.
pub(crate) fn write_line(line: &str) {
    // A closed stderr is no reason to stop the work.
    let write = || drop(writeln!(std::io::stderr(), "{line}"));
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) if !bar.is_hidden() => bar.suspend(write),
        _ => write(),
    }
}
