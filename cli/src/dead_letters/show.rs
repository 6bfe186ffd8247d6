//! Shows letters to people and programs.

use std::io;

use iggy_connector_http_sink::dead_letter::{Entry, Folder, LetterPosition, Selection, Summary};
use iggy_connector_sdk::shown;
use serde_json::json;

use super::selection::{Seen, no_letter};
use crate::terminal::report::{self, Failure, grouped};

pub(super) fn list(
    folder: &Folder,
    selection: &Selection,
    as_json: bool,
    at: impl Fn(io::Error) -> Failure,
) -> Result<bool, Failure> {
    let mut seen = Seen::default();
    let mut said = Ok(());
    folder
        .for_each(|entry| {
            if seen.takes(selection, &entry) {
                if seen.taken == 1 && !as_json {
                    said = report::say(&columns(
                        ["POSITION", "TIME", "STATE", "REASON", "STATUS", "STREAM/TOPIC/PARTITION@OFFSET"],
                        "ANSWER",
                    ));
                }
                if said.is_ok() {
                    said =
                        if as_json { report::say_json(&entry.to_json()) } else { report::say(&line(&entry)) };
                }
            }
            said.is_ok() && !report::stdout_is_closed()
        })
        .map_err(at)?;
    said?;
    if report::stdout_is_closed() {
        return Ok(true);
    }
    if !as_json {
        report::say(&seen.total())?;
    }
    seen.report_missing(selection).map(|()| true)
}

pub(super) fn one(
    folder: &Folder,
    position: LetterPosition,
    at: impl Fn(io::Error) -> Failure,
) -> Result<bool, Failure> {
    let found = folder.find(position).map_err(at)?.map(|entry| entry.to_json());
    report::say_json(&found.ok_or_else(|| no_letter(position))?)?;
    Ok(true)
}

pub(super) fn summary(
    folder: &Folder,
    selection: &Selection,
    as_json: bool,
    at: impl Fn(io::Error) -> Failure,
) -> Result<bool, Failure> {
    let mut seen = Seen::default();
    let mut summary = Summary::default();
    folder
        .for_each(|entry| {
            if seen.takes(selection, &entry) {
                summary.add(&entry);
            }
            true
        })
        .map_err(at)?;
    if as_json {
        let by = summary.by_as_json();
        report::say_json(&json!({ "letters": seen.taken, "replayed": seen.replayed, "by": by }).to_string())?;
    } else {
        let rows: Vec<Vec<String>> = summary
            .by
            .iter()
            .map(|((reason, stream, topic), count)| {
                vec![
                    reason.clone(),
                    format!("{stream}/{topic}"),
                    grouped(count.letters),
                    grouped(count.waiting),
                    count.first.clone(),
                    count.last.clone(),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let header = ["reason", "stream/topic", "letters", "waiting", "first", "last"];
            report::say(&report::figures(&header, &rows))?;
        }
        report::say(&seen.total())?;
    }
    seen.report_missing(selection).map(|()| true)
}

fn line(entry: &Entry) -> String {
    let position = entry.position.to_string();
    match &entry.record {
        Ok(record) => {
            let status = record.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            let [time, reason] = [&record.time, &record.reason].map(|text| shown(text, 40).to_string());
            let [stream, topic] = [&record.stream, &record.topic].map(|name| shown(name, 255).to_string());
            let from = format!("{stream}/{topic}/{}@{}", record.partition, record.offset);
            let state = if entry.replayed { "replayed" } else { "waiting" };
            columns(
                [&position, &time, state, &reason, &status, &from],
                &shown(&record.answer, 80).to_string(),
            )
        }
        Err(why) => format!("{position:<10}  {}", shown(why, 200)),
    }
}

fn columns([position, time, state, reason, status, from]: [&str; 6], answer: &str) -> String {
    let line =
        format!("{position:<10}  {time:<24}  {state:<8}  {reason:<17}  {status:<6}  {from:<30}  {answer}");
    line.trim_end().to_owned()
}
