//! What is fed to the plugin, and what is seen of it.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use iggy_connector_sdk::Schema;

use super::support::plugin::Batch;

/// The number that stands behind a name in a JSON object, as `"n":12`.
pub(super) fn number(body: &[u8], name: &str) -> u64 {
    let name = format!("\"{name}\":");
    let at = body.windows(name.len()).position(|window| window == name.as_bytes()).unwrap() + name.len();
    body[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |n, byte| n * 10 + u64::from(byte - b'0'))
}

/// Messages from offset `first` on, each with `fields` of its offset, filled up to `size` bytes.
pub(super) fn batch(first: u64, count: u64, size: usize, fields: impl Fn(u64) -> String) -> Batch {
    let payload = |n: u64| {
        let mut payload = format!("{{\"n\":{n},{},\"note\":\"", fields(n));
        let room = size.saturating_sub(payload.len() + 2);
        payload.extend("please ring twice ".chars().cycle().take(room));
        payload.push_str("\"}");
        payload
    };
    Batch::of(Schema::Json, (first..first + count).map(payload)).from_offset(first)
}

/// Calls `each` with 0, 1 and so on, `per_second` times a second, for so long; returns how often.
pub(super) fn paced(per_second: f64, lasting: Duration, mut each: impl FnMut(u64)) -> u64 {
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < lasting {
        let due = began + Duration::from_secs_f64(number as f64 / per_second);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        each(number);
        number += 1;
    }
    number
}

/// How long messages took from consume to the endpoint.
#[derive(Debug)]
pub(super) struct Delays {
    began: Instant,
    /// By number, in microseconds from the begin; 0 where it has not come about.
    consumed: Vec<AtomicU64>,
    delivered: Vec<AtomicU64>,
}

impl Delays {
    pub(super) fn of(messages: u64) -> Arc<Self> {
        let times = || (0..messages).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let delays = Self { began: Instant::now(), consumed: times(), delivered: times() };
        // Zeros may be pages that the system gives only once they are written to: they must not count as what the plugin takes.
        delays.consumed.iter().chain(&delays.delivered).for_each(|time| time.store(0, Relaxed));
        Arc::new(delays)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap().max(1)
    }

    /// Consume is called with this message, if there is room for it.
    pub(super) fn consumed(&self, number: u64) {
        self.consumed[number as usize].store(self.now(), Relaxed);
    }

    /// The endpoint takes it.
    pub(super) fn delivered(&self, number: u64) {
        self.delivered[number as usize].fetch_max(self.now(), Relaxed);
    }

    /// How many were delivered.
    pub(super) fn count(&self) -> u64 {
        self.delivered.iter().filter(|time| time.load(Relaxed) > 0).count() as u64
    }

    /// The median and the 99th percentile of those that were delivered.
    pub(super) fn quantiles(&self) -> [Duration; 2] {
        let times = self.consumed.iter().zip(&self.delivered);
        let mut all: Vec<u64> = times
            .map(|(from, to)| (from.load(Relaxed), to.load(Relaxed)))
            .filter(|(_, to)| *to > 0)
            .map(|(from, to)| to - from)
            .collect();
        all.sort_unstable();
        [50, 99].map(|of| Duration::from_micros(all[all.len() * of / 100]))
    }
}

/// The resident memory of this process, in bytes.
pub(super) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Watches how much memory the process has at most.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
    start: u64,
}

impl Watch {
    pub(super) fn start() -> Self {
        let over = Arc::<AtomicBool>::default();
        let start = resident();
        let thread = thread::spawn({
            let over = over.clone();
            move || {
                let mut most = start;
                while !over.load(Relaxed) {
                    most = most.max(resident());
                    thread::sleep(Duration::from_millis(20));
                }
                most
            }
        });
        Self { over, thread, start }
    }

    /// How much more it is than at the start, in MiB.
    pub(super) fn so_far(&self) -> u64 {
        resident().saturating_sub(self.start) / (1024 * 1024)
    }

    /// How much more it was at most than at the start, in MiB.
    pub(super) fn stop(self) -> u64 {
        self.over.store(true, Relaxed);
        (self.thread.join().unwrap() - self.start) / (1024 * 1024)
    }
}

/// Waits until it is so.
pub(super) fn wait_until(what: &str, at_most: Duration, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < at_most, "{what} does not come about in {at_most:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
