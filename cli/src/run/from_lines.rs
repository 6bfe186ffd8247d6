//! Messages from the lines of a file or of stdin.

use std::{
    fs::File,
    io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{
    config::{Config, SpoolConfig},
    spool,
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use serde::de::IgnoredAny;

use crate::{
    connector_file::{ConnectorFile, StreamConfig},
    host::{self, OpenPlugin, Watch},
    terminal::{
        interrupt,
        log::{self, Level},
        report::{self, Failure, Progress, Unit},
    },
};

use super::{
    arguments::{Arguments, Format},
    identity::InputId,
    lines::Input,
    outcome::{Batch, Outcome},
    resume::Resume,
    selection::Selection,
    source::{NoLines, Source},
    stop::Stop,
};

/// Sends all lines of `source`. Returns whether everything was settled well.
///
/// # Errors
/// It cannot start at all.
pub(super) fn run(arguments: &Arguments, source: &Path, mut file: ConnectorFile) -> Result<bool, Failure> {
    let schema = line_schema(&file, arguments.format)?;
    if let Some(stream) = file.streams.first_mut() {
        stream.schema = schema;
    }
    let opened = open_input(source, schema, arguments.input_id.as_deref())?;
    let selection = arguments.selection();
    let run = Run {
        arguments,
        file: &file,
        resume: Resume::new(opened.of_run.then(|| opened.id.name())),
        id: opened.id,
        selection: selection.clone(),
    };
    let stop = Arc::new(Stop::new(run.resume.clone(), selection.clone(), arguments.json));
    let (at_first, at_second) = (Arc::clone(&stop), Arc::clone(&stop));
    interrupt::at_first(move || at_first.stop(), move || at_second.last_words())
        .map_err(|why| Failure::Other(format!("signals cannot be caught: {why}")))?;

    let plugin = arguments.open_plugin(&file)?;
    let input = opened.input.with_selection(&selection, arguments.limit);
    stop.goes(input.stopper(), plugin.closer());
    let outcome = run.stream(&plugin, input, opened.size, &stop)?;
    let text = if arguments.json { outcome.as_json() } else { outcome.as_table() };
    report::result(&text, arguments.json)?;
    if let Some(command) = &outcome.resume {
        let again = if source == Path::new("-") { ", with the same input," } else { "" };
        report::note(&format!("to go on{again} call: {command}"));
    }
    if let Some(lines) = outcome.to_repeat() {
        report::note(&format!("to send the failed lines again, call: {}", run.resume.command(&lines, None)));
    }
    Ok(outcome.good())
}

/// The schema for the payloads.
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

/// An input that can be read.
pub(crate) struct Opened {
    pub(crate) input: Input,
    pub(crate) id: InputId,
    /// In bytes, if it has a size.
    size: Option<u64>,
    /// Whether the id belongs to this run only.
    of_run: bool,
}

/// Opens the input; `-` is stdin.
///
/// # Errors
/// It cannot be opened.
pub(crate) fn open_input(source: &Path, schema: Schema, name: Option<&str>) -> Result<Opened, Failure> {
    // No byte must be lost.
    let raw = schema == Schema::Raw;
    let as_it_is = |input: Input| if raw { input.with_carriage_returns() } else { input };
    if source == Path::new("-") {
        let id = name.map_or_else(InputId::of_run, InputId::named);
        let input = as_it_is(Input::new(Source::new(io::stdin(), raw)));
        return Ok(Opened { input, id, size: None, of_run: true });
    }
    let wrong = |why: io::Error| Failure::Usage(format!("{} cannot be read: {why}", source.display()));
    let file = File::open(source).map_err(wrong)?;
    let about = file.metadata().map_err(wrong)?;
    if about.is_dir() {
        return Err(Failure::Usage(format!("{} is a folder: name a file", source.display())));
    }
    // A FIFO is a new input each time.
    let of_run = !about.is_file();
    let id = match name {
        Some(name) => InputId::named(name),
        None if of_run => InputId::of_run(),
        None => InputId::of_file(source, &about),
    };
    let size = about.is_file().then_some(about.len());
    Ok(Opened {
        input: as_it_is(Input::new(Source::new(file, raw))),
        id,
        size,
        of_run: of_run || name.is_some(),
    })
}

struct Run<'a> {
    arguments: &'a Arguments,
    file: &'a ConnectorFile,
    resume: Resume,
    id: InputId,
    selection: Selection,
}

impl Run<'_> {
    fn stream(
        &self,
        plugin: &OpenPlugin,
        mut input: Input,
        size: Option<u64>,
        stop: &Stop,
    ) -> Result<Outcome, Failure> {
        let Some((stream, topic)) =
            self.file.streams.first().and_then(|entry| Some((entry, entry.topics.first()?)))
        else {
            return Err(Failure::Usage(format!("{} names no topic", self.file.path.display())));
        };
        let topic = TopicMetadata { stream: stream.stream.clone(), topic: topic.clone() };
        let mut outcome = Outcome { input_id: self.id.name().to_owned(), ..Outcome::default() };
        let start = Instant::now();
        let progress = Progress::start(size, Unit::Bytes);
        let watch = Watch::default();
        let sent = thread::scope(|scope| {
            scope.spawn(|| watch.show(plugin, &progress));
            let sent = self.send(plugin, &mut input, stream, &topic, &mut outcome, stop, &progress);
            let sent = sent.and_then(|ended| match ended {
                Ended::AtEnd => self.wait_for_delivery(plugin).map(|()| ended),
                other => Ok(other),
            });
            watch.end();
            sent
        });
        let closed = plugin.close();
        outcome.time = start.elapsed();
        drop(progress);
        if let Some(failures) = plugin.take_failures() {
            outcome.add_failures(failures);
        }
        outcome.state = plugin.state();
        outcome.empty_lines = input.empty_lines();
        match sent? {
            Ended::Broken(why) => outcome.errors.push(format!("the input broke off: {why}")),
            Ended::Useless => outcome.errors.push(
                "a whole batch failed, so that nothing more was sent; --keep-going goes on all the same"
                    .to_owned(),
            ),
            Ended::AtEnd | Ended::Stopped => {}
        }
        if let Err(why) = closed {
            outcome.errors.push(why.to_string());
        }
        self.finish(&mut outcome, &input);
        Ok(outcome)
    }

    /// What is left to do.
    fn finish(&self, outcome: &mut Outcome, input: &Input) {
        outcome.rest = self.selection.since(input.lines_read() + 1).filter(|_| {
            // There are no lines after the end of the input, but there are after a limit.
            !input.is_complete() || self.arguments.limit.is_some_and(|limit| limit <= outcome.messages)
        });
        let left = outcome.left();
        outcome.complete = input.is_complete() && outcome.all_settled();
        let more = self.arguments.limit.map(|limit| limit.saturating_sub(outcome.settled()));
        // If the limit was reached, the next run may be as long as this one.
        let more = more.map(|more| if more == 0 { self.arguments.limit.unwrap_or(more) } else { more });
        outcome.resume = left.map(|left| self.resume.command(&left, more));
    }

    #[expect(clippy::too_many_arguments, reason = "each of them is of another kind")]
    fn send(
        &self,
        plugin: &OpenPlugin,
        input: &mut Input,
        stream: &StreamConfig,
        topic: &TopicMetadata,
        outcome: &mut Outcome,
        stop: &Stop,
        progress: &Progress,
    ) -> Result<Ended, Failure> {
        loop {
            match input.advance(stream.batch_length.get()) {
                Ok(true) => {}
                Ok(false) if input.is_complete() => return Ok(Ended::AtEnd),
                Ok(false) => return Ok(Ended::Stopped),
                Err(why) if outcome.batches == 0 && is_no_lines(&why) => {
                    return Err(Failure::Usage(format!("{}: {why}", self.shown_input())));
                }
                Err(why) => return Ok(Ended::Broken(why)),
            }
            if outcome.batches == 0
                && stream.schema == Schema::Json
                && let Some(remedy) = over_lines(input)
            {
                let what = "it is JSON over several lines, and not one value a line";
                return Err(Failure::Usage(format!("{}: {what}: {remedy}", self.shown_input())));
            }
            stop.begins(input.numbers().first().copied().unwrap_or(1));
            let code = self.consume(plugin, topic, stream, input)?;
            let failures = if code == 0 { None } else { plugin.take_failures() };
            let closing = plugin.is_closed();
            let goes_on = outcome.add(Batch { lines: input.numbers(), code, failures, closing });
            if closing {
                return Ok(Ended::Stopped);
            }
            if !goes_on {
                if !self.arguments.keep_going {
                    return Ok(Ended::Useless);
                }
                outcome.goes_on();
            }
            stop.begins(input.lines_read() + 1);
            progress.set(input.bytes());
        }
    }

    fn shown_input(&self) -> String {
        let input = self.arguments.input.as_deref().unwrap_or(Path::new("-"));
        if input == Path::new("-") { "stdin".to_owned() } else { input.display().to_string() }
    }

    /// Waits until everything in the plugin's spool is delivered, or an interrupt closes the connector: the next run delivers
    /// the rest.
    fn wait_for_delivery(&self, plugin: &OpenPlugin) -> Result<(), Failure> {
        let Ok(Config { spool: Some(SpoolConfig { path, .. }), .. }) =
            Config::from_json(&self.file.plugin_config)
        else {
            return Ok(());
        };
        let mut logged = false;
        while !plugin.is_closed() {
            let began = Instant::now();
            let left = spool::status(&path).map_err(|why| Failure::Other(why.to_string()))?.messages;
            if left == 0 {
                break;
            }
            if !logged {
                log::line(
                    Level::Info,
                    "all is in the spool: waiting until it is delivered; Ctrl-C leaves the rest to the next run",
                );
                logged = true;
            }
            // A check takes longer with a larger spool.
            thread::sleep((began.elapsed() * 10).max(Duration::from_millis(20)));
        }
        Ok(())
    }

    /// Passes the current batch of the input to the plugin.
    fn consume(
        &self,
        plugin: &OpenPlugin,
        topic: &TopicMetadata,
        stream: &StreamConfig,
        input: &Input,
    ) -> Result<i32, Failure> {
        let messages = messages(input, &self.id)?;
        let current_offset = messages.last().map_or(0, |last| last.offset);
        let metadata = MessagesMetadata { partition_id: 0, current_offset, schema: stream.schema };
        Ok(plugin.consume(topic, &metadata, &messages))
    }
}

