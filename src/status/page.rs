//! The page for people: what is stuck, why, since when, and what can be done.

mod document;
mod lanes;
mod letters;

use bytesize::ByteSize;
use iggy_connector_sdk::shown;
use maud::{Markup, html};

use self::document::whole;
use super::{
    chart::chart,
    report::{ConnectorReport, DeadLetterReport, EndpointReport, SpoolReport, StatusReport},
};
use crate::telemetry::INTERVAL;

pub(super) use self::letters::{letter, letters};

pub(super) const SCRIPT: &str = include_str!("script.js");
pub(super) const STYLE: &str = include_str!("style.css");
pub(super) const ICON: &str = include_str!("icon.svg");

/// How much of the endpoint's words is shown, in bytes.
const WORDS: usize = 500;

/// Renders the page. Only with a token can something be changed.
pub(super) fn page(report: &StatusReport, can_change: bool) -> Markup {
    let title = if report.ready { "HTTP sink" } else { "Not ready - HTTP sink" };
    let status = html! {
        (summary(report))
        @for connector in &report.connectors { (self::connector(connector, can_change)) }
    };
    let footer = html! {
        p { a href="/metrics" { "Metrics" } " " a href="/api/status" { "JSON" } " " a href="/ready" { "Ready?" } }
        @if !can_change {
            p { "Set " code { "status.token" } " to pause, resume, retry, give up and replay from here." }
        }
    };
    let refresh = html! {
        // Shown by the script, which does the refreshing.
        label id="refresh" hidden { input type="checkbox" checked; " Refresh every 2 seconds" }
    };
    whole(title, &refresh, &status, &footer)
}

fn summary(report: &StatusReport) -> Markup {
    html! {
        @if report.ready {
            p class="summary good" { "Everything gets through." }
        } @else {
            div class="summary bad" {
                p { strong { "Not everything gets through:" } }
                ul { @for reason in &report.reasons { li { (shown(reason, WORDS)) } } }
            }
        }
    }
}

fn connector(connector: &ConnectorReport, can_change: bool) -> Markup {
    let heading = format!("connector-{}", connector.connector);
    html! {
        section class="connector" aria-labelledby=(heading) {
            h2 id=(heading) { "Connector " (connector.connector) }
            dl class="numbers" {
                (number("delivered", connector.delivered))
                (number("dead letters", connector.dead_lettered))
                (number("failed", connector.failed))
            }
            @for endpoint in &connector.endpoints { (self::endpoint(endpoint)) }
            @if can_change && connector.state == "open" { (actions(connector)) }
            @if let Some(spool) = &connector.spool { (self::spool(spool)) }
            (lanes::lanes(connector, can_change))
            @if let Some(letters) = &connector.dead_letters { (dead_letters(letters, connector.connector)) }
        }
    }
}

fn number(name: &str, value: u64) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn endpoint(endpoint: &EndpointReport) -> Markup {
    let per_second = |value: f64| format!("{value:.1}/s");
    let seconds = INTERVAL.as_secs_f64();
    let rates: Vec<f64> = endpoint.past.iter().map(|interval| interval.messages as f64 / seconds).collect();
    let failures: Vec<f64> =
        endpoint.past.iter().map(|interval| interval.failures as f64 / seconds).collect();
    let latencies: Vec<f64> = endpoint
        .past
        .iter()
        .map(|interval| {
            let mean = interval.took.checked_div(u32::try_from(interval.requests).unwrap_or(u32::MAX));
            mean.unwrap_or_default().as_secs_f64() * 1000.0
        })
        .collect();
    html! {
        h3 { (shown(&endpoint.endpoint, WORDS)) " " span class={ "state " (endpoint.state) } { (in_words(endpoint)) } }
        dl class="facts" {
            dt { "In flight" } dd { (endpoint.in_flight) " of " (endpoint.limit) ", " (endpoint.waiting) " waiting" }
            @if let Some(since) = &endpoint.failing_since {
                dt { "Failing since" } dd { time { (since) } ", " (endpoint.failures_in_a_row) " in a row" }
            }
            @if let Some(error) = &endpoint.last_error {
                dt { "Last error" }
                dd { @if let Some(at) = &endpoint.last_error_at { time { (at) } " " } q { (shown(error, WORDS)) } }
            }
            dt { "Last success" } dd { @if let Some(at) = &endpoint.last_success { time { (at) } } @else { "none yet" } }
        }
        div class="charts" {
            (chart("Messages delivered", &rates, per_second))
            (chart("Failed requests", &failures, per_second))
            (chart("Mean latency", &latencies, |value| format!("{value:.1} ms")))
        }
    }
}

/// The state for people.
fn in_words(endpoint: &EndpointReport) -> String {
    let state = match (endpoint.state, &endpoint.until) {
        ("breaker_open", Some(_)) => "circuit breaker open, next probe",
        ("breaker_open", None) => "circuit breaker open, a probe is in flight",
        ("paused", Some(_)) => "paused until",
        ("paused", None) => "paused by an operator",
        (state, _) => state,
    };
    endpoint.until.as_ref().map_or_else(|| state.to_owned(), |until| format!("{state} {until}"))
}

fn actions(connector: &ConnectorReport) -> Markup {
    let id = connector.connector;
    let action = |action: &str, name: &str, question: &str| {
        html! {
            form method="post" action=(format!("/connectors/{id}/{action}")) data-confirm=(question) {
                button type="submit" id=(format!("{action}-{id}")) aria-label=(format!("{name}, connector {id}")) { (name) }
            }
        }
    };
    let is_paused =
        connector.endpoints.iter().any(|endpoint| endpoint.state == "paused" && endpoint.until.is_none());
    html! {
        div class="actions" {
            (action("retry", "Retry now", "End all waits and send what is waiting now?"))
            @if is_paused {
                (action("resume", "Resume", "Resume delivery?"))
            } @else {
                (action("pause", "Pause", "Pause delivery until it is resumed?"))
            }
        }
    }
}

fn spool(spool: &SpoolReport) -> Markup {
    html! {
        h3 { "Spool" }
        p {
            (spool.messages) " messages waiting, " (ByteSize(spool.bytes)) " of " (ByteSize(spool.max_bytes)) " used"
            @if spool.waited_for_room_seconds > 0 { ", batches waited " (spool.waited_for_room_seconds) " s for space" }
            "."
        }
    }
}

fn dead_letters(letters: &DeadLetterReport, connector: u32) -> Markup {
    html! {
        h3 { "Dead letters" }
        @if let Some(bytes) = letters.bytes {
            p {
                (ByteSize(bytes)) @if let Some(max) = letters.max_bytes { " of " (ByteSize(max)) } " used. "
                @if letters.in_folder {
                    a id=(format!("letters-{connector}")) href=(format!("/connectors/{connector}/letters")) { "View them" }
                }
            }
        }
        @if letters.by_reason.is_empty() {
            p { "None since the connector was opened." }
        } @else {
            dl class="numbers" {
                @for (reason, messages) in &letters.by_reason { (number(reason, *messages)) }
            }
        }
    }
}
