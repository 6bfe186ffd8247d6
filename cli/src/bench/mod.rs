//! `bench`: measures how fast a plugin is and what it costs, alone or compared with another build.

mod counter;
pub(crate) mod iggy;
mod load;
mod report;
pub(crate) mod worker;

use std::{
    io::{Read, Write},
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use clap::Args;
use iggy_connector_sdk::Schema;
use serde_json::{Map, Value, json};

use self::{
    counter::Counter,
    report::{Report, Run, Side},
    worker::{Answer, Job, Measured},
};
use crate::{
    connector_file, host,
    mode::Mode,
    terminal::report::{self as terminal, Failure, grouped, rate},
};

const BATCH: u64 = 1000;
/// The plugin's default if a connector file does not set it.
const CONFIG_MODE: &str = "individual";
const MOST_MESSAGES: u64 = u32::MAX as u64;
const MOST_BATCH: u64 = 1_000_000;
const MOST_SIZE: u64 = 64 << 20;

/// Measure how fast a plugin is and what it costs, alone or compared with another build
///
/// Each run is a separate process that holds little but the plugin, so its CPU time and memory do not include those of
/// the endpoint. Times are those of the calls of consume.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  iggy-http-sink bench --mode individual --concurrency 16 --plugin other/libsink.so"
)]
pub(crate) struct Arguments {
    /// A connector file whose `plugin_config` is measured, except for its url and its dead letters
    config: Option<PathBuf>,
    /// The endpoint [default: one in this program, which accepts everything]
    #[arg(long, conflicts_with = "latency")]
    url: Option<String>,
    /// Another build of the plugin, measured in alternation with the one built with this program
    #[arg(long, value_name = "PATH")]
    plugin: Option<PathBuf>,
    /// How messages are put into requests [default: `nd_json`, or what CONFIG says]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// How many messages a run sends [default: 200000, or 50000 if each is a request]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_MESSAGES))]
    messages: Option<u64>,
    /// How many messages each call of consume gets [default: 1000, or what CONFIG says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_BATCH))]
    batch: Option<u64>,
    /// The size of each payload
    #[arg(long, value_name = "BYTES", default_value_t = 1024,
        value_parser = clap::value_parser!(u64).range(load::LEAST_SIZE as u64..=MOST_SIZE))]
    size: u64,
    /// Requests in flight, or adaptive; implies ordering = "none", unless CONFIG says otherwise
    #[arg(long, value_name = "N|adaptive", value_parser = concurrency)]
    concurrency: Option<Value>,
    /// How many times each plugin is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pairs: u64,
    /// How long the endpoint takes to answer, such as 5ms [default: as fast as it can]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    latency: Option<Duration>,
    #[command(flatten)]
    iggy: iggy::Options,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

fn concurrency(text: &str) -> Result<Value, String> {
    match text.parse::<NonZeroU32>() {
        Ok(number) => Ok(json!(number)),
        Err(_) if text == "adaptive" => Ok(json!(text)),
        Err(_) => Err("give a number from 1 on, or adaptive".to_owned()),
    }
}

/// Runs the command. Returns whether every batch was settled well.
///
/// # Errors
/// It cannot run at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let own = job(arguments)?;
    if arguments.iggy.iggy {
        let poll_interval = arguments.config.as_deref().map(poll_interval).transpose()?.flatten();
        let result =
            iggy::run(&arguments.iggy, own, poll_interval, arguments.plugin.as_deref(), arguments.pairs)?;
        if arguments.json {
            terminal::say_json(&result.as_json())?;
        } else {
            terminal::say(&result.as_table())?;
        }
        return Ok(true);
    }
    let mut sides = vec![(Side::new("this", &own.plugin), own)];
    if let Some(path) = &arguments.plugin {
        let other = Job { plugin: path.clone(), ..sides[0].1.clone() };
        sides.push((Side::new("other", path), other));
    }
    let bench = Bench { url: arguments.url.clone(), latency: arguments.latency.unwrap_or_default() };
    for (side, job) in &mut sides {
        // A plugin that cannot be measured is reported first, and both files are in memory by then.
        side.version = bench.measure(&Job { messages: 0, ..job.clone() })?.measured.version;
    }
    for pair in 1..=arguments.pairs {
        for (side, job) in &mut sides {
            let run = bench.measure(job)?;
            let per_second = rate(
                run.measured.messages,
                Duration::try_from_secs_f64(run.measured.seconds).unwrap_or_default(),
            );
            terminal::note(&format!(
                "run {pair}/{} of {}: {}",
                arguments.pairs,
                side.name,
                terminal::messages_per_second(per_second)
            ));
            side.runs.push(run);
        }
    }
    let (mut measured, mut jobs): (Vec<Side>, Vec<Job>) = sides.into_iter().unzip();
    let job = jobs.swap_remove(0);
    let other = (measured.len() > 1).then(|| measured.swap_remove(1));
    let result = Report { this: measured.swap_remove(0), other, setting: setting(arguments, &job) };
    if arguments.json {
        terminal::say_json(&result.as_json())?;
    } else {
        terminal::say(&result.as_table())?;
    }
    let failed = result.failed_batches();
    if failed > 0 {
        terminal::note(&format!("{} batches failed: their messages were not all delivered", grouped(failed)));
    }
    Ok(failed == 0)
}

