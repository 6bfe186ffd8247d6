//! Sends dead letters again, through the same pipeline, and marks those that were delivered.

use std::{ops::ControlFlow, time::Duration};

use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata, get_runtime};

use crate::{
    batch::Batch,
    dead_letter::{Entry, Folder, LetterPosition, Record, Replaying},
    pipeline::Pipeline,
};

/// The maximum number of letters in one batch.
const BATCH: usize = 100;

/// What became of the letters of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replay {
    /// Delivered now, and marked.
    pub delivered: usize,
    /// Not delivered this time either.
    pub failed: usize,
    /// Delivered by an earlier replay, so not sent.
    pub replayed_before: usize,
    /// Lines that are not dead letters.
    pub unreadable: usize,
}

/// Why a replay stopped. What was delivered until then is marked.
#[derive(Debug)]
pub enum ReplayError {
    /// The sink does not open with this configuration.
    Open(iggy_connector_sdk::Error),
    /// The folder cannot be read or marked.
    Folder(std::io::Error),
}

impl std::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(why) => write!(f, "{why}"),
            Self::Folder(why) => write!(f, "the dead letters cannot be read or marked: {why}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<std::io::Error> for ReplayError {
    fn from(error: std::io::Error) -> Self {
        Self::Folder(error)
    }
}

/// Letters of one partition and schema, sent together.
#[derive(Default)]
struct Together {
    letters: Vec<(LetterPosition, Record)>,
}

impl Together {
    /// Whether a letter can join: batches are of one partition and schema.
    fn takes(&self, record: &Record) -> bool {
        self.letters.len() < BATCH
            && self.letters.last().is_none_or(|(_, last)| {
                (&last.stream, &last.topic, last.partition, last.schema)
                    == (&record.stream, &record.topic, record.partition, record.schema)
            })
    }
}

impl Folder {
    /// Sends every `wanted` letter that was not replayed yet through a running connector, with its breaker, pauses, rate and
    /// order. It waits at most `longest` for a batch.
    ///
    /// # Errors
    /// The folder cannot be read or marked, or another replay is in progress.
    pub(crate) fn replay_through(
        &self,
        pipeline: &Pipeline,
        longest: Duration,
        wanted: impl FnMut(&Entry) -> bool,
        progress: impl FnMut(&Replay) -> ControlFlow<()>,
        failed: impl FnMut(LetterPosition, &str),
    ) -> std::io::Result<Replay> {
        let replaying = self.replaying()?;
        self.can_mark(&replaying)?;
        self.send(&replaying, (pipeline, longest), wanted, progress, failed)
    }

    /// Sends letters through a pipeline, and waits for a batch at most as long as given with it.
    pub(crate) fn send(
        &self,
        replaying: &Replaying,
        through: (&Pipeline, Duration),
        mut wanted: impl FnMut(&Entry) -> bool,
        mut progress: impl FnMut(&Replay) -> ControlFlow<()>,
        mut failed: impl FnMut(LetterPosition, &str),
    ) -> std::io::Result<Replay> {
        let mut replay = Replay::default();
        let mut together = Together::default();
        let (mut stopped, mut interrupted) = (None, false);
        let mut send = |together: &mut Together, replay: &mut Replay| -> std::io::Result<ControlFlow<()>> {
            let letters = std::mem::take(&mut together.letters);
            let positions: Vec<LetterPosition> = letters.iter().map(|(position, _)| *position).collect();
            let marks = self.make_room(&positions, replaying)?;
            let (delivered, failures) = deliver(through, &letters);
            for (position, why) in &failures {
                failed(*position, why);
            }
            replay.delivered += delivered.len();
            replay.failed += letters.len() - delivered.len();
            marks.mark(&delivered)?;
            Ok(progress(replay))
        };
        self.for_each(|entry| {
            if entry.replayed {
                replay.replayed_before += 1;
            } else if wanted(&entry) {
                match entry.record {
                    Err(_) => replay.unreadable += 1,
                    Ok(record) => {
                        if !together.takes(&record) {
                            match send(&mut together, &mut replay) {
                                Ok(ControlFlow::Continue(())) => {}
                                Ok(ControlFlow::Break(())) => interrupted = true,
                                Err(why) => stopped = Some(why),
                            }
                        }
                        together.letters.push((entry.position, record));
                    }
                }
            }
            stopped.is_none() && !interrupted
        })?;
        if let Some(why) = stopped {
            return Err(why);
        }
        if !together.letters.is_empty() && !interrupted {
            // This was the last batch, so there is nothing left to stop.
            let _ = send(&mut together, &mut replay)?;
        }
        Ok(replay)
    }
}

/// Sends letters. Returns the positions of those that were delivered, and of the others with the reason.
fn deliver(
    (pipeline, longest): (&Pipeline, Duration),
    letters: &[(LetterPosition, Record)],
) -> (Vec<LetterPosition>, Vec<(LetterPosition, String)>) {
    let Some((_, first)) = letters.first() else { return (Vec::new(), Vec::new()) };
    let mut failures = Vec::new();
    // A letter that was changed by hand and cannot be decoded stays where it is.
    let mut buffers = Vec::with_capacity(letters.len());
    for (position, letter) in letters {
        match letter.header_bytes().and_then(|headers| Ok((headers, letter.payload_bytes()?))) {
            Ok((headers, payload)) => buffers.push((*position, letter, headers, payload)),
            Err(why) => failures.push((*position, format!("the letter cannot be read: {why}"))),
        }
    }
    let mut readable: Vec<(LetterPosition, BorrowedMessage<'_>)> = Vec::with_capacity(buffers.len());
    for (position, letter, headers, payload) in &buffers {
        match letter.message(headers, payload) {
            Ok(message) => readable.push((*position, message)),
            Err(why) => failures.push((*position, format!("the letter cannot be read: {why}"))),
        }
    }
    let messages: Vec<BorrowedMessage<'_>> = readable.iter().map(|(_, message)| *message).collect();
    let topic = TopicMetadata { stream: first.stream.clone(), topic: first.topic.clone() };
    let schema: Schema = first.schema;
    let current_offset = messages.last().map_or(0, |message| message.offset);
    let metadata = MessagesMetadata { partition_id: first.partition, current_offset, schema };
    let batch = Batch::borrowed(&topic, &metadata, &messages);
    let deadline = pipeline.deadline(batch.stream, batch.topic, Duration::ZERO).at_most(longest);
    let account = get_runtime().block_on(pipeline.account(&batch, deadline, None, None));
    let mut delivered = vec![true; messages.len()];
    for (messages, failure) in &account.undelivered {
        for message in messages {
            delivered[*message] = false;
            failures.push((readable[*message].0, failure.to_string()));
        }
    }
    failures.sort();
    let positions = readable
        .iter()
        .zip(delivered)
        .filter(|(_, delivered)| *delivered)
        .map(|((position, _), _)| *position);
    (positions.collect(), failures)
}
