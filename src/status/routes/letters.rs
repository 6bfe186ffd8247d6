//! Requests for dead letters.

use std::{io, str::FromStr, sync::Arc};

use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::task;
use url::form_urlencoded;

use crate::{
    dead_letter::{Entry, LetterPosition, Purged, Selection},
    status::{
        access,
        answer::{Answer, HTML, JSON, answer, done, not_found, refused, text},
        letters::{Letters, Listed, Which},
        page,
        server::Server,
    },
};

/// `/connectors/ID/letters`, or a path below it, and the same below `/api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LettersPath<'p> {
    is_api: bool,
    connector: u32,
    below: &'p str,
}

impl<'p> LettersPath<'p> {
    pub(super) fn of(path: &'p str) -> Option<Self> {
        let of_page = path.strip_prefix("/api");
        let rest = of_page.unwrap_or(path).strip_prefix("/connectors/")?;
        let (connector, rest) = rest.split_once('/')?;
        let below = rest.strip_prefix("letters")?;
        let below = if below.is_empty() { below } else { below.strip_prefix('/')? };
        Some(Self { is_api: of_page.is_some(), connector: connector.parse().ok()?, below })
    }
}

/// The list, or the letter at a position.
pub(super) async fn get(
    server: &Server,
    path: LettersPath<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Answer {
    if let Err(refusal) = access::may_read(headers, server.token.as_ref()) {
        return refused(refusal);
    }
    let Some(letters) = letters(server, path.connector) else { return not_found() };
    let can_change = server.token.is_some();
    let LettersPath { is_api, connector, below } = path;
    if below.is_empty() {
        let selection = match selection(query) {
            Ok(selection) => selection,
            Err(why) => return text(StatusCode::BAD_REQUEST, why + "\n"),
        };
        let (meant, reader) = (selection.clone(), letters.clone());
        return match aside(move || reader.list(&meant)).await {
            Err(why) => unreadable(&why),
            Ok(listed) if is_api => answer(StatusCode::OK, JSON, list_as_json(&listed, &letters)),
            Ok(listed) => {
                let replay = letters.replayed();
                let page = page::letters(connector, &listed, &selection, replay.as_ref(), can_change);
                answer(StatusCode::OK, HTML, page.into_string())
            }
        };
    }
    let Ok(position) = LetterPosition::from_str(below) else { return not_found() };
    match aside(move || letters.one(position)).await {
        Err(why) => unreadable(&why),
        Ok(None) => text(StatusCode::NOT_FOUND, format!("there is no dead letter at {position}\n")),
        Ok(Some(entry)) if is_api => answer(StatusCode::OK, JSON, entry.to_json()),
        Ok(Some(entry)) => {
            answer(StatusCode::OK, HTML, page::letter(connector, &entry, can_change).into_string())
        }
    }
}

/// `replay` of the letters that the query selects, or `purge` of these; with `all=true`, `purge` of all, and without a query,
/// of files that were replayed.
pub(super) async fn post(
    server: &Server,
    path: LettersPath<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Answer {
    if let Err(refusal) = access::may_change(headers, server.token.as_ref()) {
        return refused(refusal);
    }
    let Some(letters) = letters(server, path.connector) else { return not_found() };
    let back = format!("/connectors/{}/letters", path.connector);
    match path.below {
        "replay" => {
            let selection = match selection(query) {
                Ok(selection) => selection,
                Err(why) => return text(StatusCode::BAD_REQUEST, why + "\n"),
            };
            // While this lock is held no connector is closed, so close waits for a replay that begins now.
            let boards = server.boards();
            let Some(Some(board)) = boards.get(&path.connector) else { return not_found() };
            match board.replay(selection) {
                Ok(()) => done(headers, &back, &json!({ "connector": path.connector, "done": "replay" })),
                Err(why) => conflict(&why),
            }
        }
        "purge" => {
            let which = match which(query) {
                Ok(which) => which,
                Err(why) => return text(StatusCode::BAD_REQUEST, why + "\n"),
            };
            let next = match server.boards().get(&path.connector) {
                Some(Some(board)) => board.end_segment(),
                _ => return not_found(),
            };
            match aside(move || letters.purge(&which, next)).await {
                Ok(Purged { segments, records, bytes }) => {
                    let purged = json!({ "files": segments, "letters": records, "bytes": bytes });
                    done(headers, &back, &purged)
                }
                Err(why) => conflict(&why),
            }
        }
        _ => not_found(),
    }
}

fn letters(server: &Server, connector: u32) -> Option<Arc<Letters>> {
    server.boards().get(&connector)?.as_ref()?.letters()
}

/// Runs work that may block on a thread that may block.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    // An empty field of a form is ignored.
    pairs.into_owned().filter(|(_, value)| !value.is_empty())
}

/// Returns the letters that a query selects.
///
/// # Errors
/// There is no such field: a mistyped name must not replay all letters.
fn selection(query: Option<&str>) -> Result<Selection, String> {
    let mut selection = Selection::default();
    for (name, value) in pairs(query) {
        match &*name {
            "reason" => selection.reason = Some(value),
            "stream" => selection.stream = Some(value),
            "topic" => selection.topic = Some(value),
            "position" => selection.positions.push(value.parse()?),
            _ => return Err("a query may have reason, stream, topic and position".to_owned()),
        }
    }
    Ok(selection)
}

/// Returns what a query asks to remove.
///
/// # Errors
/// As of [`selection`].
fn which(query: Option<&str>) -> Result<Which, String> {
    if pairs(query).eq([("all".to_owned(), "true".to_owned())]) {
        return Ok(Which::All);
    }
    let selection = selection(query)?;
    Ok(if selection == Selection::default() { Which::Replayed } else { Which::Meant(selection) })
}

fn list_as_json(listed: &Listed, letters: &Letters) -> String {
    let newest: Vec<Value> = listed.letters.iter().map(as_json).collect();
    let whole = json!({
        "letters": listed.all.letters, "replayed": listed.all.replayed, "by": listed.all.by_as_json(),
        "meant": listed.meant, "waiting": listed.waiting, "newest": newest, "replay": letters.replayed(),
    });
    whole.to_string()
}

/// A letter in a list.
fn as_json(entry: &Entry) -> Value {
    let position = entry.position.to_string();
    match &entry.record {
        Ok(record) => json!({
            "position": position, "replayed": entry.replayed, "time": record.time, "reason": record.reason,
            "status": record.status, "answer": record.answer, "attempts": record.attempts, "stream": record.stream,
            "topic": record.topic, "partition": record.partition, "offset": record.offset,
        }),
        Err(why) => json!({ "position": position, "replayed": entry.replayed, "unreadable": why }),
    }
}

fn unreadable(why: &io::Error) -> Answer {
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("the dead letters cannot be read: {why}\n"))
}