/// The value of `batch_mode` that every HTTP sink of Iggy knows: some only know `ndjson`.
fn key(mode: Mode) -> &'static str {
    match mode {
        Mode::NdJson => "ndjson",
        other => other.name(),
    }
}

/// The job for both sides; the plugin is the one of this build.
fn job(arguments: &Arguments) -> Result<Job, Failure> {
    let plugin = host::built()?;
    let (mut keys, schema, batch) = match &arguments.config {
        None => {
            let mode = arguments.mode.unwrap_or(Mode::NdJson);
            (keys(json!({ "batch_mode": key(mode) })), Schema::Json, BATCH)
        }
        Some(path) => {
            if arguments.mode.is_some() {
                terminal::note("note: --mode has no effect beside a connector file");
            }
            from_file(path)?
        }
    };
    if let Some(concurrency) = &arguments.concurrency {
        keys.insert("concurrency".to_owned(), concurrency.clone());
        keys.entry("ordering").or_insert_with(|| "none".into());
    }
    let default = match mode(&keys) {
        "individual" | "raw" => 50_000,
        _ => 200_000,
    };
    Ok(Job {
        plugin,
        config: keys.into(),
        schema,
        messages: arguments.messages.unwrap_or(default),
        batch: arguments.batch.unwrap_or(batch),
        size: usize::try_from(arguments.size)
            .map_err(|_| Failure::Usage(format!("--size {} is too much for this system", arguments.size)))?,
    })
}

/// Returns `[plugin_config]` without the parts that a measurement must not touch, the schema, and the messages per batch.
fn from_file(path: &Path) -> Result<(Map<String, Value>, Schema, u64), Failure> {
    let file = connector_file::load(path)?;
    let mut keys = keys(file.plugin_config);
    // The address may be in use by a running connector.
    keys.retain(|key, _| key != "status" && !key.starts_with("status_"));
    // Routes may lead to real endpoints, and a measurement sends to one that counts.
    keys.shift_remove("routes");
    let count = keys.len();
    keys.retain(|key, _| key != "dead_letter" && !key.starts_with("dead_letter_"));
    if keys.len() < count {
        terminal::note("note: dead_letter is left out: a measurement keeps no messages");
    }
    let stream = file.streams.first();
    let schema = match stream.map(|stream| stream.schema) {
        Some(schema @ (Schema::Text | Schema::Raw)) => schema,
        _ => Schema::Json,
    };
    Ok((keys, schema, stream.map_or(BATCH, |stream| stream.batch_length.get() as u64)))
}

/// Returns the `poll_interval` of a connector file.
fn poll_interval(path: &Path) -> Result<Option<Duration>, Failure> {
    Ok(connector_file::load(path)?.streams.first().map(|stream| stream.poll_interval))
}

