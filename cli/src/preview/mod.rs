//! `preview`: prints the requests that messages become, without sending them: for people ([`show`]), for programs, or as
//! lines for a shell ([`curl`]).

mod curl;
mod show;

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Args;
use iggy_connector_http_sink::{
    batch::Batch,
    config::Config,
    preview::{Preview, Previewed},
};
use iggy_connector_sdk::{MessagesMetadata, Schema, TopicMetadata};

use self::show::Numbers;
use crate::{
    connector_file::{self, ConnectorFile},
    run::{self, Format, Selection},
    terminal::report::{self, Failure, grouped},
};

/// Print the requests that messages become, without sending them
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink preview config.toml --input fixtures/orders.ndjson --limit 3
  iggy-http-sink preview config.toml --input orders.ndjson --limit 1 --curl --show-secrets | sh
  iggy-http-sink preview config.toml --input orders.ndjson --topic returned

Nothing goes over the network: a token of oauth2_client_credentials is shown as ACCESS_TOKEN. Except for masked secrets, the \
lines of --curl make the same requests. Offsets, ids and idempotency keys are those of `run --input`.

The exit code is 0 if every message is in a request, 1 if some are in none, and 2 if the arguments or the configuration are \
wrong or the input cannot be opened.")]
pub(crate) struct Arguments {
    /// The connector file, as the Iggy connectors runtime reads it
    config: PathBuf,
    /// Read messages from here, one per line; - is stdin
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// What a line contains [default: what the schema in the connector file says]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The identity of this input, as for `run`
    #[arg(long, value_name = "ID")]
    input_id: Option<String>,
    /// Read at most this many messages
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// The stream that the messages come from [default: the first in the connector file]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// The topic that the messages come from, which selects their route [default: the first in the connector file]
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Write each request as a `curl` command that sends it
    #[arg(long, conflicts_with = "json")]
    curl: bool,
    /// Write each request as a line of JSON
    #[arg(long)]
    json: bool,
    /// Do not mask secrets
    #[arg(long)]
    show_secrets: bool,
}

impl Arguments {
    /// Returns the stream and topic of the messages.
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

/// The counts of what was previewed.
#[derive(Debug, Default)]
struct Counts {
    messages: u64,
    requests: u64,
    refused: u64,
    masked: bool,
}

/// Runs the command. Returns whether every message is in a request.
///
/// # Errors
/// It cannot run at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let file = connector_file::load(&arguments.config).map_err(|why| Failure::Usage(why.to_string()))?;
    let schema = run::line_schema(&file, arguments.format)?;
    let config = Config::from_json(&file.plugin_config).map_err(|why| Failure::Usage(why.to_string()))?;
    let topic = arguments.topic(&file)?;
    // If there is no route, there is no request either.
    let route = config.route(&topic.stream, &topic.topic).unwrap_or(&config);
    let curl = arguments.curl.then(|| curl::Options::of(route, arguments.show_secrets)).transpose()?;
    if config.spool.is_some() && route.body.mode.batches() {
        report::note("note: with a spool a body takes all that waits, and may hold more messages than here");
    }
    let end = if config.dead_letter.is_some() { "a dead letter" } else { "failed" };
    let preview = Preview::new(config, arguments.show_secrets).map_err(Failure::Usage)?;
    let mut counts = Counts::default();
    each(arguments, &file, &topic, schema, &preview, |offsets, previewed| {
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
        let numbers = Numbers { offsets, request: counts.requests };
        match &curl {
            _ if arguments.json => report::say_json(&show::json(&previewed, numbers).to_string()),
            Some(options) => report::say(&curl::command(&previewed, numbers, options, end)),
            None => report::say(&show::text(&previewed, numbers, end)),
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

/// Reads the messages in batches, and passes on the result of each, with the offsets of its batch.
fn each(
    arguments: &Arguments,
    file: &ConnectorFile,
    topic: &TopicMetadata,
    schema: Schema,
    preview: &Preview,
    mut take: impl FnMut(&[u64], Previewed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let batch_length = file.streams.first().map_or(NonZeroUsize::MIN, |entry| entry.batch_length);
    let run::Opened { input, id, .. } =
        run::open_input(&arguments.input, schema, arguments.input_id.as_deref())?;
    let mut input = input.with_selection(&Selection::default(), arguments.limit);
    while input
        .advance(batch_length.get())
        .map_err(|why| Failure::Other(format!("the input broke off: {why}")))?
    {
        let messages = run::messages(&input, &id)?;
        let current_offset = messages.last().map_or(0, |last| last.offset);
        let offsets: Vec<u64> = messages.iter().map(|message| message.offset).collect();
        let metadata = MessagesMetadata { partition_id: 0, current_offset, schema };
        let batch = Batch::borrowed(topic, &metadata, &messages);
        for previewed in preview.of(&batch).map_err(Failure::Other)? {
            take(&offsets, previewed)?;
        }
    }
    Ok(())
}
