//! What the spool costs: a durable accept beside a bare append and sync of the same bytes on the same disk,
//! how fast batches go in, and how fast they come out.
//!
//! ```sh
//! cargo bench --bench spool
//! ```
//!
//! The folder is made in the target folder's temporary one; `SPOOL_BENCH=/path` takes another disk. The
//! accepts and the bare appends are made in turns, so that both see the same disk.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use iggy_connector_http_sink::spool::{LaneKey, LanesBy, Options, Spool, SyncMode, WhenFull};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata, host::encode_batch};
use tokio::runtime::{Builder, Runtime};

const SMALL: u64 = 10;
const LARGE: u64 = 1000;
const PAYLOAD: usize = 1024;
/// Appends of each kind.
const APPENDS: u64 = 1000;
/// Batches of [`LARGE`].
const BATCHES: u64 = 400;
/// Rounds per throughput, of which the best counts.
const ROUNDS: usize = 3;

fn topic(name: &str) -> TopicMetadata {
    TopicMetadata { stream: "orders".to_owned(), topic: name.to_owned() }
}

const METADATA: MessagesMetadata =
    MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };

fn messages(first: u64, count: u64, payload: &[u8]) -> Vec<BorrowedMessage<'_>> {
    let message = |offset| BorrowedMessage {
        id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef + u128::from(offset),
        offset,
        checksum: offset.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        timestamp: 1_760_000_000_000_000 + offset,
        origin_timestamp: 1_760_000_000_000_000,
        headers: b"",
        payload,
    };
    (first..first + count).map(message).collect()
}

fn open(path: &Path, sync: SyncMode) -> Spool {
    let options = Options {
        path: path.to_owned(),
        max_bytes: 8 << 30,
        when_full: WhenFull::Block,
        sync,
        lanes: LanesBy::Label,
    };
    Spool::open(&options).unwrap().0
}

fn accept(spool: &Spool, topic: &TopicMetadata, metadata: &MessagesMetadata, batch: &[BorrowedMessage<'_>]) {
    thread_local! {
        static EXECUTOR: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    }
    EXECUTOR
        .with(|executor| executor.block_on(spool.accept(topic, metadata, batch, SystemTime::now())))
        .unwrap();
}

fn bare(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn quantile(times: &mut [Duration], of: usize) -> Duration {
    times.sort_unstable();
    times[times.len() * of / 100]
}

/// A small batch, durable when it returns.
fn durable_accept(folder: &Path, payload: &[u8]) {
    let spool = open(&folder.join("accept"), SyncMode::Batch);
    let mut file = bare(&folder.join("bare"));
    let bytes = encode_batch(Schema::Json, &messages(0, SMALL, payload));
    let (mut accepts, mut appends) = (Vec::new(), Vec::new());
    let topic = topic("small");
    for round in 0..APPENDS {
        let batch = messages(round * SMALL, SMALL, payload);
        let append = |file: &mut File| {
            let began = Instant::now();
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            began.elapsed()
        };
        let accept = || {
            let began = Instant::now();
            accept(&spool, &topic, &METADATA, &batch);
            began.elapsed()
        };
        // Whoever comes second may find the disk warm: in turns.
        if round % 2 == 0 {
            appends.push(append(&mut file));
            accepts.push(accept());
        } else {
            accepts.push(accept());
            appends.push(append(&mut file));
        }
    }
    println!("durable append of {SMALL} messages of {PAYLOAD} bytes, {APPENDS} of each in turns");
    println!("{:<28} {:>10} {:>10} {:>10}", "", "median µs", "p90 µs", "p99 µs");
    let line = |name: &str, times: &mut [Duration]| {
        let [median, p90, p99] = [50, 90, 99].map(|of| micros(quantile(times, of)));
        println!("{name:<28} {median:>10.0} {p90:>10.0} {p99:>10.0}");
        median
    };
    let appended = line("bare append and fdatasync", &mut appends);
    let accepted = line("accept", &mut accepts);
    println!("{:<28} {:>10.2}\n", "ratio of the medians", accepted / appended);
}

/// Small batches of several topics at once.
fn together(folder: &Path, payload: &[u8]) {
    println!("durable accepts a second, batches of {SMALL}, by topics at once");
    for topics in [1, 4, 16] {
        let spool = open(&folder.join(format!("together-{topics}")), SyncMode::Batch);
        let each = APPENDS / 2;
        let began = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..topics {
                let spool = &spool;
                scope.spawn(move || {
                    let topic = topic(&number.to_string());
                    for round in 0..each {
                        accept(spool, &topic, &METADATA, &messages(round * SMALL, SMALL, payload));
                    }
                });
            }
        });
        let rate = f64::from(topics) * each as f64 / began.elapsed().as_secs_f64();
        println!("{topics:>4} topics {rate:>22.0}");
    }
    println!();
}

