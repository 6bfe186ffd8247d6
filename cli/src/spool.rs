//! `spool`: shows what is waiting to be delivered, whether or not a connector is running.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use iggy_connector_http_sink::spool::{self, Status};

use crate::terminal::report::{self, Failure};

/// Show what is in a spool
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  iggy-http-sink spool /var/lib/iggy/http-sink/spool status")]
pub(crate) struct Arguments {
    /// The folder: `spool.path` of the connector
    path: PathBuf,
    /// Write the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the messages and bytes that are waiting, by stream, topic and partition, with the age of the oldest and the
    /// next offset
    #[command(after_help = "Example:\n  iggy-http-sink spool PATH status --json")]
    Status,
}

/// Runs the command. Returns whether everything that is stored can be read.
///
/// # Errors
/// There is no spool, or it cannot be read.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let Action::Status = arguments.action;
    let status = spool::status(&arguments.path).map_err(|why| Failure::Other(why.to_string()))?;
    if arguments.json {
        let json = serde_json::to_string(&status).map_err(|why| Failure::Other(why.to_string()))?;
        report::say_json(&json)?;
    } else {
        report::say(&as_text(&status, SystemTime::now()))?;
    }
    for damage in &status.damages {
        report::note(&format!("warning: {damage}"));
    }
    for (path, bytes) in &status.set_aside {
        report::note(&format!(
            "warning: {} bytes that could not be read are in {}",
            report::grouped(*bytes),
            path.display()
        ));
    }
    // A truncated end is caused by a crash, or by a write in progress.
    Ok(status.damages.iter().all(|damage| damage.tail))
}

fn as_text(status: &Status, now: SystemTime) -> String {
    let owner = match (status.in_use, status.process) {
        (true, Some(process)) => format!("open in process {process}"),
        (true, None) => "open".to_owned(),
        (false, _) => "not open".to_owned(),
    };
    let mut rows = vec![
        ("spool", status.path.display().to_string()),
        ("connector", owner),
        ("messages", report::grouped(status.messages)),
        ("bytes on disk", report::grouped(status.bytes)),
    ];
    if let Some(oldest) = status.oldest_timestamp {
        rows.push(("oldest message", age(oldest, now)));
    }
    let mut text = report::table(&rows);
    if !status.lanes.is_empty() {
        let lanes: Vec<Vec<String>> = status
            .lanes
            .iter()
            .map(|lane| {
                vec![
                    lane.stream.clone(),
                    lane.topic.clone(),
                    lane.partition.map_or_else(|| "several".to_owned(), |partition| partition.to_string()),
                    report::grouped(lane.messages),
                    report::grouped(lane.bytes),
                    lane.oldest_timestamp.map_or_else(|| "?".to_owned(), |oldest| age(oldest, now)),
                    lane.next_offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string()),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&report::figures(
            &["stream", "topic", "partition", "messages", "bytes", "oldest", "next offset"],
            &lanes,
        ));
    }
    text
}

/// How long ago this was, in microseconds since the Unix epoch.
fn age(timestamp: u64, now: SystemTime) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_micros(timestamp);
    match now.duration_since(then) {
        Ok(age) => format!("{} ago", humantime::format_duration(Duration::from_secs(age.as_secs()))),
        Err(_) => "from the future".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_whole_seconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(3_723_900);
        assert_eq!(age(0, now), "1h 2m 3s ago");
        assert_eq!(age(4_000_000_000, now), "from the future");
    }
}