fn conflict(why: &io::Error) -> Answer {
    text(StatusCode::CONFLICT, format!("{why}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_letters_are_told_from_others() {
        let at = |is_api, below| Some(LettersPath { is_api, connector: 7, below });
        for (path, expected) in [
            ("/connectors/7/letters", at(false, "")),
            ("/connectors/7/letters/", at(false, "")),
            ("/api/connectors/7/letters", at(true, "")),
            ("/connectors/7/letters/3:12", at(false, "3:12")),
            ("/connectors/7/lettersx", None),
            ("/connectors/x/letters", None),
            ("/connectors/7", None),
            ("/", None),
        ] {
            assert_eq!(LettersPath::of(path), expected, "{path}");
        }
    }

    #[test]
    fn a_query_that_asks_for_something_else_is_refused() {
        let meant = selection(Some("reason=rejected&stream=a%26b&topic=&position=1:2")).expect("a selection");
        assert_eq!((meant.reason.as_deref(), meant.stream.as_deref()), (Some("rejected"), Some("a&b")));
        assert_eq!((meant.topic, meant.positions), (None, vec![LetterPosition { segment: 1, byte: 2 }]));
        for wrong in ["raeson=rejected", "position=x"] {
            assert!(selection(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(selection(None), Ok(Selection::default()));
        assert_eq!(which(Some("all=true")), Ok(Which::All));
        assert_eq!(which(Some("")), Ok(Which::Replayed));
        assert!(which(Some("all=true&reason=rejected")).is_err() && which(Some("al=true")).is_err());
    }
}
