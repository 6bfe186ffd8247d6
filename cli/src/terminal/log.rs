//! The log on stderr: its level and format.
#![allow(unsafe_code)] // for setting a variable of the environment

use std::{env, sync::OnceLock, time::SystemTime};

use clap::{ArgAction, Args, ValueEnum};
use iggy_connector_sdk::{shown_json, shown_lines};
use serde_json::json;

use crate::terminal::stderr;

const FILTER: &str = "RUST_LOG";
/// The target of this program's own lines.
const TARGET: &str = "iggy_http_sink";

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct Options {
    /// The format of the log on stderr: lines for people, or one JSON object per line
    #[arg(long, value_enum, value_name = "FORM", default_value_t, global = true)]
    log_format: Form,
    /// Log only warnings and errors, and show no progress
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Log more: -v debug, -vv trace [default: what `RUST_LOG` says, else info]
    #[arg(long, short, action = ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,
}

/// A format of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// `TIME LEVEL target: message`
    #[default]
    Text,
    /// An object with `time`, `level`, `target` and `message`
    Json,
}

/// The level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    /// Above every line.
    Off,
}

#[derive(Debug, Clone, Copy)]
struct Log {
    form: Form,
    least: Level,
    quiet: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

impl Options {
    /// Applies the options to the log. Called once, before there is a second thread.
    pub(crate) fn apply(self) {
        let asked = match self.verbose {
            _ if self.quiet => Some(Level::Warn),
            0 => None,
            1 => Some(Level::Debug),
            _ => Some(Level::Trace),
        };
        if let Some(level) = asked {
            // The plugin reads it when it is opened. Only `RUST_LOG` can enable these levels for its libraries.
            let filter =
                format!("{},iggy_connector_http_sink={}", level.max(Level::Info).name(), level.name());
            // SAFETY: there is no other thread yet that could read the environment.
            unsafe { env::set_var(FILTER, filter) };
        }
        let least = asked.unwrap_or_else(|| Level::named_in(env::var(FILTER).ok().as_deref()));
        // It is called once.
        let _ = LOG.set(Log { form: self.log_format, least, quiet: self.quiet });
    }
}

impl Level {
    const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Off];

    /// The level for a number of the ABI.
    pub(crate) fn of(number: u8) -> Self {
        Self::ALL[..5].get(usize::from(number)).copied().unwrap_or(Self::Error)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Off => "OFF",
        }
    }

    /// The level that `RUST_LOG` sets for everything; its filters for single modules are for the plugin.
    fn named_in(filter: Option<&str>) -> Self {
        let mut words = filter.into_iter().flat_map(|filter| filter.split(','));
        let level =
            |word: &str| Self::ALL.into_iter().find(|level| word.trim().eq_ignore_ascii_case(level.name()));
        words.find_map(level).unwrap_or(Self::Info)
    }
}

/// Whether no progress should be displayed.
pub(crate) fn is_quiet() -> bool {
    current().quiet
}

/// Logs a line of this program.
pub(crate) fn line(level: Level, message: &str) {
    from(level, TARGET, message);
}

/// Logs a line of `target`.
pub(crate) fn from(level: Level, target: &str, message: &str) {
    let log = current();
    if level >= log.least {
        stderr::write_line(&log.line(level, target, message, SystemTime::now()));
    }
}

/// Formats a message of a command to its caller, whatever the level of the log: unchanged or, in JSON, as a line of the log.
pub(crate) fn message(level: Level, message: &str) -> String {
    let log = current();
    match log.form {
        Form::Text if level == Level::Error => format!("error: {}", shown_lines(message)),
        Form::Text => shown_lines(message).into_owned(),
        Form::Json => log.line(level, TARGET, message, SystemTime::now()),
    }
}

fn current() -> Log {
    LOG.get().copied().unwrap_or(Log { form: Form::Text, least: Level::Info, quiet: false })
}

impl Log {
    fn line(self, level: Level, target: &str, message: &str, now: SystemTime) -> String {
        let time = humantime::format_rfc3339_millis(now);
        let level = level.name();
        match self.form {
            Form::Text => format!("{time} {level} {target}: {}", shown_lines(message)),
            Form::Json => {
                let line = json!({
                    "time": time.to_string(),
                    "level": level,
                    "target": target,
                    "message": message,
                });
                shown_json(&line.to_string()).into_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_starts_at_the_level_asked_for() {
        for (filter, least) in [
            (None, Level::Info),
            (Some("debug"), Level::Debug),
            (Some("hyper=trace,WARN"), Level::Warn),
            (Some("off"), Level::Off),
            (Some("nonsense"), Level::Info),
        ] {
            assert_eq!(Level::named_in(filter), least, "{filter:?}");
        }
    }

    #[test]
    fn a_line_has_its_time_in_either_form() {
        let line = |form| {
            let log = Log { form, least: Level::Info, quiet: false };
            log.line(Level::Warn, "a::b", "two\nlines \u{7}", SystemTime::UNIX_EPOCH)
        };
        assert_eq!(line(Form::Text), "1970-01-01T00:00:00.000Z WARN a::b: two\nlines \\u{7}");
        let value: serde_json::Value = serde_json::from_str(&line(Form::Json)).unwrap();
        let expected = json!({
            "time": "1970-01-01T00:00:00.000Z", "level": "WARN", "target": "a::b", "message": "two\nlines \u{7}",
        });
        assert_eq!(value, expected);
        assert!(!line(Form::Json).contains('\n'));
    }
}
