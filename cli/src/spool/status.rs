//! Shows what is waiting.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use iggy_connector_http_sink::spool::{self, Status};

use super::damage;
use crate::terminal::report::{self, Failure};

/// Prints the status. Returns whether everything that is stored can be read.
///
/// # Errors
/// There is no spool, or it cannot be read.
pub(super) fn run(path: &Path, as_json: bool) -> Result<bool, Failure> {
    let status = spool::status(path).map_err(|why| Failure::Other(why.to_string()))?;
    if as_json {
        let json = serde_json::to_string(&status).map_err(|why| Failure::Other(why.to_string()))?;
        report::say_json(&json)?;
    } else {
        report::say(&as_text(&status, SystemTime::now()))?;
    }
    Ok(damage::note(&status.damages, &status.set_aside))
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
