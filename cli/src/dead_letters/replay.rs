//! Sends letters again.

use std::{
    io,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use iggy_connector_http_sink::{
    dead_letter::{Folder, Selection},
    replay::{Replay, ReplayError},
};
use iggy_connector_sdk::shown;
use serde_json::{Value, json};

use super::selection::Seen;
use crate::{
    connector_file,
    terminal::{
        interrupt,
        report::{self, Failure, Progress, Unit, grouped},
    },
};

/// How many failures are kept for JSON, and how many are shown one by one.
const KEPT: usize = 1000;
const SHOWN: usize = 20;
/// The maximum length of a reason, in bytes.
const LONGEST_REASON: usize = 300;

pub(super) fn replay(
    folder: &Folder,
    config: &Path,
    selection: &Selection,
    as_json: bool,
    at: impl Fn(io::Error) -> Failure,
) -> Result<bool, Failure> {
    let connector = connector_file::load(config)?;
    // Missing letters are reported before anything is sent.
    count(folder, selection, at)?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    interrupt::at_first(move || asked.store(true, SeqCst), || ())
        .map_err(|why| Failure::Other(format!("signals cannot be caught: {why}")))?;
    let progress = Progress::start(None, Unit::Messages);
    let mut failures: Vec<Value> = Vec::new();
    let mut failed_again = 0;
    let result = folder.replay_naming(
        &connector.plugin_config,
        |entry| selection.takes(entry),
        |replay| {
            progress.set((replay.delivered + replay.failed) as u64);
            if stop.load(SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        |position, why| {
            failed_again += 1;
            if failed_again <= SHOWN {
                report::note(&format!("failed again: {position}: {}", shown(why, LONGEST_REASON)));
            }
            if failures.len() < KEPT {
                failures.push(json!({ "position": position.to_string(), "why": why }));
            }
        },
    );
    drop(progress);
    let Replay { delivered, failed, replayed_before, unreadable } = result.map_err(|why| match why {
        ReplayError::Open(why) => Failure::Start(format!("the connector does not open: {why}")),
        ReplayError::Folder(_) => Failure::Other(why.to_string()),
    })?;
    if failed_again > SHOWN {
        report::note(&format!(
            "failed again: {} more; --json names up to {KEPT}",
            grouped((failed_again - SHOWN) as u64)
        ));
    }
    let stopped = stop.load(SeqCst);
    let text = if as_json {
        json!({
            "delivered": delivered,
            "failed": failed,
            "failures": failures,
            "replayed_before": replayed_before,
            "unreadable": unreadable,
            "stopped": stopped,
        })
        .to_string()
    } else {
        let rows = [
            ("delivered", delivered),
            ("failed again", failed),
            ("replayed before", replayed_before),
            ("unreadable", unreadable),
        ];
        report::table(&rows.map(|(name, count)| (name, grouped(count as u64))))
    };
    report::result(&text, as_json)?;
    Ok(failed == 0 && unreadable == 0 && !stopped)
}

pub(super) fn dry_run(
    folder: &Folder,
    config: &Path,
    selection: &Selection,
    as_json: bool,
    at: impl Fn(io::Error) -> Failure,
) -> Result<bool, Failure> {
    connector_file::load(config)?;
    let seen = count(folder, selection, at)?;
    let (letters, before) = (seen.taken - seen.replayed, seen.replayed);
    if as_json {
        report::say_json(&json!({ "would_send": letters, "replayed_before": before }).to_string())?;
    } else {
        report::say(&format!(
            "would send {} dead letters; {} were replayed before",
            grouped(letters),
            grouped(before)
        ))?;
    }
    Ok(true)
}

/// Counts what is selected.
fn count(folder: &Folder, selection: &Selection, at: impl Fn(io::Error) -> Failure) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    folder
        .for_each(|entry| {
            seen.takes(selection, &entry);
            true
        })
        .map_err(at)?;
    seen.report_missing(selection)?;
    Ok(seen)
}
