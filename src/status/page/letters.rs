//! The page that lists dead letters, and the page of one.

use iggy_connector_sdk::shown;
use maud::{Markup, html};
use url::form_urlencoded::Serializer;

use super::document::document;
use crate::{
    batch::LONGEST_NAME,
    dead_letter::{Entry, Record, Selection, reasons},
    status::letters::{LISTED, Listed, ReplayReport},
};

/// How much is shown of the endpoint's words, in a list and on its own page, and of a payload or a header, in bytes.
const WORDS: usize = 120;
const ANSWER: usize = 4096;
const PAYLOAD: usize = 4096;
const HEADER: usize = 500;

/// The list of the selected letters.
pub(in crate::status) fn letters(
    connector: u32,
    listed: &Listed,
    selection: &Selection,
    replay: Option<&ReplayReport>,
    can_change: bool,
) -> Markup {
    let (of, query) = (format!("/connectors/{connector}/letters"), query(selection));
    document(
        &format!("Dead letters of connector {connector}"),
        html! {
            h2 { "Dead letters of connector " (connector) }
            (summary(&of, listed))
            (filter(&of, selection))
            @if let Some(replay) = replay { (self::replay(replay)) }
            p {
                (listed.meant) " letters match, " (listed.waiting) " of them were never replayed"
                @if listed.meant > LISTED as u64 { "; the newest " (LISTED) " are shown" }
                "."
            }
            @if can_change && listed.all.letters > 0 { (actions(&of, &query, listed)) }
            @if !listed.letters.is_empty() { (table(&of, &listed.letters)) }
        },
    )
}

/// One letter in full, except for long parts.
pub(in crate::status) fn letter(connector: u32, entry: &Entry, can_change: bool) -> Markup {
    let of = format!("/connectors/{connector}/letters");
    let position = entry.position.to_string();
    let replay = format!("{of}/replay?position={position}");
    document(
        &format!("Dead letter {position}"),
        html! {
            p { a href=(of) { "Back to all dead letters" } }
            h2 { "Dead letter " (position) }
            @match &entry.record {
                Ok(record) => { (facts(record, entry.replayed)) }
                Err(why) => { p { (shown(why, ANSWER)) } }
            }
            @if can_change && entry.record.is_ok() && !entry.replayed {
                (button(&replay, "Replay", "Send this letter again?"))
            }
        },
    )
}

fn facts(record: &Record, replayed: bool) -> Markup {
    let name = |name: &str| shown(name, LONGEST_NAME).to_string();
    html! {
        dl class="facts" {
            dt { "Reason" } dd { (name(&record.reason)) @if replayed { ", replayed since" } }
            dt { "When" } dd { time { (name(&record.time)) } }
            dt { "Answer" } dd {
                @if let Some(status) = record.status { (status) " " }
                q { (shown(&record.answer, ANSWER)) }
            }
            dt { "Attempts" } dd { (record.attempts) }
            dt { "Endpoint" } dd { (shown(&record.url, ANSWER)) }
            dt { "Stream" } dd { (name(&record.stream)) }
            dt { "Topic" } dd { (name(&record.topic)) }
            dt { "Partition" } dd { (record.partition) }
            dt { "Offset" } dd { (record.offset) }
            dt { "Id" } dd { (name(&record.id)) }
            @for (key, value) in &record.headers {
                dt { "Header " (shown(key, LONGEST_NAME)) } dd { (shown(value, HEADER)) }
            }
            dt { "Payload" } dd {
                (format!("{:?}", record.schema)) ", stored as " (format!("{:?}", record.payload_encoding))
                ", " (record.payload.get().len()) " bytes"
            }
        }
        pre tabindex="0" role="region" aria-label="Payload" { (shown(record.payload.get(), PAYLOAD)) }
    }
}

/// The counts by reason and topic, each with a link that selects it.
fn summary(of: &str, listed: &Listed) -> Markup {
    html! {
        @if listed.all.by.is_empty() { p { "There are none." } } @else {
            div class="scroll" role="region" tabindex="0" aria-label="Dead letters by reason and topic" { table {
                thead { tr {
                    th scope="col" { "Reason" } th scope="col" { "Stream" } th scope="col" { "Topic" }
                    th scope="col" { "Letters" } th scope="col" { "Never replayed" }
                    th scope="col" { "Oldest" } th scope="col" { "Newest" }
                } }
                tbody { @for ((reason, stream, topic), count) in &listed.all.by {
                    @let chosen = Selection {
                        reason: Some(reason.clone()), stream: Some(stream.clone()), topic: Some(topic.clone()),
                        ..Selection::default()
                    };
                    tr {
                        td { a href=(format!("{of}?{}", query(&chosen))) { (shown(reason, LONGEST_NAME)) } }
                        td { (shown(stream, LONGEST_NAME)) } td { (shown(topic, LONGEST_NAME)) }
                        td { (count.letters) } td { (count.waiting) }
                        td { time { (shown(&count.first, WORDS)) } } td { time { (shown(&count.last, WORDS)) } }
                    }
                } }
            } }
        }
    }
}

