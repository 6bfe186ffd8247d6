//! `run`: a user's connector file and endpoint, with input from a file or from stdin.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, ValueEnum};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};

use crate::{
    check,
    connector_file::{ConnectorFile, StreamConfig, environment_variables},
    host::{self, OpenPlugin},
    interrupt,
    lines::Input,
    outcome::Outcome,
    report::{self, Failure, Progress, Unit},
};

/// Send messages from a file or from stdin, as a connector file says
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  iggy-http-sink run config.toml --input fixtures/orders.ndjson")]
pub(crate) struct Arguments {
    /// The connector file, as the Iggy connectors runtime reads it
    config: PathBuf,
    /// Where messages come from, one a line; - is stdin
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// What a line is [default: what the schema in the connector file says]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The plugin [default: the one that the connector file names]
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
    /// Stop at the end of the input; with --input this is always so
    #[arg(long)]
    once: bool,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A JSON value
    Json,
    /// Text
    Text,
    /// Bytes; a carriage return at the end is one of them
    Raw,
}

impl Format {
    fn schema(self) -> Schema {
        match self {
            Self::Json => Schema::Json,
            Self::Text => Schema::Text,
            Self::Raw => Schema::Raw,
        }
    }
}

/// What consume returns when an interrupt closed the connector just before.
const CLOSED: i32 = -1;

/// Runs the command; whether everything was settled well.
///
/// # Errors
/// It cannot run at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let Some(source) = &arguments.input else {
        return Err(Failure::Usage(
            "input straight from Iggy is not available in this version: name a file with --input FILE, or pipe \
             messages in with --input -"
                .to_owned(),
        ));
    };
    let mut file = load(&arguments.config)?;
    let schema = line_schema(&file, arguments.format)?;
    if let Some(stream) = file.streams.first_mut() {
        stream.schema = schema;
    }
    let (mut input, size) = open_input(source)?;
    if schema == Schema::Raw {
        input = input.with_carriage_returns();
    }
    let path = match &arguments.plugin {
        Some(path) => path.clone(),
        None => host::named(&file.plugin, &file.path)?,
    };
    let plugin = OpenPlugin::open(&path, &file.plugin_config)?;
    let (stopper, closer) = (input.stopper(), plugin.closer());
    let stop = move || {
        stopper.stop();
        // The batch on its way ends within close_timeout, even where the endpoint is away for longer. How it
        // went is told by whoever reports.
        let _ = closer.close();
    };
    interrupt::at_first(stop).map_err(|why| Failure::Other(format!("signals cannot be caught: {why}")))?;
    let outcome = stream(&file, plugin, input, size)?;
    report::say(&if arguments.json { outcome.as_json() } else { outcome.as_table() })?;
    if let Some(line) = outcome.resume_at {
        report::note(&resume_hint(line, &arguments.config, source));
    }
    Ok(outcome.good())
}

/// The connector file, its warnings told.
///
/// # Errors
/// It has mistakes; the message lists them.
pub(crate) fn load(path: &Path) -> Result<ConnectorFile, Failure> {
    let file = ConnectorFile::load(path, environment_variables()).map_err(|problems| {
        let count = problems.len();
        let plural = if count == 1 { "" } else { "s" };
        Failure::Other(format!(
            "{count} problem{plural} in the configuration\n{}",
            check::lines(&problems, path)
        ))
    })?;
    for warning in &file.warnings {
        report::note(&format!("warning: {}", warning.in_file(path)));
    }
    if !file.enabled {
        report::note(&format!(
            "note: {} has enabled = false: the Iggy runtime does not start `{}`",
            path.display(),
            file.key
        ));
    }
    Ok(file)
}

/// How the plugin is to read the payloads.
fn line_schema(file: &ConnectorFile, format: Option<Format>) -> Result<Schema, Failure> {
    let configured = file.streams.first().map_or(Schema::Json, |stream| stream.schema);
    match (format, configured) {
        (Some(format), _) => Ok(format.schema()),
        (None, Schema::Json | Schema::Text | Schema::Raw) => Ok(configured),
        (None, Schema::Proto | Schema::FlatBuffer | Schema::Avro) => Err(Failure::Usage(format!(
            "{} has the schema {configured}, which does not come in lines: say what they are with --format json, \
             text or raw",
            file.path.display()
        ))),
    }
}

