//! Sends dead letters again while no connector is running: through one that is opened for them.

use std::{ops::ControlFlow, time::Duration};

use iggy_connector_sdk::{Sink, get_runtime};
use serde_json::Value;

use crate::{
    dead_letter::{Entry, Folder, LetterPosition},
    replay::{Replay, ReplayError},
    sink::HttpSink,
};

impl Folder {
    /// Sends every `wanted` letter that was not replayed yet to the endpoint of `plugin_config`, oldest first, and marks what
    /// is delivered: a second replay does not send it again. Blocks until all have an outcome, or until `progress`, which is
    /// called after each batch, says to stop.
    ///
    /// A crash between the delivery of a batch and its marks makes the next replay send that batch
    /// again, with the same idempotency keys.
    ///
    /// # Errors
    /// The sink does not open, the folder cannot be read or marked, or another replay is in progress.
    pub fn replay(
        &self,
        plugin_config: &Value,
        wanted: impl FnMut(&Entry) -> bool,
        progress: impl FnMut(&Replay) -> ControlFlow<()>,
    ) -> Result<Replay, ReplayError> {
        self.replay_naming(plugin_config, wanted, progress, |_, _| ())
    }

    /// The same, calling `failed` for each letter that fails again, with the reason.
    ///
    /// # Errors
    /// As of [`replay`](Self::replay).
    pub fn replay_naming(
        &self,
        plugin_config: &Value,
        wanted: impl FnMut(&Entry) -> bool,
        progress: impl FnMut(&Replay) -> ControlFlow<()>,
        failed: impl FnMut(LetterPosition, &str),
    ) -> Result<Replay, ReplayError> {
        let replaying = self.replaying()?;
        self.can_mark(&replaying)?;
        let mut sink = HttpSink::new(0, for_letters(plugin_config).into());
        get_runtime().block_on(sink.open()).map_err(ReplayError::Open)?;
        let pipeline = sink.pipeline().map_err(ReplayError::Open)?;
        let replay = self.send(&replaying, (pipeline, Duration::MAX), wanted, progress, failed);
        // It logs its result; nothing else can fail.
        let _ = get_runtime().block_on(sink.close());
        Ok(replay?)
    }
}

/// Returns the configuration without dead letters, since letters that fail again stay where they are, and without a spool,
/// which belongs to a running connector.
fn for_letters(plugin_config: &Value) -> Value {
    let mut config = plugin_config.clone();
    if let Some(keys) = config.as_object_mut() {
        for table in ["dead_letter", "spool", "status"] {
            keys.retain(|key, _| {
                key.strip_prefix(table).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('_'))
            });
        }
    }
    config
}