/// How the sending ended.
enum Ended {
    AtEnd,
    /// A signal came.
    Stopped,
    /// A batch failed as a whole.
    Useless,
    Broken(io::Error),
}

/// Returns the messages in the lines of the current batch. The offset of a message is its line number, counted from 0.
///
/// # Errors
/// The clock cannot be used.
pub(crate) fn messages<'a>(input: &'a Input, id: &InputId) -> Result<Vec<BorrowedMessage<'a>>, Failure> {
    let now = host::now_micros()?;
    let lines = input.numbers().iter().zip(input.lines());
    Ok(lines
        .map(|(number, payload)| {
            let offset = number - 1;
            BorrowedMessage {
                id: id.message_id(offset, payload),
                offset,
                checksum: 0,
                timestamp: now,
                origin_timestamp: now,
                headers: &[],
                payload,
            }
        })
        .collect())
}

fn is_no_lines(why: &io::Error) -> bool {
    why.get_ref().and_then(|inner| inner.downcast_ref::<NoLines>()).is_some()
}

/// Returns what to do if the first value of the input spans several lines, none of which is a value by itself.
fn over_lines(input: &Input) -> Option<&'static str> {
    let is_value = |line: &[u8]| serde_json::from_slice::<IgnoredAny>(line);
    let mut lines = input.lines();
    let first = lines.next()?;
    if !is_value(first).is_err_and(|why| why.is_eof()) || is_value(lines.next()?).is_ok() {
        return None;
    }
    let text = input.lines().collect::<Vec<_>>().join(&b'\n');
    let goes_on = match serde_json::Deserializer::from_slice(&text).into_iter::<IgnoredAny>().next()? {
        Ok(_) => true,
        Err(why) => why.is_eof(),
    };
    let remedy = if first.trim_ascii_start().starts_with(b"[") {
        "jq -c '.[]' makes lines of it"
    } else {
        "jq -c . makes lines of it"
    };
    goes_on.then_some(remedy)
}
