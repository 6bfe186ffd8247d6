//! The table of lanes.

use bytesize::ByteSize;
use iggy_connector_sdk::shown;
use maud::{Markup, html};

use crate::{
    batch::LONGEST_NAME,
    status::report::{ConnectorReport, HeadReport, LaneReport},
};

/// How many rows there are; `/api/status` has all.
const ROWS: usize = 60;
/// How many heads of a lane are shown.
const HEADS: usize = 10;
/// How much of the endpoint's words is shown, in bytes.
const WORDS: usize = 120;

/// The lanes of a connector, with what an operator can give up.
pub(super) fn lanes(connector: &ConnectorReport, can_change: bool) -> Markup {
    let label = format!("Lanes of connector {}", connector.connector);
    let (mut shown, mut rows) = (Vec::new(), 0);
    for lane in &connector.lanes {
        if rows >= ROWS {
            break;
        }
        let heads = lane.heads.len().clamp(1, HEADS).min(ROWS - rows);
        rows += heads;
        shown.push((lane, heads));
    }
    let left = connector.lanes.len() - shown.len();
    html! {
        @if !connector.lanes.is_empty() {
            h3 { "Lanes" }
            div class="scroll" role="region" tabindex="0" aria-label=(label) {
                table {
                    thead { tr {
                        th scope="col" { "Stream" } th scope="col" { "Topic" } th scope="col" { "Partition" }
                        th scope="col" { "Messages" } th scope="col" { "Oldest" } th scope="col" { "Head" }
                        th scope="col" { "Why it waits" }
                    } }
                    tbody { @for (lane, heads) in shown { (self::lane(connector, lane, heads, can_change)) } }
                }
            }
            @if left > 0 {
                p { "and " (left) " more lanes: " a href="/api/status" { "all as JSON" } }
            }
        }
    }
}

/// A row for each of the first `heads` heads, or one if there is none.
fn lane(connector: &ConnectorReport, lane: &LaneReport, heads: usize, can_change: bool) -> Markup {
    let left = lane.heads.len() - heads.min(lane.heads.len()) + lane.heads_left_out;
    html! {
        tr {
            td rowspan=(heads) { (shown(&lane.stream, LONGEST_NAME)) }
            td rowspan=(heads) { (shown(&lane.topic, LONGEST_NAME)) }
            td rowspan=(heads) { @if let Some(partition) = lane.partition { (partition) } @else { "several" } }
            td rowspan=(heads) {
                (lane.messages) @if let Some(bytes) = lane.bytes { ", " (ByteSize(bytes)) }
                @if left > 0 { ", " (left) " more heads" }
            }
            td rowspan=(heads) { @if let Some(seconds) = lane.oldest_seconds { (age(seconds)) } }
            // The reason for the whole lane, or the only head.
            @if let Some(head) = lane.heads.first() {
                @let words = if lane.heads.len() == 1 { lane.waits.as_ref() } else { None }.unwrap_or(&head.why);
                (self::head(connector, lane, head, words, can_change))
            } @else {
                td {}
                td {
                    @if let Some(why) = &lane.waits {
                        (shown(why, WORDS)) @if let Some(until) = &lane.until { ", until " time { (until) } }
                    }
                }
            }
        }
        @for head in lane.heads.iter().take(heads).skip(1) {
            tr { (self::head(connector, lane, head, &head.why, can_change)) }
        }
    }
}

/// The cells of a head.
fn head(
    connector: &ConnectorReport,
    lane: &LaneReport,
    head: &HeadReport,
    why: &str,
    can_change: bool,
) -> Markup {
    html! {
        td { (head.in_words()) @if can_change { " " (give_up(connector, lane, head)) } }
        td {
            (shown(why, WORDS)) "; since " time { (head.since) } ", "
            @if head.given_up { "given up" } @else { "next " time { (head.next_attempt) } }
        }
    }
}

fn give_up(connector: &ConnectorReport, lane: &LaneReport, head: &HeadReport) -> Markup {
    let (id, number) = (connector.connector, head.head);
    let what = format!(
        "{} of {}, {}, partition {}",
        head.in_words(),
        shown(&lane.stream, LONGEST_NAME),
        shown(&lane.topic, LONGEST_NAME),
        head.partition
    );
    let then = if connector.dead_letters.is_some() {
        "It goes to the dead letters."
    } else {
        "Dead letters are off: it is lost, and the log names it."
    };
    html! {
        form method="post" action=(format!("/connectors/{id}/heads/{number}/give_up"))
            data-confirm=(format!("Give up {what}? {then}")) {
            button type="submit" id=(format!("give-up-{id}-{number}")) disabled[head.given_up]
                aria-label=(format!("Give up {what}")) { "Give up" }
        }
    }
}

fn age(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> HeadReport {
        HeadReport {
            head: number,
            partition: 7,
            first_offset: 123_456_789,
            last_offset: 123_456_789,
            messages: 1,
            attempts: 17,
            since: "2026-11-26T03:00:00Z".to_owned(),
            why: format!("attempt 7 answered 503 Service Unavailable: {}", "<b>&\"".repeat(40)),
            next_attempt: "2026-11-26T03:00:00Z".to_owned(),
            given_up: false,
        }
    }

    fn lane(partition: u32, heads: u64) -> LaneReport {
        LaneReport {
            stream: "orders<script>".to_owned(),
            topic: "created\u{202e}".to_owned(),
            partition: Some(partition),
            messages: 12_345_678,
            bytes: Some(1 << 30),
            oldest_seconds: Some(123_456),
            waits: Some(head(1).why),
            until: Some("2026-11-26T03:00:00Z".to_owned()),
            heads: (0..heads).map(head).collect(),
            heads_left_out: 0,
        }
    }

    fn shown(lanes: Vec<LaneReport>) -> String {
        super::lanes(&ConnectorReport { lanes, ..ConnectorReport::opening(1) }, true).into_string()
    }

    /// Of a thousand lanes the page shows those that come first, and what comes from outside stays text.
    #[test]
    fn a_thousand_lanes_make_no_large_page() {
        let page = shown((0..1000).map(|partition| lane(partition, 1)).collect());
        assert!(page.len() < 95_000, "{}", page.len());
        assert!(page.contains("and 940 more lanes") && page.contains("orders&lt;script&gt;"));
        assert!(!page.contains("<b>") && !page.contains("orders<") && !page.contains('\u{202e}'));
    }

    #[test]
    fn many_heads_of_a_lane_leave_room_for_others() {
        let page = shown(vec![lane(1, 50), lane(2, 0)]);
        assert_eq!(page.matches("/give_up\"").count(), HEADS);
        assert!(page.contains("40 more heads") && page.matches("rowspan=\"1\"").count() == 5, "{page}");
    }
}
