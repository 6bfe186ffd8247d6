//! Removes letters.

use std::io::{self, BufRead, IsTerminal};

use iggy_connector_http_sink::dead_letter::{Folder, Purged};
use serde_json::json;

use crate::terminal::report::{self, Failure, grouped};

/// The options of a purge.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    pub(super) all: bool,
    pub(super) yes: bool,
    pub(super) dry_run: bool,
}

pub(super) fn purge(
    folder: &Folder,
    how: How,
    as_json: bool,
    at: impl Fn(io::Error) -> Failure,
) -> Result<bool, Failure> {
    let (would, waiting) = folder.would_purge(how.all).map_err(&at)?;
    if how.dry_run {
        return report("would remove", would, waiting, as_json).map(|()| true);
    }
    if waiting > 0 && !how.yes && !agreed(waiting)? {
        report::note("nothing is removed");
        return Ok(false);
    }
    let purged = folder.purge(how.all).map_err(at)?;
    report("removed", purged, waiting, as_json).map(|()| true)
}

/// Asks for confirmation, which a program gives with `--yes`.
fn agreed(waiting: usize) -> Result<bool, Failure> {
    let lost = format!(
        "{} letter{} never replayed, and would be lost for good",
        grouped(waiting as u64),
        if waiting == 1 { " was" } else { "s were" }
    );
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{lost}: --yes removes them all the same")));
    }
    report::note(&format!("{lost}. Remove them? [y/N]"));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn report(did: &str, purged: Purged, waiting: usize, as_json: bool) -> Result<(), Failure> {
    let Purged { segments, records, bytes } = purged;
    if as_json {
        let result =
            json!({ "files": segments, "letters": records, "never_replayed": waiting, "bytes": bytes });
        return report::say_json(&result.to_string());
    }
    report::say(&format!(
        "{did} {} files with {} letters, {} bytes; {} of them were never replayed",
        grouped(segments as u64),
        grouped(records as u64),
        grouped(bytes),
        grouped(waiting as u64)
    ))
}