/// Large batches, in and out.
fn throughput(folder: &Path, payload: &[u8]) {
    println!("messages a second, batches of {LARGE} of {PAYLOAD} bytes, best of {ROUNDS}");
    let bytes = encode_batch(Schema::Json, &messages(0, LARGE, payload));
    let per_second = |time: Duration| (BATCHES * LARGE) as f64 / time.as_secs_f64();
    let line = |name: &str, rate: f64, limit: f64| {
        println!(
            "{name:<34} {rate:>12.0} {:>8.2} GB/s {:>6.2} of its limit",
            rate * PAYLOAD as f64 / 1e9,
            rate / limit
        );
        rate
    };

    let write = |name: &str, synced: bool| {
        best(&mut |round| {
            let path = folder.join(format!("{name}-{round}"));
            let mut file = bare(&path);
            let began = Instant::now();
            for _ in 0..BATCHES {
                file.write_all(&bytes).unwrap();
                if synced {
                    file.sync_data().unwrap();
                }
            }
            let time = began.elapsed();
            std::fs::remove_file(path).unwrap();
            time
        })
    };
    let limit = per_second(write("synced", true));
    line("bare append and fdatasync", limit, limit);
    let mut spools = Vec::new();
    let mut accept = |name: &str, sync: SyncMode| {
        let mut kept = None;
        let time = best(&mut |round| {
            let path = folder.join(format!("{name}-{round}"));
            let spool = open(&path, sync);
            let topic = topic("large");
            let batches: Vec<_> = (0..BATCHES).map(|batch| messages(batch * LARGE, LARGE, payload)).collect();
            let began = Instant::now();
            for batch in &batches {
                accept(&spool, &topic, &METADATA, batch);
            }
            let time = began.elapsed();
            if let Some((spool, path)) = kept.replace((spool, path)) {
                drop(spool);
                std::fs::remove_dir_all(path).unwrap();
            }
            time
        });
        spools.extend(kept.take());
        time
    };
    let batch = accept("batch", SyncMode::Batch);
    line("accept, sync = \"batch\"", per_second(batch), limit);
    let delayed = accept("delayed", SyncMode::Within(Duration::from_millis(100)));
    let unsynced = per_second(write("unsynced", false));
    line("bare append", unsynced, unsynced);
    line("accept, sync = \"100ms\"", per_second(delayed), unsynced);

    let read_bare = per_second(read_bare(&folder.join("read"), &bytes));
    line("bare read", read_bare, read_bare);
    for (spool, _) in spools {
        line("drain: next, decode, settle", per_second(drain(&spool)), read_bare);
    }
}

/// The fastest of several rounds.
fn best(round: &mut dyn FnMut(usize) -> Duration) -> Duration {
    (0..ROUNDS).map(round).min().unwrap()
}

/// How long it takes to read as many batches from a bare file.
fn read_bare(path: &Path, bytes: &[u8]) -> Duration {
    (0..BATCHES).for_each(|_| bare(path).write_all(bytes).unwrap());
    let mut copy = vec![0; bytes.len()];
    best(&mut |_| {
        let file = File::open(path).unwrap();
        let began = Instant::now();
        for batch in 0..BATCHES {
            file.read_exact_at(&mut copy, batch * bytes.len() as u64).unwrap();
            black_box(&copy);
        }
        began.elapsed()
    })
}

/// How long it takes to read and settle all that is in a spool.
fn drain(spool: &Spool) -> Duration {
    let key = LaneKey::of(&topic("large"), METADATA.partition_id);
    let (mut after, mut read) = (0, 0);
    let began = Instant::now();
    while let Some(record) = spool.next(&key, after).unwrap() {
        after = record.sequence;
        read += black_box(record.decode().unwrap().messages).len() as u64;
        spool.settle_all(&key, after).unwrap();
    }
    let time = began.elapsed();
    assert_eq!(read, BATCHES * LARGE);
    time
}

/// How long it takes to open a spool with a backlog.
fn reopen(folder: &Path, payload: &[u8]) {
    let path = folder.join("reopen");
    let spool = open(&path, SyncMode::Within(Duration::from_millis(100)));
    let topic = topic("large");
    for batch in 0..2 * BATCHES {
        accept(&spool, &topic, &METADATA, &messages(batch * LARGE, LARGE, payload));
    }
    let bytes = spool.usage().bytes;
    drop(spool);
    let began = Instant::now();
    let spool = open(&path, SyncMode::Batch);
    let time = began.elapsed();
    println!(
        "\nopen with a backlog of {:.2} GB: {:.2} s, {:?}",
        bytes as f64 / 1e9,
        time.as_secs_f64(),
        spool.usage()
    );
}

fn main() {
    let folder = match std::env::var_os("SPOOL_BENCH") {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    };
    let payload = vec![b'x'; PAYLOAD];
    durable_accept(folder.path(), &payload);
    together(folder.path(), &payload);
    throughput(folder.path(), &payload);
    reopen(folder.path(), &payload);
}
