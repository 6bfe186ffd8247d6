//! Selects letters.

use std::collections::BTreeSet;

use clap::{Args, builder::PossibleValuesParser};
use iggy_connector_http_sink::dead_letter::{self, Entry, LetterPosition, Selection};

use crate::terminal::report::{self, Failure, grouped};

/// Which letters.
#[derive(Debug, Clone, Args)]
pub(super) struct Arguments {
    /// Only letters with this reason
    #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(dead_letter::reasons()))]
    reason: Option<String>,
    /// Only letters from this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only letters from this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only letters since this time, such as 2026-08-01T12:00:00Z, or of the last 2h, 30m and so on
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Only the letter at this position; can be given several times
    #[arg(long = "position", value_name = "POSITION")]
    positions: Vec<LetterPosition>,
}

/// Converts a time to the format of letters, which sorts as text.
fn since(text: &str) -> Result<String, String> {
    crate::since::since(text).map(|time| humantime::format_rfc3339_millis(time).to_string())
}

impl Arguments {
    /// The selection of letters.
    pub(super) fn meant(&self) -> Selection {
        let Self { reason, stream, topic, since, positions } = self.clone();
        Selection { reason, stream, topic, since, positions }
    }
}

/// Counts the letters found, so that an empty selection is reported.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) all: u64,
    pub(super) taken: u64,
    pub(super) replayed: u64,
    positions: BTreeSet<LetterPosition>,
}

impl Seen {
    /// Whether an entry is selected.
    pub(super) fn takes(&mut self, selection: &Selection, entry: &Entry) -> bool {
        self.all += 1;
        if selection.positions.contains(&entry.position) {
            self.positions.insert(entry.position);
        }
        let takes = selection.takes(entry);
        self.taken += u64::from(takes);
        self.replayed += u64::from(takes && entry.replayed);
        takes
    }

    /// The last line of a list or a summary.
    pub(super) fn total(&self) -> String {
        let plural = if self.taken == 1 { "" } else { "s" };
        format!("{} dead letter{plural}, {} of them replayed", grouped(self.taken), grouped(self.replayed))
    }

    /// Reports selected letters that do not exist.
    ///
    /// # Errors
    /// There is no letter at a position.
    pub(super) fn report_missing(&self, selection: &Selection) -> Result<(), Failure> {
        if let Some(position) = selection.positions.iter().find(|position| !self.positions.contains(position))
        {
            return Err(no_letter(*position));
        }
        if self.taken == 0 && self.all > 0 {
            report::note(&format!(
                "note: none of the {} letters is meant by this selection",
                grouped(self.all)
            ));
        }
        Ok(())
    }
}

/// The error for a position without a letter.
pub(super) fn no_letter(position: LetterPosition) -> Failure {
    Failure::Usage(format!("there is no dead letter at {position}: `list` shows the positions"))
}