fn filter(of: &str, selection: &Selection) -> Markup {
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    html! {
        form class="filter" method="get" action=(of) {
            label { "Reason " select name="reason" {
                option value="" { "any" }
                @for reason in reasons() {
                    option value=(reason) selected[selection.reason.as_deref() == Some(*reason)] { (reason) }
                }
            } }
            label { "Stream " input name="stream" value=(value(&selection.stream)); }
            label { "Topic " input name="topic" value=(value(&selection.topic)); }
            button type="submit" { "Show" }
        }
    }
}

fn replay(replay: &ReplayReport) -> Markup {
    html! {
        div class="summary" role="status" {
            p {
                @if replay.running { "A replay is running: " } @else { "The last replay ended: " }
                (replay.delivered) " delivered, " (replay.failed) " failed again"
                @if replay.unreadable > 0 { ", " (replay.unreadable) " unreadable" } "."
                @if let Some(why) = &replay.stopped { " It stopped early: " (shown(why, ANSWER)) }
            }
            @if !replay.failures.is_empty() {
                ul { @for (position, why) in &replay.failures { li { (position) ": " (shown(why, ANSWER)) } } }
            }
        }
    }
}

fn actions(of: &str, query: &str, listed: &Listed) -> Markup {
    let never = listed.all.letters - listed.all.replayed;
    html! {
        div class="actions" {
            @if listed.waiting > 0 {
                (button(&format!("{of}/replay?{query}"), &format!("Replay {}", listed.waiting),
                    &format!("Send {} letters again?", listed.waiting)))
            }
            @if !query.is_empty() && listed.meant > 0 {
                (button(&format!("{of}/purge?{query}"), &format!("Remove {}", listed.meant),
                    &format!("Remove these {} letters? {} of them were never replayed and would be lost for good.", listed.meant, listed.waiting)))
            }
            @if listed.all.replayed > 0 {
                (button(&format!("{of}/purge"), "Remove what was replayed",
                    "Remove the files whose letters were all replayed?"))
            }
            (button(&format!("{of}/purge?all=true"), "Remove all",
                &format!("Remove all letters? {never} of them were never replayed and would be lost for good.")))
        }
    }
}

fn button(action: &str, name: &str, question: &str) -> Markup {
    html! {
        form method="post" action=(action) data-confirm=(question) { button type="submit" { (name) } }
    }
}

fn table(of: &str, letters: &[Entry]) -> Markup {
    html! {
        div class="scroll" role="region" tabindex="0" aria-label="Dead letters" { table {
            thead { tr {
                th scope="col" { "Position" } th scope="col" { "When" } th scope="col" { "Reason" } th scope="col" { "Status" }
                th scope="col" { "From" } th scope="col" { "Answer" } th scope="col" { "State" }
            } }
            tbody { @for entry in letters { tr {
                td { a href=(format!("{of}/{}", entry.position)) { (entry.position) } }
                @match &entry.record {
                    Ok(record) => {
                        td { time { (shown(&record.time, WORDS)) } } td { (shown(&record.reason, WORDS)) }
                        td { @if let Some(status) = record.status { (status) } }
                        td {
                            (shown(&record.stream, LONGEST_NAME)) ", " (shown(&record.topic, LONGEST_NAME))
                            ", partition " (record.partition) ", offset " (record.offset)
                        }
                        td { (shown(&record.answer, WORDS)) }
                    }
                    Err(why) => { td colspan="5" { (shown(why, WORDS)) } }
                }
                td { @if entry.replayed { "replayed" } @else { "not replayed" } }
            } } }
        } }
    }
}

/// A selection as a query.
fn query(selection: &Selection) -> String {
    let Selection { reason, stream, topic, .. } = selection;
    let mut query = Serializer::new(String::new());
    for (name, value) in [("reason", reason), ("stream", stream), ("topic", topic)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.finish()
}
