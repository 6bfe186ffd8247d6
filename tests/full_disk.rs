//! A disk without space under the spool.

use std::{
    fs::File,
    io::Write,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::spool;
use iggy_connector_sdk::Schema;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    endpoint::{Answer, Endpoint, Exchange},
    plugin::{Batch, Sink},
};

/// A file system of this size; gone when dropped.
struct Small(TempDir);

impl Small {
    /// `None` where it cannot be mounted.
    fn mount(size: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: no tmpfs can be mounted here");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves not one byte of space.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filling")).unwrap();
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Also while something in it is still open.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} does not come about");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_disk_that_is_full_at_open_frees_itself_as_messages_are_delivered() {
    const BATCHES: u64 = 40;
    let Some(disk) = Small::mount("8m") else { return };
    let folder = disk.path().join("spool");
    let there = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::start({
        let there = there.clone();
        move |_| Answer::status(if there.load(SeqCst) { 200 } else { 503 })
    });
    let config = json!({
        "url": endpoint.url(),
        "include_metadata": false,
        "max_retry_delay": "5ms",
        "retry_delay": "5ms",
        "spool": { "path": folder, "max_bytes": "64 MiB" },
    });
    let batch = |number: u64| {
        let mut batch =
            Batch::of(Schema::Text, [format!("{number:06}{}", "x".repeat(100_000))]).from_offset(number);
        batch.messages[0].id = u128::from(number) + 1;
        batch
    };
    let sink = Sink::open(&config);
    for number in 0..BATCHES {
        assert_eq!(sink.consume(&batch(number)), 0);
    }
    assert_eq!(sink.close(), 0);
    let before = spool::status(&folder).unwrap();
    assert_eq!(before.messages, BATCHES);
    disk.fill();

    there.store(true, SeqCst);
    let sink = Sink::open(&config);
    wait_until("delivery", || spool::status(&folder).unwrap().messages == 0);
    wait_until("space", || spool::status(&folder).unwrap().bytes < before.bytes / 2);
    assert_eq!(sink.consume(&batch(BATCHES)), 0, "and consume goes on");
    wait_until("delivery", || spool::status(&folder).unwrap().messages == 0);

    // The spool has given back what it had, and somebody else takes it.
    disk.fill();
    let waiting = thread::spawn({
        let batch = batch(BATCHES + 1);
        move || {
            let code = sink.consume(&batch);
            (sink, code)
        }
    });
    thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished(), "without space, consume waits");
    std::fs::remove_file(disk.path().join("filling")).unwrap();
    let (sink, code) = waiting.join().unwrap();
    assert_eq!(code, 0);
    wait_until("delivery", || spool::status(&folder).unwrap().messages == 0);
    drop(sink);

    let taken = endpoint.exchanges().into_iter().filter(Exchange::is_success);
    let taken: Vec<u64> = taken
        .map(|exchange| String::from_utf8_lossy(&exchange.request.body)[1..7].parse().unwrap())
        .collect();
    assert_eq!(taken, (0..BATCHES + 2).collect::<Vec<_>>());
}
