//! `dead-letters`: what could not be delivered, to look at, to send again and to clear away.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use clap::{Args, Subcommand};
use iggy_connector_http_sink::dead_letter::{Entry, Folder, Place, Replay};
use iggy_connector_sdk::shown;
use serde_json::json;

use crate::{
    connector_file::{ConnectorFile, environment_variables, place},
    interrupt,
    report::{self, Failure, Progress, Unit},
};

/// List, show, replay and purge dead letters
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  iggy-http-sink dead-letters /var/lib/iggy/http-sink/dead-letters list")]
pub(crate) struct Arguments {
    /// The folder: `dead_letter.path` of the connector
    path: PathBuf,
    /// Write the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// A line for each letter: its place, when, why, and where it came from
    #[command(after_help = "Example:\n  iggy-http-sink dead-letters PATH list --reason rejected")]
    List(Selection),
    /// One letter whole, as JSON
    #[command(after_help = "Example:\n  iggy-http-sink dead-letters PATH show 1:0")]
    Show {
        /// Its place, as `list` tells it
        place: Place,
    },
    /// Send letters again, and mark what is delivered, so that no later replay sends it twice
    #[command(
        after_help = "Example:\n  iggy-http-sink dead-letters PATH replay --config config.toml --reason retries_exhausted"
    )]
    Replay {
        /// The connector file that says where to and how
        #[arg(long)]
        config: PathBuf,
        #[command(flatten)]
        selection: Selection,
    },
    /// Remove the files all of whose letters were replayed
    #[command(after_help = "Example:\n  iggy-http-sink dead-letters PATH purge")]
    Purge {
        /// Remove files with letters that were never replayed, too: these are lost for good
        #[arg(long)]
        all: bool,
    },
}

/// Which letters.
#[derive(Debug, Args)]
struct Selection {
    /// Only letters with this reason, such as rejected or undecodable
    #[arg(long)]
    reason: Option<String>,
    /// Only letters from this stream
    #[arg(long)]
    stream: Option<String>,
    /// Only letters from this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only the letter at this place; can be given several times
    #[arg(long = "place")]
    places: Vec<Place>,
}

impl Selection {
    fn takes(&self, entry: &Entry) -> bool {
        let field = |wanted: &Option<String>, found: Option<&String>| {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == found)
        };
        let record = entry.record.as_ref().ok();
        (self.places.is_empty() || self.places.contains(&entry.place))
            && field(&self.reason, record.map(|record| &record.reason))
            && field(&self.stream, record.map(|record| &record.stream))
            && field(&self.topic, record.map(|record| &record.topic))
    }
}

/// Runs the command. A replay succeeds only when every letter it sent was delivered.
///
/// # Errors
/// The folder cannot be read or changed, or the connector file has mistakes.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let at = |why: std::io::Error| Failure::Other(format!("{}: {why}", arguments.path.display()));
    let folder = Folder::open(&arguments.path).map_err(at)?;
    match &arguments.action {
        Action::List(selection) => list(&folder, selection, arguments.json, at),
        Action::Show { place } => show(&folder, *place, at),
        Action::Replay { config, selection } => replay(&folder, config, selection, arguments.json),
        Action::Purge { all } => {
            let purged = folder.purge(*all).map_err(at)?;
            if arguments.json {
                let result =
                    json!({ "files": purged.segments, "letters": purged.records, "bytes": purged.bytes });
                report::say_json(&result.to_string())?;
            } else {
                let (files, letters) =
                    (report::grouped(purged.segments as u64), report::grouped(purged.records as u64));
                report::say(&format!(
                    "removed {files} files with {letters} letters, {} bytes",
                    report::grouped(purged.bytes)
                ))?;
            }
            Ok(true)
        }
    }
}

fn list(
    folder: &Folder,
    selection: &Selection,
    as_json: bool,
    at: impl Fn(std::io::Error) -> Failure,
) -> Result<bool, Failure> {
    let (mut letters, mut replayed) = (0_u64, 0_u64);
    let mut said = Ok(());
    folder
        .for_each(|entry| {
            if selection.takes(&entry) {
                letters += 1;
                replayed += u64::from(entry.replayed);
                said = if as_json {
                    report::say_json(&as_json_text(&entry))
                } else {
                    report::say(&line(&entry))
                };
            }
            said.is_ok()
        })
        .map_err(at)?;
    said?;
    if !as_json {
        let (letters, replayed) = (report::grouped(letters), report::grouped(replayed));
        report::say(&format!("{letters} dead letters, {replayed} of them replayed"))?;
    }
    Ok(true)
}

fn show(folder: &Folder, place: Place, at: impl Fn(std::io::Error) -> Failure) -> Result<bool, Failure> {
    let mut found = None;
    folder
        .for_each(|entry| {
            if entry.place == place {
                found = Some(as_json_text(&entry));
            }
            found.is_none()
        })
        .map_err(at)?;
    let letter = found.ok_or_else(|| {
        Failure::Other(format!("there is no dead letter at {place}: `list` tells the places"))
    })?;
    report::say_json(&letter)?;
    Ok(true)
}

fn replay(folder: &Folder, config: &Path, selection: &Selection, as_json: bool) -> Result<bool, Failure> {
    let connector = ConnectorFile::load(config, environment_variables())
        .map_err(|problems| Failure::Other(place::lines(&problems, config)))?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    interrupt::at_first(move || asked.store(true, SeqCst), || ())
        .map_err(|why| Failure::Other(format!("signals cannot be caught: {why}")))?;
    let progress = Progress::start(None, Unit::Messages);
    let result = folder.replay(
        &connector.plugin_config,
        |entry| selection.takes(entry),
        |replay| {
            progress.set((replay.delivered + replay.failed) as u64);
            if stop.load(SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    drop(progress);
    let Replay { delivered, failed, replayed_before, unreadable } =
        result.map_err(|why| Failure::Other(why.to_string()))?;
    if as_json {
        let result = json!({
            "delivered": delivered,
            "failed": failed,
            "replayed_before": replayed_before,
            "unreadable": unreadable,
        });
        report::say_json(&result.to_string())?;
    } else {
        let rows = [
            ("delivered", delivered),
            ("failed again", failed),
            ("replayed before", replayed_before),
            ("unreadable", unreadable),
        ];
        report::say(&report::table(&rows.map(|(name, count)| (name, report::grouped(count as u64)))))?;
    }
    Ok(failed == 0 && unreadable == 0 && !stop.load(SeqCst))
}

fn line(entry: &Entry) -> String {
    let mark = if entry.replayed { "replayed" } else { "waiting" };
    match &entry.record {
        Ok(record) => {
            let status = record.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            format!(
                "{}  {}  {mark}  {}  {status}  {}/{}/{}@{}  {}",
                entry.place,
                shown(&record.time, 40),
                shown(&record.reason, 40),
                shown(&record.stream, 255),
                shown(&record.topic, 255),
                record.partition,
                record.offset,
                shown(&record.answer, 80)
            )
        }
        Err(why) => format!("{}  {}", entry.place, shown(why, 200)),
    }
}

/// A letter as JSON, its payload as it stands in the record: going through values would rewrite it.
fn as_json_text(entry: &Entry) -> String {
    let record = match &entry.record {
        Ok(record) => serde_json::to_string(record).unwrap_or_default(),
        Err(why) => json!({ "unreadable": why }).to_string(),
    };
    let fields = record.strip_prefix('{').unwrap_or(&record);
    format!("{{\"place\":\"{}\",\"replayed\":{},{fields}", entry.place, entry.replayed)
}
