//! The metrics of one topic.

use prometheus_client::metrics::counter::Counter;

use super::metrics::{MessageLabels, Metrics};

/// The counters of one topic, resolved once.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) stream: String,
    pub(super) name: String,
    pub(super) delivered: Counter,
    pub(super) dead_lettered: Counter,
    pub(super) failed: Counter,
}

impl Topic {
    pub(super) fn new(metrics: &Metrics, stream: &str, topic: &str) -> Self {
        let counter = |outcome| {
            let labels = MessageLabels { stream: stream.to_owned(), topic: topic.to_owned(), outcome };
            metrics.messages.get_or_create_owned(&labels)
        };
        Self {
            stream: stream.to_owned(),
            name: topic.to_owned(),
            delivered: counter("delivered"),
            dead_lettered: counter("dead_lettered"),
            failed: counter("failed"),
        }
    }
}