/// The input, and its size in bytes where it has one.
fn open_input(source: &Path) -> Result<(Input, Option<u64>), Failure> {
    if source == Path::new("-") {
        return Ok((Input::new(io::stdin()), None));
    }
    let wrong = |why: io::Error| Failure::Other(format!("{} cannot be read: {why}", source.display()));
    let file = File::open(source).map_err(wrong)?;
    let about = file.metadata().map_err(wrong)?;
    if about.is_dir() {
        return Err(Failure::Other(format!("{} is a folder: name a file", source.display())));
    }
    Ok((Input::new(file), about.is_file().then_some(about.len())))
}

fn stream(
    file: &ConnectorFile,
    plugin: OpenPlugin,
    mut input: Input,
    size: Option<u64>,
) -> Result<Outcome, Failure> {
    let Some((stream, topic)) = file.streams.first().and_then(|entry| Some((entry, entry.topics.first()?)))
    else {
        return Err(Failure::Other(format!("{} names no topic", file.path.display())));
    };
    let topic = TopicMetadata { stream: stream.stream.clone(), topic: topic.clone() };
    let mut outcome = Outcome::default();
    let start = Instant::now();
    let progress = Progress::start(size, Unit::Bytes);
    let broken = loop {
        let first_line = input.lines_read() + 1;
        match input.advance(stream.batch_length.get()) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(why) => break Some(why),
        }
        let first = outcome.messages;
        let code = consume(&plugin, &topic, stream, &input, first)?;
        if code == CLOSED && plugin.is_closed() {
            outcome.resume_at = Some(first_line);
            break None;
        }
        outcome.add(first_line..=input.lines_read(), input.lines().len() as u64, code);
        progress.set(input.bytes());
    };
    let closed = plugin.close();
    outcome.time = start.elapsed();
    drop(progress);
    outcome.empty_lines = input.empty_lines();
    if let Some(why) = broken {
        outcome.errors.push(format!("the input broke off: {why}"));
    }
    if let Err(why) = closed {
        outcome.errors.push(why.to_string());
    }
    if outcome.resume_at.is_none() && !input.is_complete() {
        outcome.resume_at = Some(input.lines_read() + 1);
    }
    Ok(outcome)
}

/// Hands the current batch of the input to the plugin.
fn consume(
    plugin: &OpenPlugin,
    topic: &TopicMetadata,
    stream: &StreamConfig,
    input: &Input,
    first: u64,
) -> Result<i32, Failure> {
    let now = host::now_micros()?;
    let messages: Vec<BorrowedMessage<'_>> = (first..)
        .zip(input.lines())
        .map(|(offset, payload)| BorrowedMessage {
            id: message_id(offset, payload),
            offset,
            checksum: 0,
            timestamp: now,
            origin_timestamp: now,
            headers: &[],
            payload,
        })
        .collect();
    let current_offset = messages.last().map_or(first, |last| last.offset);
    let metadata = MessagesMetadata { partition_id: 0, current_offset, schema: stream.schema };
    Ok(plugin.consume(topic, &metadata, &messages))
}

/// The same for the same message at the same offset, so that an endpoint knows what is sent once more after a failed
/// run; another for other input, so that it does not take that for a repetition.
fn message_id(offset: u64, payload: &[u8]) -> u128 {
    // Odd and without a pattern in its bits: the fraction of the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(SPREAD);
        // Both halves, so that every bit of the word has a say in every bit of the hash.
        #[expect(clippy::cast_possible_truncation)]
        let folded = (product >> 64) as u64 ^ product as u64;
        folded.wrapping_add(SPREAD)
    };
    let (words, rest) = payload.as_chunks::<8>();
    let mut hash = mix(0, payload.len() as u64);
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = mix(hash, u64::from_le_bytes(last));
    u128::from(hash) << 64 | u128::from(offset)
}

fn resume_hint(line: u64, config: &Path, source: &Path) -> String {
    let source = source.display();
    let config = config.display();
    if source.to_string() == "-" {
        format!("stopped: resume at line {line} of the input")
    } else {
        format!(
            "stopped: resume at line {line}: tail -n +{line} {source} | iggy-http-sink run {config} --input -"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_stable_and_tell_messages_apart() {
        assert_eq!(message_id(3, b"{\"n\":1}"), message_id(3, b"{\"n\":1}"));
        let payloads: Vec<Vec<u8>> = (0..20_000_u32).map(|n| format!("{{\"n\":{n}}}").into()).collect();
        let zeros = (0..40).map(|length| vec![0; length]);
        let ids: HashSet<u128> =
            payloads.iter().cloned().chain(zeros).map(|payload| message_id(7, &payload)).collect();
        assert_eq!(ids.len(), 20_040);
        assert_ne!(message_id(1, b"x"), message_id(2, b"x"));
    }
}
