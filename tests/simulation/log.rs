//! Hears what the sink tells.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{history::History, world::Clock};

/// Puts what is told into the history.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) history: Arc<Mutex<History>>,
    pub(super) clock: Arc<Mutex<Option<Clock>>>,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::INFO
            && metadata.target().starts_with("iggy_connector_http_sink")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(clock) = *self.clock.lock().unwrap() else { return };
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = event.metadata().level().as_str();
        self.history.lock().unwrap().told(clock.now(), level, text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
