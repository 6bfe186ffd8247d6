//! The trait that a sink implements.

use std::time::Duration;

use async_trait::async_trait;
use tracing::error;

use crate::shown::{LONGEST_NAME, shown};
use crate::{BorrowedMessage, ConsumedMessage, Error, MessagesMetadata, OffsetRanges, TopicMetadata};

/// Delivers batches of messages somewhere.
///
/// One value serves one connector, from [`open`](Self::open) to [`close`](Self::close). Batches of different topics
/// arrive concurrently. All its futures run on [`get_runtime`](crate::get_runtime).
#[async_trait]
pub trait Sink: Send + Sync {
    /// Makes the sink ready. Called once, before any batch.
    ///
    /// # Errors
    /// With any error the connector does not start and the sink is dropped, without [`close`](Self::close).
    async fn open(&mut self) -> Result<(), Error>;

    /// Delivers one decoded batch, which can be empty.
    ///
    /// # Errors
    /// Any error is logged (see [`names_failures`](Self::names_failures)) and reported to the runtime, which does not send the
    /// batch again.
    async fn consume(
        &self,
        topic_metadata: &TopicMetadata,
        messages_metadata: MessagesMetadata,
        messages: Vec<ConsumedMessage>,
    ) -> Result<(), Error>;

    /// Delivers one batch over the runtime's own buffer. This is what the container calls.
    ///
    /// Unless overridden, it decodes the messages and passes them to [`consume`](Self::consume). Those that do not decode are
    /// left out, and logged at ERROR in one line with their offsets. They do not make the batch fail: a host that sends a
    /// failed batch again would send the others with them forever. A sink that keeps such messages overrides this.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    async fn consume_borrowed(
        &self,
        topic: &TopicMetadata,
        metadata: MessagesMetadata,
        messages: &[BorrowedMessage<'_>],
    ) -> Result<(), Error> {
        let mut decoded = Vec::with_capacity(messages.len());
        let mut undecodable = Vec::new();
        let mut reason = None;
        for message in messages {
            match message.to_consumed(metadata.schema) {
                Ok(message) => decoded.push(message),
                Err(error) => {
                    undecodable.push(message.offset);
                    reason.get_or_insert(error);
                }
            }
        }
        if let Some(reason) = &reason {
            error!(
                "{} of {} messages cannot be decoded and are left out: stream: {}, topic: {}, partition: {}, \
                 schema: {}, offsets: {}; the first: {reason}",
                undecodable.len(),
                messages.len(),
                shown(&topic.stream, LONGEST_NAME),
                shown(&topic.topic, LONGEST_NAME),
                metadata.partition_id,
                metadata.schema,
                OffsetRanges::of(undecodable.iter().copied()),
            );
        }
        self.consume(topic, metadata, decoded).await
    }

    /// Whether the sink names every message that fails in its log. Then the container logs an error of consume only at DEBUG,
    /// since a second line would say the same.
    fn names_failures(&self) -> bool {
        false
    }

    /// Called once when close begins, while batches may still be in progress: from here on the sink should finish them. Must
    /// not block.
    ///
    /// Returns how long close waits for them. After that, close returns without them, and the last of them runs
    /// [`close`](Self::close) when it ends.
    fn begin_close(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Closes the sink. Called once, when no batch is in progress any more; then the sink is dropped.
    ///
    /// # Errors
    /// Any error is logged; the connector is closed nevertheless.
    async fn close(&mut self) -> Result<(), Error>;
}
