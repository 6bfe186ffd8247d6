//! `bench-worker`: measures one plugin in a process that does nothing else. [`bench`](crate::bench) starts it.

use std::{
    fs,
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use iggy_connector_sdk::{
    MessagesMetadata, Schema, TopicMetadata,
    host::{encode_metadata, encode_topic},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::load::Load;
use crate::{
    host::OpenPlugin,
    terminal::report::{self, Failure},
};

/// Ticks of the times in `/proc`: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What to measure: one line on stdin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) plugin: PathBuf,
    pub(crate) config: Value,
    pub(crate) schema: Schema,
    pub(crate) messages: u64,
    pub(crate) batch: u64,
    pub(crate) size: usize,
}

/// The result: one line on stdout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Measured(Measured),
    Failed(String),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) version: String,
    pub(crate) messages: u64,
    pub(crate) batches: u64,
    pub(crate) failed_batches: u64,
    pub(crate) payload_bytes: u64,
    /// The time spent in consume.
    pub(crate) seconds: f64,
    pub(crate) close_seconds: f64,
    /// The latency of the calls of consume; none without a call.
    pub(crate) latency: Option<Latency>,
    /// Of this process from the first consume to the end of close, without making the batches.
    pub(crate) cpu_seconds: Option<f64>,
    /// Of this process, with the one batch it holds.
    pub(crate) peak_memory_bytes: Option<u64>,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        // The nearest rank.
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.checked_sub(1)?).map(|time| time.as_secs_f64() * 1e3)
        };
        Some(Self { p50: at(50)?, p90: at(90)?, p99: at(99)?, max: at(100)? })
    }
}

/// Reads the job, does it and prints the result.
///
/// # Errors
/// There is no job on stdin, or nobody to answer to.
pub(crate) fn run() -> Result<bool, Failure> {
    let mut line = String::new();
    let job = io::stdin().lock().read_line(&mut line).and_then(|_| Ok(serde_json::from_str::<Job>(&line)?));
    let job =
        job.map_err(|why| Failure::Usage(format!("`bench` starts this, with a job on stdin: {why}")))?;
    thread::spawn(|| {
        // Stdin ends with the command that asked: then nobody needs the result any more.
        let _ = io::stdin().lock().read(&mut [0]);
        process::exit(1);
    });
    let answer = measure(&job).map_or_else(|why| Answer::Failed(why.to_string()), Answer::Measured);
    let answer = serde_json::to_string(&answer).map_err(|why| Failure::Other(why.to_string()))?;
    report::say_json(&answer)?;
    Ok(true)
}

fn measure(job: &Job) -> Result<Measured, Failure> {
    let plugin = OpenPlugin::open(&job.plugin, &job.config)?;
    let (_, version) = plugin.identity();
    let topic = encode_topic(&TopicMetadata { stream: "bench".to_owned(), topic: "orders".to_owned() });
    let before = cpu_seconds(Path::new("/proc/self"));
    let load = Load::start(job.schema, job.messages, job.batch, job.size);

    let mut times = Vec::with_capacity(usize::try_from(job.messages.div_ceil(job.batch)).unwrap_or_default());
    let (mut batch, mut sent, mut failed_batches) = (Vec::new(), 0, 0);
    while sent < job.messages {
        sent = job.messages.min(sent + job.batch);
        batch = load
            .next(batch)
            .ok_or_else(|| Failure::Other("the thread that makes the messages has ended".to_owned()))?;
        let metadata = MessagesMetadata { partition_id: 0, current_offset: sent - 1, schema: job.schema };
        let metadata = encode_metadata(&metadata);
        let start = Instant::now();
        let code = plugin.consume_encoded(&topic, &metadata, &batch);
        times.push(start.elapsed());
        failed_batches += u64::from(code != 0);
    }
    let start = Instant::now();
    plugin.close()?;
    let close_seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = || {
        let all = cpu_seconds(Path::new("/proc/self"))? - before?;
        Some((all - cpu_seconds(&load.thread()?)?).max(0.0))
    };
    Ok(Measured {
        version,
        messages: sent,
        batches: times.len() as u64,
        failed_batches,
        payload_bytes: sent * job.size as u64,
        seconds: times.iter().sum::<Duration>().as_secs_f64(),
        close_seconds,
        latency: Latency::of(times),
        cpu_seconds: cpu_seconds(),
        peak_memory_bytes: peak_memory(),
    })
}

/// User and system time of a process or thread, if `/proc` has it.
pub(crate) fn cpu_seconds(process: &Path) -> Option<f64> {
    let text = fs::read_to_string(process.join("stat")).ok()?;
    Some(ticks(&text)? as f64 / TICKS_PER_SECOND)
}

fn ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may contain anything; the two times are the 12th and 13th word after it.
    let (_, words) = stat.rsplit_once(')')?;
    let mut times = words.split_whitespace().skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The peak memory of this process, if `/proc` has it.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_calls_that_happened() {
        let calls = |count: u64| Latency::of((1..=count).rev().map(Duration::from_millis).collect());
        assert_eq!(calls(0), None);
        assert_eq!(calls(1), Some(Latency { p50: 1.0, p90: 1.0, p99: 1.0, max: 1.0 }));
        assert_eq!(calls(4), Some(Latency { p50: 2.0, p90: 4.0, p99: 4.0, max: 4.0 }));
        assert_eq!(calls(1000), Some(Latency { p50: 500.0, p90: 900.0, p99: 990.0, max: 1000.0 }));
    }

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 85 0 0 0 12 30 9 9 20 0 1 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (name) S 1 2"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_time_and_memory() {
        assert!(cpu_seconds(Path::new("/proc/thread-self")).is_some());
        assert!(peak_memory().unwrap() > 100_000);
    }
}
