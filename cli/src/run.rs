//! `run`: a user's connector file and endpoint, with input from a file or from stdin.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, TopicMetadata};

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
    let file = load(&arguments.config)?;
    let (input, size) = open_input(source)?;
    let path = match &arguments.plugin {
        Some(path) => path.clone(),
        None => host::named(&file.plugin, &file.path)?,
    };
    let plugin = OpenPlugin::open(&path, &file.plugin_config)?;
    let stopper = input.stopper();
    interrupt::at_first(move || stopper.stop())
        .map_err(|why| Failure::Other(format!("signals cannot be caught: {why}")))?;
    let outcome = stream(&file, plugin, input, size)?;
    report::say(&if arguments.json { outcome.as_json() } else { outcome.as_table() })?;
    if let Some(line) = outcome.resume_at {
        report::note(&resume_hint(line, &arguments.config, source));
    }
    Ok(outcome.good())
}

fn load(path: &Path) -> Result<ConnectorFile, Failure> {
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
    // Tells the messages of this run from those of another, which have the same offsets.
    let run = host::now_micros()?;
    let progress = Progress::start(size, Unit::Bytes);
    let broken = loop {
        let first_line = input.lines_read() + 1;
        match input.advance(stream.batch_length.get()) {
            Ok(true) => {}
            Ok(false) => break None,
            Err(why) => break Some(why),
        }
        let first = outcome.messages;
        let code = consume(&plugin, &topic, stream, &input, first, run)?;
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
    outcome.resume_at = (!input.is_complete()).then(|| input.lines_read() + 1);
    Ok(outcome)
}

/// Hands the current batch of the input to the plugin.
fn consume(
    plugin: &OpenPlugin,
    topic: &TopicMetadata,
    stream: &StreamConfig,
    input: &Input,
    first: u64,
    run: u64,
) -> Result<i32, Failure> {
    let now = host::now_micros()?;
    let messages: Vec<BorrowedMessage<'_>> = (first..)
        .zip(input.lines())
        .map(|(offset, payload)| BorrowedMessage {
            id: u128::from(run) << 64 | u128::from(offset),
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
