//! Forwards log events to the runtime.

use std::fmt::{self, Write};
use std::sync::{Once, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::shown::shown_lines;

/// The runtime's function for one log event: level (0 TRACE, 1 DEBUG, 2 INFO, 3 WARN, 4 ERROR), target, message; both texts
/// are UTF-8, never null, and valid only during the call.
pub type LogCallback =
    extern "C" fn(level: u8, target: *const u8, target_len: usize, message: *const u8, message_len: usize);

/// The callback of the latest open. The subscriber can only be set once in a process; the runtime may pass another callback
/// later, so the layer must not keep the first.
static LATEST: RwLock<Option<LogCallback>> = RwLock::new(None);
static INSTALLED: Once = Once::new();

/// Passes every event to the runtime as one line of text.
///
/// The runtime only keeps the message, so the fields are appended to it as ` key=value`. A value with white space is quoted.
#[derive(Debug, Clone, Copy)]
pub struct CallbackLayer {
    /// `None`: the callback of the latest open.
    callback: Option<LogCallback>,
}

impl CallbackLayer {
    /// A layer that calls `callback`.
    pub fn new(callback: LogCallback) -> Self {
        Self { callback: Some(callback) }
    }
}

impl<S: Subscriber> Layer<S> for CallbackLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Copied out, so that the lock is not held while the runtime's code runs.
        let latest = || *LATEST.read().unwrap_or_else(PoisonError::into_inner);
        let Some(callback) = self.callback.or_else(latest) else {
            return;
        };
        let mut line = Line::default();
        event.record(&mut line);
        // Lines of other crates may contain the words of a server or the names of a certificate.
        let line = line.finish();
        let text = shown_lines(&line);
        let target = event.metadata().target();
        let level = match *event.metadata().level() {
            Level::TRACE => 0,
            Level::DEBUG => 1,
            Level::INFO => 2,
            Level::WARN => 3,
            Level::ERROR => 4,
        };
        callback(level, target.as_ptr(), target.len(), text.as_ptr(), text.len());
    }
}

/// Sends the log events of this library to `callback` from now on.
///
/// The filter is that of `RUST_LOG` at the first call, or INFO without it.
pub(crate) fn install(callback: LogCallback) {
    *LATEST.write().unwrap_or_else(PoisonError::into_inner) = Some(callback);
    INSTALLED.call_once(|| {
        let filter = std::env::var(EnvFilter::DEFAULT_ENV)
            .ok()
            .filter(|directives| !directives.trim().is_empty())
            .and_then(|directives| EnvFilter::try_new(directives).ok())
            .unwrap_or_else(|| EnvFilter::new("info"));
        let layers = Registry::default().with(CallbackLayer { callback: None }).with(EventsOnly).with(filter);
        // Fails if the program that this crate is linked into has a subscriber: then that is the one to use.
        let _ = layers.try_init();
    });
}

/// Turns spans off: the callback only accepts events, so nobody would see them. Code that asks whether a level is on, as
/// `tracing::enabled!` does, asks with neither a span nor an event.
struct EventsOnly;

impl<S: Subscriber> Layer<S> for EventsOnly {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        !metadata.is_span()
    }
}

/// Collects an event: its message, then its fields in their order.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn finish(mut self) -> String {
        if self.message.is_empty() {
            // Without a message the first field needs no space before it.
            self.fields.split_off(usize::from(!self.fields.is_empty()))
        } else {
            self.message.push_str(&self.fields);
            self.message
        }
    }

    fn field(&mut self, name: &str, value: &str, quoted: bool) {
        let plain = quoted || !(value.is_empty() || value.contains(char::is_whitespace));
        // Writing to a String does not fail.
        let _ = if plain {
            write!(self.fields, " {name}={value}")
        } else {
            write!(self.fields, " {name}={value:?}")
        };
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.field(field.name(), value, false);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            // The Debug form of a string comes with its quotes.
            let quoted = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
            self.field(field.name(), &text, quoted);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().unwrap().push(line.finish());
        }
    }

    fn logged(body: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        tracing::subscriber::with_default(Registry::default().with(lines.clone()), body);
        Arc::try_unwrap(lines.0).unwrap().into_inner().unwrap()
    }

    #[test]
    fn events_and_levels_are_enabled_and_spans_are_not() {
        let layers = Registry::default().with(EventsOnly).with(EnvFilter::new("info"));
        tracing::subscriber::with_default(layers, || {
            assert!(tracing::enabled!(Level::INFO) && tracing::event_enabled!(Level::INFO));
            assert!(!tracing::enabled!(Level::DEBUG));
            assert!(!tracing::span_enabled!(Level::ERROR));
            assert!(tracing::error_span!("for nobody").is_disabled());
        });
    }

    #[test]
    fn fields_follow_the_message() {
        let error = std::io::Error::other("no route to host");
        let lines = logged(|| {
            tracing::info!("plain {}", 1);
            tracing::info!(count = 3, name = "orders", topic = "two words", "batch taken");
            tracing::warn!(%error, debug = ?"a b", list = ?[1, 2], "failed");
            tracing::info!(empty = "", ratio = 0.5, ok = true, line = "a\nb", "x");
            tracing::info!(only = 1, fields = "here");
            tracing::info!("");
        });
        assert_eq!(
            lines,
            [
                "plain 1",
                "batch taken count=3 name=orders topic=\"two words\"",
                "failed error=\"no route to host\" debug=\"a b\" list=\"[1, 2]\"",
                "x empty=\"\" ratio=0.5 ok=true line=\"a\\nb\"",
                "only=1 fields=here",
                "",
            ]
        );
    }
}
