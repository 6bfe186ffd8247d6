//! Messages from the lines of a file or of stdin.

use std::{
    fs::File,
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{
    config::{Config, SpoolConfig},
    spool,
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};

use crate::{
    connector_file::{ConnectorFile, StreamConfig},
    host::{self, OpenPlugin},
    interrupt,
    report::{self, Failure, Progress, Unit},
};

use super::{Arguments, Format, lines::Input, outcome::Outcome};

/// What consume returns when an interrupt closed the connector just before.
const CLOSED: i32 = -1;

/// Sends all lines of `source`; whether everything was settled well.
///
/// # Errors
/// It cannot begin at all.
pub(super) fn run(arguments: &Arguments, source: &Path, mut file: ConnectorFile) -> Result<bool, Failure> {
    let schema = line_schema(&file, arguments.format)?;
    if let Some(stream) = file.streams.first_mut() {
        stream.schema = schema;
    }
    let (input, size) = open_input(source, schema)?;
    let plugin = super::open(arguments, &file)?;
    let (stopper, closer) = (input.stopper(), plugin.closer());
    let stop = move || {
        stopper.stop();
        // The batch on its way ends within close_timeout, even where the endpoint is away for longer. How it
        // went is told by whoever reports.
        let _ = closer.close();
    };
    interrupt::at_first(stop).map_err(|why| Failure::Other(format!("signals cannot be caught: {why}")))?;
    let outcome = stream(&file, plugin, input, size)?;
    if arguments.json {
        report::say_json(&outcome.as_json())?;
    } else {
        report::say(&outcome.as_table())?;
    }
    if let Some(line) = outcome.resume_at {
        report::note(&resume_hint(line, &arguments.config, source));
    }
    Ok(outcome.good())
}

/// How the plugin is to read the payloads.
pub(crate) fn line_schema(file: &ConnectorFile, format: Option<Format>) -> Result<Schema, Failure> {
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
///
/// # Errors
/// It cannot be opened.
pub(crate) fn open_input(source: &Path, schema: Schema) -> Result<(Input, Option<u64>), Failure> {
    // Of bytes none is to be lost.
    let as_it_is = |input: Input| if schema == Schema::Raw { input.with_carriage_returns() } else { input };
    if source == Path::new("-") {
        return Ok((as_it_is(Input::new(io::stdin())), None));
    }
    let wrong = |why: io::Error| Failure::Other(format!("{} cannot be read: {why}", source.display()));
    let file = File::open(source).map_err(wrong)?;
    let about = file.metadata().map_err(wrong)?;
    if about.is_dir() {
        return Err(Failure::Other(format!("{} is a folder: name a file", source.display())));
    }
    Ok((as_it_is(Input::new(file)), about.is_file().then_some(about.len())))
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
    if broken.is_none() && outcome.resume_at.is_none() {
        wait_for_delivery(file, &plugin)?;
    }
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

/// Waits until what the plugin has stored is delivered, or an interrupt closes the connector: the rest is delivered by the
/// next run.
fn wait_for_delivery(file: &ConnectorFile, plugin: &OpenPlugin) -> Result<(), Failure> {
    let Ok(Config { spool: Some(SpoolConfig { path, .. }), .. }) = Config::from_json(&file.plugin_config)
    else {
        return Ok(());
    };
    let mut told = false;
    while !plugin.is_closed() {
        let began = Instant::now();
        let left = spool::status(&path).map_err(|why| Failure::Other(why.to_string()))?.messages;
        if left == 0 {
            break;
        }
        if !told {
            report::note(
                "all is in the spool: waiting until it is delivered; Ctrl-C leaves the rest to the next run",
            );
            told = true;
        }
        // A look takes longer the more there is.
        thread::sleep((began.elapsed() * 10).max(Duration::from_millis(20)));
    }
    Ok(())
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
    let messages: Vec<BorrowedMessage<'_>> =
        (first..).zip(input.lines()).map(|(offset, payload)| message(offset, payload, now)).collect();
    let current_offset = messages.last().map_or(first, |last| last.offset);
    let metadata = MessagesMetadata { partition_id: 0, current_offset, schema: stream.schema };
    Ok(plugin.consume(topic, &metadata, &messages))
}

/// The message in a line.
pub(crate) fn message(offset: u64, payload: &[u8], now: u64) -> BorrowedMessage<'_> {
    BorrowedMessage {
        id: message_id(offset, payload),
        offset,
        checksum: 0,
        timestamp: now,
        origin_timestamp: now,
        headers: &[],
        payload,
    }
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
