//! Sends records through the pipeline.

use tokio::time::Instant;
use tracing::warn;

use super::{
    lanes::Lanes,
    progress::{InSpool, Selection, Shared},
    window::{Index, Window},
};
use crate::{batch::Batch, config::Ordering, plan, settle::Account, spool::SpoolError};

impl Lanes {
    /// Delivers the selected messages of some records.
    pub(super) async fn deliver(
        &self,
        window: &Window,
        index: &Index,
        selection: &Selection,
        keys: Option<(&[u64], &Shared)>,
    ) -> Result<Account, SpoolError> {
        let stored = window.decode()?;
        self.pipeline.counters.together(window.records().count());
        let batch = Batch::borrowed(&stored.topic, &stored.metadata, &stored.messages);
        let deadline = self.pipeline.deadline(batch.stream, batch.topic, window.age()).of_kept();
        let progress = InSpool::of(&self.spool, window, index, selection, keys);
        let dead_letters = self.pipeline.dead_letters.as_ref();
        let account = self.pipeline.account(&batch, deadline, dead_letters, Some(&progress)).await;
        self.pipeline.counters.settled(&batch, account.ended());
        if !account.unwritten.is_empty()
            && !self.pipeline.is_closing()
            && let Some(times) = self.unwritten.happened(Instant::now())
        {
            warn!(
                "{}: {} messages are neither delivered nor dead letters, and stay in the spool{times}",
                window.lane(),
                account.unwritten.len()
            );
        }
        Ok(account)
    }

    /// Returns the key of each of these messages, by its index, if keys are kept in order.
    pub(super) fn keys(&self, window: &Window, messages: &[usize]) -> Result<Vec<u64>, SpoolError> {
        let Ordering::Key(template) = &self.terms(window.lane()).ordering else { return Ok(Vec::new()) };
        let stored = window.decode()?;
        let batch = Batch::borrowed(&stored.topic, &stored.metadata, &stored.messages);
        let mut keys = vec![0; stored.messages.len()];
        for &message in messages {
            keys[message] = plan::hash(&template.key(&batch, &stored.messages[message]));
        }
        Ok(keys)
    }
}
