//! `demo`: runs the plugin on real input, against a local endpoint.

mod endpoint;
mod verify;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use serde_json::json;

use self::{
    endpoint::Endpoint,
    verify::{Faults, Sent, Verdict, Verifier},
};
use crate::{
    host::{self, OpenPlugin},
    mode::Mode,
    terminal::report::{self, Failure, Progress, Unit, grouped, rate},
};

const ORDERS: &[u8] = include_bytes!("../../../fixtures/orders.ndjson");
const BATCH: u64 = 1000;
const PARTITIONS: u64 = 2;
/// Bodies are checked, outside of the time that is measured, once they take this much memory.
const CHECK_AT: usize = 64 << 20;

/// Send 10,000 orders through the plugin to a local endpoint, and check what arrived
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  iggy-http-sink demo --mode json_array --messages 1000000")]
pub(crate) struct Arguments {
    /// How messages are put into requests
    #[arg(long, value_enum, default_value_t = Mode::NdJson)]
    mode: Mode,
    /// How many messages to send [default: all 10,000]; beyond that, the orders are repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    messages: Option<u64>,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
    /// The plugin [default: the one built with this program]
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
}

/// The result of a run.
#[derive(Debug)]
struct Outcome {
    messages: u64,
    requests: u64,
    bytes: u64,
    failed_batches: u64,
    time: Duration,
    verdict: Verdict,
    plugin: (String, String),
}

impl Outcome {
    fn good(&self) -> bool {
        self.failed_batches == 0 && self.verdict.exactly_once() && self.verdict.byte_for_byte()
    }
}

/// Runs the command; whether everything arrived.
///
/// # Errors
/// It cannot run at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let path = arguments.plugin.clone().map_or_else(host::built, Ok)?;
    let orders: Vec<&[u8]> = ORDERS.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let messages = arguments.messages.unwrap_or(orders.len() as u64);
    let sent = Sent { payloads: &orders, messages, batch: BATCH, partitions: PARTITIONS };
    let outcome = stream(&path, sent, arguments.mode)?;
    if arguments.json {
        report::say_json(&as_json(&outcome, arguments.mode))?;
    } else {
        report::say(&as_table(&outcome))?;
    }
    Ok(outcome.good())
}

fn stream(path: &std::path::Path, sent: Sent<'_>, mode: Mode) -> Result<Outcome, Failure> {
    let endpoint = Endpoint::start().map_err(|why| Failure::Other(format!("starting an endpoint: {why}")))?;
    let plugin = OpenPlugin::open(path, &json!({ "url": endpoint.url(), "batch_mode": mode.name() }))?;
    let identity = plugin.identity();
    let topic = TopicMetadata { stream: "demo".to_owned(), topic: "orders".to_owned() };
    let now = host::now_micros()?;

    let mut verifier = Verifier::new(sent, mode);
    let (mut requests, mut bytes, mut failed_batches) = (0, 0, 0);
    let mut take = || {
        let arrived = endpoint.take();
        requests += arrived.bodies.len() as u64;
        bytes += arrived.bytes as u64;
        arrived.bodies.iter().for_each(|body| verifier.body(body));
    };
    let mut time = Duration::ZERO;
    let progress = Progress::start(Some(sent.messages), Unit::Messages);
    let mut first = 0;
    while first < sent.messages {
        let end = sent.messages.min(first + BATCH);
        let start = Instant::now();
        if consume(&plugin, &topic, sent, first..end, now) != 0 {
            failed_batches += 1;
        }
        time += start.elapsed();
        progress.set(end);
        if endpoint.waiting_bytes() > CHECK_AT {
            take();
        }
        first = end;
    }
    plugin.close()?;
    take();
    drop(progress);
    let verdict = verifier.finish();
    Ok(Outcome { messages: sent.messages, requests, bytes, failed_batches, time, verdict, plugin: identity })
}

/// Passes one batch of one partition to the plugin.
fn consume(
    plugin: &OpenPlugin,
    topic: &TopicMetadata,
    sent: Sent<'_>,
    numbers: std::ops::Range<u64>,
    now: u64,
) -> i32 {
    let (partition, _) = sent.position(numbers.start);
    let (_, current_offset) = sent.position(numbers.end - 1);
    let batch: Vec<BorrowedMessage<'_>> = numbers
        .map(|number| BorrowedMessage {
            id: u128::from(now) << 64 | u128::from(number),
            offset: sent.position(number).1,
            checksum: 0,
            timestamp: now,
            origin_timestamp: now,
            headers: &[],
            payload: sent.payload(number),
        })
        .collect();
    let partition_id = u32::from(partition == 1);
    plugin.consume(topic, &MessagesMetadata { partition_id, current_offset, schema: Schema::Json }, &batch)
}

fn as_table(outcome: &Outcome) -> String {
    let Outcome { verdict, time, .. } = outcome;
    let per_second = rate(outcome.messages, *time);
    let mebibytes = outcome.bytes as f64 / f64::from(1 << 20);
    let mut rows = vec![
        ("messages", grouped(outcome.messages)),
        ("requests", grouped(outcome.requests)),
        ("bytes", grouped(outcome.bytes)),
        ("time", format!("{:.3} s", time.as_secs_f64())),
        (
            "rate",
            format!(
                "{}, {:.1} MiB/s",
                report::messages_per_second(per_second),
                mebibytes / time.as_secs_f64().max(1e-9)
            ),
        ),
        ("each order exactly once", yes(verdict.exactly_once())),
        ("byte for byte", yes(verdict.byte_for_byte())),
    ];
    if outcome.failed_batches > 0 {
        rows.push(("failed batches", grouped(outcome.failed_batches)));
    }
    let mut text = report::table(&rows);
    if cfg!(debug_assertions) {
        text += "\na debug build: a release build (--release) is many times as fast";
    }
    for (what, faults) in named(verdict) {
        if faults.count > 0 {
            text += &["\n", what, " ", &faults.to_string()].concat();
        }
    }
    text
}

fn named(verdict: &Verdict) -> [(&'static str, &Faults); 4] {
    [
        ("missing", &verdict.missing),
        ("duplicated", &verdict.duplicated),
        ("changed", &verdict.changed),
        ("unknown", &verdict.unknown),
    ]
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn as_json(outcome: &Outcome, mode: Mode) -> String {
    let mut value = json!({
        "mode": mode.name(),
        "messages": outcome.messages,
        "requests": outcome.requests,
        "bytes": outcome.bytes,
        "seconds": outcome.time.as_secs_f64(),
        "messages_per_second": rate(outcome.messages, outcome.time),
        "failed_batches": outcome.failed_batches,
        "exactly_once": outcome.verdict.exactly_once(),
        "byte_for_byte": outcome.verdict.byte_for_byte(),
        "plugin": outcome.plugin.0,
        "plugin_version": outcome.plugin.1,
    });
    for (what, faults) in named(&outcome.verdict) {
        value[what] = json!({ "count": faults.count, "first": faults.named });
    }
    value.to_string()
}
