//! `bench --iggy`: measures from a topic of a real server to the endpoint, with `run` and with the connectors runtime.
//!
//! The [`stage`] is the server with its topic and the folders; each run starts with a new process and consumer group, and
//! ends with the last message at the endpoint. The [`report`](mod@report) shows the result.

mod report;
mod stage;

use std::{
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

pub(crate) use self::report::Report;
use self::{
    report::{Run, Way},
    stage::{PARTITIONS, Process, Stage},
};
use crate::{
    bench::{
        counter::Counter,
        load,
        worker::{Job, cpu_seconds},
    },
    terminal::report::{Failure, messages_per_second, note, rate},
};

/// The default: for topics that are read to their end.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How often the count is polled.
const POLL: Duration = Duration::from_millis(1);
/// The longest time without progress before it counts as stalled.
const STALLED: Duration = Duration::from_secs(60);

/// The options of `bench` for a real server.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Read from a topic with 4 partitions of a real Iggy server: compares `run` with the connectors runtime on the same
    /// plugin and, with --plugin, on the other
    #[arg(long, conflicts_with_all = ["url", "latency"])]
    pub(crate) iggy: bool,
    /// The server's executable [default: what `IGGY_SERVER` names]
    #[arg(long, value_name = "PATH", requires = "iggy")]
    iggy_server: Option<PathBuf>,
    /// The executable of the connectors runtime [default: what `IGGY_CONNECTORS` names]
    #[arg(long, value_name = "PATH", requires = "iggy")]
    iggy_connectors: Option<PathBuf>,
}

/// Measures each way in turn, `rounds` times.
///
/// # Errors
/// An executable is missing or does not work, or messages do not arrive.
pub(crate) fn run(
    options: &Options,
    mut job: Job,
    poll_interval: Option<Duration>,
    other: Option<&Path>,
    pairs: u64,
) -> Result<Report, Failure> {
    if !matches!(job.schema, Schema::Json) {
        return Err(Failure::Usage("--iggy measures messages of the schema json".to_owned()));
    }
    if let Some(missing) = other.filter(|path| !path.is_file()) {
        return Err(Failure::Other(format!("there is no plugin at {}", missing.display())));
    }
    if let Some(keys) = job.config.as_object_mut() {
        let count = keys.len();
        keys.retain(|key, _| key != "spool" && !key.starts_with("spool_"));
        if keys.len() < count {
            note("note: spool is left out: each run begins with nothing");
        }
    }
    let server = executable(options.iggy_server.as_ref(), "--iggy-server", "IGGY_SERVER")?;
    let runtime = executable(options.iggy_connectors.as_ref(), "--iggy-connectors", "IGGY_CONNECTORS")?;
    let way = |name, title, plugin: &Path, runtime: Option<&PathBuf>| Way {
        name,
        title,
        plugin: plugin.to_owned(),
        runtime: runtime.cloned(),
        runs: Vec::new(),
    };
    let mut ways =
        vec![way("host", "run", &job.plugin, None), way("runtime", "runtime", &job.plugin, Some(&runtime))];
    ways.extend(other.map(|path| way("other", "runtime, other plugin", path, Some(&runtime))));

    let mut stage = Stage::set(&server)?;
    stage.fill(&job)?;
    let poll_interval = poll_interval.unwrap_or(POLL_INTERVAL);
    for pair in 1..=pairs {
        for way in &mut ways {
            let run = measure(&mut stage, way, &job, poll_interval)?;
            let time = Duration::try_from_secs_f64(run.seconds).unwrap_or_default();
            let rate = messages_per_second(rate(run.messages, time));
            note(&format!("run {pair}/{pairs} of {}: {rate}", way.title));
            way.runs.push(run);
        }
    }
    Ok(Report { ways, setting: setting(&job, poll_interval) })
}

/// The setting of the measurement.
fn setting(job: &Job, poll_interval: Duration) -> Value {
    json!({
        "mode": job.config.get("batch_mode").cloned().unwrap_or_else(|| "individual".into()),
        "concurrency": job.config.get("concurrency").cloned().unwrap_or_else(|| 1.into()),
        "messages": job.messages,
        "size": job.size,
        "partitions": PARTITIONS,
        "batch_length": job.batch,
        "poll_interval": humantime::format_duration(poll_interval).to_string(),
    })
}

fn executable(named: Option<&PathBuf>, option: &str, variable: &str) -> Result<PathBuf, Failure> {
    let path = named.cloned().or_else(|| std::env::var_os(variable).map(PathBuf::from));
    let path = path.ok_or_else(|| {
        Failure::Usage(format!("--iggy starts real executables: name this one with {option} or {variable}"))
    })?;
    // It is started in another folder.
    let there = std::path::absolute(&path).ok().filter(|path| path.is_file());
    there.ok_or_else(|| Failure::Other(format!("there is no executable at {}", path.display())))
}

/// Measures one way, from the start to the last message.
fn measure(stage: &mut Stage, way: &Way, job: &Job, poll_interval: Duration) -> Result<Run, Failure> {
    let counter = Counter::of_messages(load::MARK)
        .map_err(|why| Failure::Other(format!("starting an endpoint: {why}")))?;
    let mut config = job.config.clone();
    config["url"] = counter.url().into();
    let mut command =
        stage.prepare(way.runtime.as_deref(), &way.plugin, &config, job.batch, poll_interval)?;
    let start = Instant::now();
    let mut process = Process::start(&mut command, stage.log())?;
    let (mut first, mut seen, mut last) = (None, 0, start);
    while seen < job.messages {
        sleep(POLL);
        let (now, messages) = (Instant::now(), counter.messages());
        if messages > seen {
            (first, seen, last) = (first.or(Some(now)), messages, now);
        }
        if let Some(status) = process.ended().filter(|_| counter.messages() < job.messages) {
            return Err(stage.complaint(&format!("{} ended before its time ({status})", way.title)));
        }
        if last.elapsed() > STALLED {
            let failure = format!("{}: only {seen} of {} messages arrived", way.title, job.messages);
            return Err(stage.complaint(&failure));
        }
    }
    let (requests, body_bytes) = counter.requests_and_bytes();
    Ok(Run {
        messages: seen,
        seconds: (last - start).as_secs_f64(),
        first_seconds: first.map_or(0.0, |first| (first - start).as_secs_f64()),
        requests,
        body_bytes,
        cpu_seconds: cpu_seconds(&Path::new("/proc").join(process.id().to_string())),
    })
}