fn keys(config: Value) -> Map<String, Value> {
    match config {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}

fn mode(keys: &Map<String, Value>) -> &str {
    keys.get("batch_mode").and_then(Value::as_str).unwrap_or(CONFIG_MODE)
}

/// The setting of the measurement.
fn setting(arguments: &Arguments, job: &Job) -> Value {
    let key = |name: &str, default: Value| job.config.get(name).cloned().unwrap_or(default);
    json!({
        "mode": key("batch_mode", CONFIG_MODE.into()),
        "concurrency": key("concurrency", 1.into()),
        "messages": job.messages,
        "batch": job.batch,
        "size": job.size,
        "latency_ms": arguments.url.is_none().then(|| arguments.latency.unwrap_or_default().as_secs_f64() * 1e3),
        "url": arguments.url,
    })
}

struct Bench {
    url: Option<String>,
    latency: Duration,
}

impl Bench {
    fn measure(&self, job: &Job) -> Result<Run, Failure> {
        let counter = match &self.url {
            Some(_) => None,
            None => Some(
                Counter::start(self.latency)
                    .map_err(|why| Failure::Other(format!("starting an endpoint: {why}")))?,
            ),
        };
        let mut job = job.clone();
        job.config["url"] =
            counter.as_ref().map_or_else(|| self.url.clone().into(), |counter| counter.url().into());
        let measured = ask(&job)?;
        let (requests, body_bytes) = counter.map(|counter| counter.requests_and_bytes()).unzip();
        Ok(Run { measured, requests, body_bytes })
    }
}

/// Lets a separate process do the job.
fn ask(job: &Job) -> Result<Measured, Failure> {
    let plugin = job.plugin.display();
    let broken = |why: &dyn std::fmt::Display| Failure::Other(format!("measuring {plugin}: {why}"));
    let mut command = Command::new(host::executable()?);
    if std::env::var_os("RUST_LOG").is_none() {
        // Its lines about each normal start and end are not of interest here.
        command.env("RUST_LOG", "warn");
    }
    command.arg("bench-worker").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|why| broken(&why))?;
    // Kept open until it has ended: that is how it knows that somebody waits for it.
    let mut stdin = child.stdin.take();
    let mut text = String::new();
    let sent = stdin.as_mut().map_or(Ok(()), |stdin| writeln!(stdin, "{}", json!(job)));
    let read = child.stdout.take().map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut text));
    let status = child.wait().map_err(|why| broken(&why))?;
    drop(stdin);
    // A plugin may have written to stdout, too.
    match text.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
        Some(Answer::Measured(measured)) => Ok(measured),
        Some(Answer::Failed(why)) => Err(Failure::Other(why)),
        None => match sent.and(read) {
            Err(why) if status.success() => Err(broken(&why)),
            _ => Err(broken(&format_args!("its process ended without a result ({status})"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn job_of(line: &[&str]) -> Job {
        job(&Line::parse_from(["bench"].iter().chain(line)).arguments).unwrap()
    }

    #[test]
    fn where_each_message_is_a_request_there_are_fewer() {
        assert_eq!(job_of(&[]).messages, 200_000);
        assert_eq!(job_of(&["--mode", "raw"]).messages, 50_000);
        assert_eq!(job_of(&["--mode", "raw", "--messages", "7"]).messages, 7);
        assert_eq!(job_of(&[]).config, json!({ "batch_mode": "ndjson" }));
    }

    #[test]
    fn requests_go_side_by_side_only_out_of_order() {
        let config = job_of(&["--concurrency", "4"]).config;
        assert_eq!(config, json!({ "batch_mode": "ndjson", "concurrency": 4, "ordering": "none" }));
        let config = job_of(&["--concurrency", "adaptive"]).config;
        assert_eq!(config["concurrency"], "adaptive");
        assert!(concurrency("0").is_err() && concurrency("many").is_err());
    }

    #[test]
    fn a_connector_file_is_taken_without_its_dead_letters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connector.toml");
        let text = "type = \"sink\"\nkey = \"k\"\nenabled = true\nversion = 0\nname = \"n\"\npath = \"p\"\n\
            [[streams]]\nstream = \"s\"\ntopics = [\"t\"]\nschema = \"text\"\nbatch_length = 20\n\
            [plugin_config]\nurl = \"http://example.com\"\nordering = \"partition\"\n\
            [plugin_config.dead_letter]\npath = \"/nowhere\"\n";
        std::fs::write(&path, text).unwrap();
        let job = job_of(&[path.to_str().unwrap(), "--concurrency", "2"]);
        assert_eq!((job.schema, job.batch, job.messages), (Schema::Text, 20, 50_000));
        let expected = json!({ "url": "http://example.com", "ordering": "partition", "concurrency": 2 });
        assert_eq!(job.config, expected);
    }
}
