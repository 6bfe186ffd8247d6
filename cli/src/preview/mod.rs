//! `preview`: the requests that messages become, and none sent, for people ([`show`]), for programs, or as lines for a
//! shell ([`curl`]).

mod curl;
mod show;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Args;
use iggy_connector_http_sink::{
    batch::Batch,
    config::Config,
    preview::{Preview, Previewed},
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};

use crate::{
    connector_file::{self, ConnectorFile},
    host,
    report::{self, Failure, grouped},
    run::{self, Format},
};

/// Show the requests that messages become, and send none
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink preview config.toml --input fixtures/orders.ndjson --limit 3
  iggy-http-sink preview config.toml --input orders.ndjson --limit 1 --curl --show-secrets | sh
  iggy-http-sink preview config.toml --input orders.ndjson --topic returned

Nothing goes over the network: a token of oauth2_client_credentials is shown as ACCESS_TOKEN. Where secrets are masked, the
lines of --curl make the same requests but for those. Offsets, ids and idempotency keys are those that `run --input` has.

The exit code is 0 where every message is in a request, 1 where some are in none, and 2 where the arguments or the
configuration are wrong or the input cannot be opened.")]
pub(crate) struct Arguments {
    /// The connector file, as the Iggy connectors runtime reads it
    config: PathBuf,
    /// Read messages from here, one a line; - is stdin
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// What a line is [default: what the schema in the connector file says]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Read no more messages than this
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// The stream that the messages are of [default: the first in the connector file]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// The topic that the messages are of, which says their route [default: the first in the connector file]
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Write each request as a line for a shell, which sends it
    #[arg(long, conflicts_with = "json")]
    curl: bool,
    /// Write each request as a line of JSON
    #[arg(long)]
    json: bool,
    /// Show secrets as they are
    #[arg(long)]
    show_secrets: bool,
}

impl Arguments {
    /// Where the messages come from.
    fn topic(&self, file: &ConnectorFile) -> Result<TopicMetadata, Failure> {
        let first = file.streams.first();
        let stream = self.stream.clone().or_else(|| Some(first?.stream.clone()));
        let topic = self.topic.clone().or_else(|| first?.topics.first().cloned());
        match (stream, topic) {
            (Some(stream), Some(topic)) => Ok(TopicMetadata { stream, topic }),
            _ => Err(Failure::Usage(format!("{} names no topic", file.path.display()))),
        }
    }
}

/// What was previewed.
#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    requests: u64,
    refused: u64,
    masked: bool,
}

/// Runs the command; whether every message is in a request.
///
/// # Errors
/// It cannot run at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let file = connector_file::load(&arguments.config).map_err(|why| Failure::Usage(why.to_string()))?;
    let schema = run::line_schema(&file, arguments.format)?;
    let config = Config::from_json(&file.plugin_config).map_err(|why| Failure::Usage(why.to_string()))?;
    let topic = arguments.topic(&file)?;
    // Where there is no route, there is no request either.
    let route = config.route(&topic.stream, &topic.topic).unwrap_or(&config);
    let curl = arguments.curl.then(|| curl::Options::of(route, arguments.show_secrets)).transpose()?;
    if config.spool.is_some() && route.body.mode.batches() {
        report::note("note: with a spool a body takes all that waits, and may hold more messages than here");
    }
    let end = if config.dead_letter.is_some() { "a dead letter" } else { "failed" };
    let preview = Preview::new(config, arguments.show_secrets).map_err(Failure::Usage)?;
    let mut counts = Counts::default();
    each(arguments, &file, &topic, schema, &preview, |first, previewed| {
        match &previewed {
            Previewed::Request(request) => {
                counts.requests += 1;
                counts.messages += request.messages.len() as u64;
                counts.masked |= request.masked;
            }
            Previewed::Refused { .. } => {
                counts.refused += 1;
                counts.messages += 1;
            }
        }
        let first = Numbers { first, request: counts.requests };
        match &curl {
            _ if arguments.json => report::say_json(&show::json(&previewed, first).to_string()),
            Some(options) => report::say(&curl::command(&previewed, first, options, end)),
            None => report::say(&show::text(&previewed, first, end)),
        }
    })?;
    if counts.masked {
        report::note("note: secrets are shown as ***; --show-secrets shows them as they are");
    }
    let plural =
        |count: u64, noun: &str| format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" });
    let requests = plural(counts.requests, "request");
    let sent = plural(counts.messages - counts.refused, "message");
    report::note(&format!("{requests} with {sent}; {} in none", grouped(counts.refused)));
    Ok(counts.refused == 0)
}

/// Where the messages of a batch, and a request, stand.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    /// The offset of the batch's first message.
    first: u64,
    /// The number of the request, from 1 on.
    request: u64,
}

impl Numbers {
    fn offset(self, message: usize) -> u64 {
        self.first + message as u64
    }
}

/// Reads the messages in batches, and hands on what becomes of each, with the offset of its batch.
fn each(
    arguments: &Arguments,
    file: &ConnectorFile,
    topic: &TopicMetadata,
    schema: Schema,
    preview: &Preview,
    mut take: impl FnMut(u64, Previewed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let batch_length = file.streams.first().map_or(NonZeroUsize::MIN, |entry| entry.batch_length);
    let (mut input, _) =
        run::open_input(&arguments.input, schema).map_err(|why| Failure::Usage(why.to_string()))?;
    let mut first = 0;
    loop {
        let left = arguments.limit.map_or(u64::MAX, |limit| limit - first);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(batch_length.get());
        let more = most > 0
            && input.advance(most).map_err(|why| Failure::Other(format!("the input broke off: {why}")))?;
        if !more {
            return Ok(());
        }
        let now = host::now_micros()?;
        let messages: Vec<BorrowedMessage<'_>> =
            (first..).zip(input.lines()).map(|(offset, line)| run::message(offset, line, now)).collect();
        let current_offset = messages.last().map_or(first, |last| last.offset);
        let metadata = MessagesMetadata { partition_id: 0, current_offset, schema };
        let batch = Batch::borrowed(topic, &metadata, &messages);
        for previewed in preview.of(&batch).map_err(Failure::Other)? {
            take(first, previewed)?;
        }
        first += messages.len() as u64;
    }
}
