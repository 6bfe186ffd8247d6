//! Runs many seeds, in processes of their own: what a process has done before is chance as well.

use std::{
    env,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{chance, checks, run::Run, scenario::Scenario, world};

/// The seed to run, and how many from there on. Without it, seeds are run as long as there is time.
const SEED: &str = "SIMULATION_SEED";
const SEEDS: &str = "SIMULATION_SEEDS";
/// For how many seconds seeds are run.
const SECONDS: &str = "SIMULATION_SECONDS";
/// Shows what happens in a run.
const SHOW: &str = "SIMULATION_SHOW";

/// The first of the seeds that are run where nothing is said, and how many.
const USUAL: (u64, u64) = (60, 140);

/// Seeds per process.
const BATCH: u64 = 20;
/// For how long in real time the simulated time may stand still, also in a slow build beside others; and what a seed may take.
/// Half a day of retries, each second one, takes its time.
const STANDS_STILL: Duration = Duration::from_secs(60);
const HANGS: Duration = Duration::from_mins(20);

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What a run came to: what is wrong with it, and a digest of what happened.
struct Outcome {
    wrong: Vec<String>,
    digest: u64,
    shown: String,
}

/// Runs a seed in a thread whose chance it decides.
fn run(seed: u64) -> Option<Outcome> {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || {
        chance::seed_thread(seed);
        let scenario = Scenario::of(seed);
        if env::var_os(SHOW).is_some() {
            // Before it runs: it may hang.
            println!("{:#?}", Shown(&scenario));
        }
        let mut run = Run::of(scenario);
        run.run();
        let wrong = checks::check(&run);
        let story = run.history.lock().unwrap().show(&run.scenario.batches);
        let mut digest = DefaultHasher::new();
        story.hash(&mut digest);
        // Its file goes, also where this process ends at once.
        drop(run);
        // Nobody waits any more where it took too long.
        let _ = done.send(Outcome { wrong, digest: digest.finish(), shown: story });
    });
    let (begun, mut reached, mut moved) = (Instant::now(), None, Instant::now());
    loop {
        match outcome.recv_timeout(Duration::from_millis(500)) {
            Ok(outcome) => return Some(outcome),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Some(world::reached());
        if now != reached {
            (reached, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STANDS_STILL || begun.elapsed() > HANGS {
            return None;
        }
    }
}

/// A scenario without its messages.
struct Shown<'s>(&'s Scenario);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let trouble: Vec<String> = self
            .0
            .messages()
            .filter(|message| message.nature != super::model::Nature::Good)
            .map(|message| format!("{}: {:?}", message.id, message.nature))
            .collect();
        f.debug_struct("Scenario")
            .field("config", &self.0.config.to_string())
            .field("trouble", &trouble)
            .field("weather", &self.0.weather)
            .field("accidents", &self.0.accidents)
            .field("latency", &self.0.latency)
            .field("body_limit", &self.0.body_limit)
            .field("rotations", &self.0.rotations)
            .field("memory", &self.0.memory)
            .field("repeats", &self.0.repeats)
            .field("replays", &self.0.replays)
            .field("lives", &self.0.lives)
            .finish()
    }
}

/// Runs seeds one after the other. Each says how it went on a line.
fn run_all(first: u64, count: u64) {
    for seed in first..first + count {
        let Some(outcome) = run(seed) else {
            println!("seed {seed} hangs");
            std::process::exit(1);
        };
        if env::var_os(SHOW).is_some() {
            println!("{}", outcome.shown);
        }
        println!("seed {seed} digest {:016x}", outcome.digest);
        if !outcome.wrong.is_empty() {
            for wrong in outcome.wrong.iter().take(5) {
                println!("seed {seed} wrong: {wrong}");
            }
            // Not a panic: its words would stand before those that matter.
            let _ = std::io::stdout().flush();
            std::process::exit(1);
        }
    }
}

/// Runs seeds in a process; what it printed, and whether all went well.
fn in_process(first: u64, count: u64) -> (bool, String) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["seeds::nothing_goes_wrong", "--exact", "--nocapture"])
        .env(SEED, first.to_string())
        .env(SEEDS, count.to_string())
        .env_remove(SHOW)
        .stdin(Stdio::null())
        .output()
        .expect("this executable runs");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut seeds = lines.lines().filter(|line| line.starts_with("seed ")).collect::<Vec<_>>().join("\n");
    if !output.status.success() && !seeds.contains(" wrong: ") {
        let told = if seeds.is_empty() { &lines } else { &seeds };
        seeds = format!("{told}\n{}{}", String::from_utf8_lossy(&output.stderr), output.status);
    }
    (output.status.success(), seeds)
}

/// A seed that went wrong, with how to run it again.
fn report(first: u64, count: u64, printed: &str) -> String {
    let seed = printed
        .lines()
        .find_map(|line| line.strip_prefix("seed ")?.split_once(" wrong")?.0.parse::<u64>().ok())
        .unwrap_or(first);
    let alone = in_process(seed, 1);
    let (seed, count, printed) =
        if alone.0 { (first, count, printed.to_owned()) } else { (seed, 1, alone.1) };
    let more = if count == 1 { String::new() } else { format!("{SEEDS}={count} ") };
    format!(
        "{printed}\nrun it again: {SEED}={seed} {more}{SHOW}=1 cargo test --test simulation nothing_goes_wrong -- --nocapture"
    )
}

#[test]
fn nothing_goes_wrong() {
    if let Some(seed) = number(SEED) {
        run_all(seed, number(SEEDS).unwrap_or(1));
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // The same each time, so that a test that fails has found what the change before it did; others where they are asked for.
    let time = number(SECONDS).map(Duration::from_secs);
    let first = if time.is_some() { now.as_millis() as u64 % 1_000_000_000 * 1_000 } else { USUAL.0 };
    let first = number("SIMULATION_FIRST").unwrap_or(first);
    let all = number(SEEDS).unwrap_or(if time.is_some() { u64::MAX } else { USUAL.1 });
    let begun = Instant::now();
    let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !stop.load(SeqCst) && time.is_none_or(|time| begun.elapsed() < time) {
                    let from = next.fetch_add(BATCH, SeqCst);
                    if from >= all {
                        return;
                    }
                    let count = BATCH.min(all - from);
                    let (well, printed) = in_process(first + from, count);
                    done.fetch_add(count, SeqCst);
                    if !well {
                        let report = report(first + from, count, &printed);
                        println!("{report}\n");
                        found.lock().unwrap().push(report);
                        // Where they are counted, all of them are wanted.
                        stop.store(number(SEEDS).is_none(), SeqCst);
                    }
                }
            });
        }
    });
    let done = done.into_inner();
    println!("{done} seeds from {first} on in {:?}", begun.elapsed());
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{} of {done} seeds went wrong:\n{}", found.len(), found.join("\n\n"));
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    if number(SEED).is_some() {
        return;
    }
    let digests = |first| {
        let printed = in_process(first, 5).1;
        printed.lines().filter(|line| line.contains(" digest ")).map(str::to_owned).collect::<Vec<_>>()
    };
    for first in [60, 100] {
        let once = digests(first);
        assert!(!once.is_empty());
        assert_eq!(once, digests(first));
    }
}
