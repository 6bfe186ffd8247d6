//! Output for people at a terminal: progress, tables, notes, errors.

use std::{
    io::{ErrorKind, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use iggy_connector_sdk::{shown, shown_json, shown_lines};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::{
    log::{self, Level},
    stderr,
};

/// The maximum length of a table cell, in bytes.
const LONGEST_CELL: usize = 1000;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It was called in a way that cannot work.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong, and each mistake was reported.
    #[error("the configuration is wrong")]
    Reported,
    /// A step to the endpoint or the server failed, and was reported.
    #[error("what the configuration names cannot be reached")]
    Unreachable,
    /// Something that the command needs cannot be reached or started.
    #[error("{0}")]
    Start(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// A progress bar on stderr until it is dropped; without a terminal it shows nothing.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    template: &'static str,
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Messages,
    Bytes,
}

impl Progress {
    /// Starts a bar towards `total`, or one that only counts.
    pub(crate) fn start(total: Option<u64>, unit: Unit) -> Self {
        let bar = if std::io::stderr().is_terminal() && !log::is_quiet() {
            ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        let template = match (total.is_some(), unit) {
            (true, Unit::Messages) => {
                "{bar:20} {human_pos}/{human_len} messages, {per_sec}, {eta} left{prefix}"
            }
            (true, Unit::Bytes) => "{bar:20} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left{prefix}",
            (false, Unit::Messages) => "{spinner} {human_pos} messages, {per_sec}{prefix}",
            (false, Unit::Bytes) => "{spinner} {bytes}, {bytes_per_sec}{prefix}",
        };
        let progress = Self { bar, template };
        progress.lay_out("");
        stderr::set_bar(Some(progress.bar.clone()));
        progress
    }

    /// Puts this below the line with the count.
    fn lay_out(&self, below: &str) {
        // A test shows that the template is valid.
        if let Ok(style) = ProgressStyle::with_template(&format!("{}{below}", self.template)) {
            self.bar.set_style(style);
        }
    }

    pub(crate) fn set(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Shows this text after the count, and the trouble, if any, in a separate line, cut to the width.
    pub(crate) fn show(&self, text: &str, trouble: Option<String>) {
        self.lay_out(if trouble.is_some() { "\n{wide_msg}" } else { "" });
        self.bar.set_prefix(format!("; {text}"));
        self.bar.set_message(trouble.unwrap_or_default());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        stderr::set_bar(None);
    }
}

/// Writes a note to stderr.
pub(crate) fn note(text: &str) {
    stderr::write_line(&log::message(Level::Info, text));
}

/// Writes to stderr why the command failed.
pub(crate) fn complain(text: &str) {
    stderr::write_line(&log::message(Level::Error, text));
}

/// Writes a line to stdout.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    write_out(&shown_lines(text))
}

/// Writes text with colours to stdout; parts from outside must be safe for a terminal already.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn say_styled(text: &str) -> Result<(), Failure> {
    write_out(text)
}

/// Writes JSON to stdout. Characters that a terminal must not show are escaped, which does not change the value.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn say_json(json: &str) -> Result<(), Failure> {
    write_out(&shown_json(json))
}

/// Whether nobody reads stdout any more, as with `head`: then it is useless to continue only for its sake.
pub(crate) fn stdout_is_closed() -> bool {
    STDOUT_CLOSED.load(Relaxed)
}

/// Writes the result of work to stdout or, if nobody reads that, to stderr.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn result(text: &str, is_json: bool) -> Result<(), Failure> {
    if is_json {
        say_json(text)?;
    } else {
        say(text)?;
    }
    if stdout_is_closed() {
        note(text);
    }
    Ok(())
}

/// A closed stdout is not an error: the reader has seen enough.
fn write_out(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(why) if why.kind() == ErrorKind::BrokenPipe => {
            STDOUT_CLOSED.store(true, Relaxed);
            Ok(())
        }
        written => written.map_err(|why| Failure::Other(format!("writing to stdout: {why}"))),
    }
}

/// A table of names and values.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    for (name, value) in rows {
        table.add_row([(*name).to_owned(), shown(value, LONGEST_CELL).to_string()]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A table with a header; every column but the first holds figures.
pub(crate) fn figures(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    let cells = rows.iter().map(|row| row.iter().map(|cell| shown(cell, LONGEST_CELL).to_string()));
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header).add_rows(cells);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Digits in groups of three: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a rate: `1,234,567 messages/s`.
pub(crate) fn messages_per_second(rate: f64) -> String {
    // Whole messages are enough.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rate = rate.round() as u64;
    format!("{} messages/s", grouped(rate))
}

/// Returns a count per second; zero for no time.
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn no_time_gives_no_rate() {
        assert!(rate(5, Duration::ZERO).abs() < f64::EPSILON);
        assert!((rate(5, Duration::from_secs(2)) - 2.5).abs() < f64::EPSILON);
    }
}
