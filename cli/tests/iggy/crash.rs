//! Hosts that are killed in the middle of their work: every message arrives, each partition in order, and what comes
//! twice comes with the same key.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    iggy::support::{
        Connector,
        flow::{PARTITIONS, fill, message_count, messages},
        runtime::Runtime,
        server::Server,
        wait_for,
    },
    shared::endpoint::{Answer, Endpoint},
    support::{Running, plugin, program, start},
};

const KILLS: usize = 10;

fn connector(stream: &str, endpoint: &Endpoint, each: usize, folder: &Path) -> PathBuf {
    // So that each partition takes some fifty batches, whatever there is.
    let batch_length = (each / 50).max(10);
    let connector = Connector { batch_length, ..Connector::new(stream, &endpoint.url(), &plugin()) };
    connector.with("batch_mode = \"nd_json\"").write(folder)
}

fn host(server: &Server, file: &Path, options: &[&str]) -> Running {
    start(program(&["run", "--json", "--server", &server.address()]).arg(file).args(options))
}

/// Checks that all came, in order, and the same messages together with the same key: a host that takes over may cut bodies
/// elsewhere. Returns how many came more than once.
fn check(endpoint: &Endpoint, each: usize) -> usize {
    let mut next: HashMap<u64, u64> = HashMap::new();
    let mut keys: HashMap<Vec<(u64, u64, u64)>, String> = HashMap::new();
    let mut repeated = 0;
    for request in endpoint.requests() {
        let key = request.header("idempotency-key").expect("every request has a key");
        let messages = messages(&request);
        let partition = messages[0].0;
        assert!(messages.iter().all(|message| message.0 == partition), "a request of several partitions");
        let known = keys.entry(messages.clone()).or_insert_with(|| key.to_owned());
        assert_eq!(known, key, "partition {partition}, from offset {}", messages[0].1);
        for (partition, offset, number) in messages {
            assert_eq!(offset, number, "partition {partition}");
            let next = next.entry(partition).or_default();
            assert!(offset <= *next, "partition {partition}: {offset} came before {next}");
            if offset == *next {
                *next += 1;
            } else {
                repeated += 1;
            }
        }
    }
    for partition in 0..u64::from(PARTITIONS) {
        assert_eq!(next.get(&partition), Some(&(each as u64)), "partition {partition}");
    }
    repeated
}

/// An endpoint that takes everything after a while, and how many messages arrived so far, however often.
fn slow(delay: Duration) -> (Endpoint, Arc<AtomicUsize>) {
    let arrived = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&arrived);
    let endpoint = Endpoint::start(move |request| {
        counted.fetch_add(memchr::memchr_iter(b'\n', &request.body).count(), SeqCst);
        Answer::status(200).after(delay)
    });
    (endpoint, arrived)
}

/// Waits until so many messages arrived.
fn wait_for_messages(arrived: &AtomicUsize, enough: usize) {
    wait_for("messages", || (arrived.load(SeqCst) >= enough).then_some(()));
}

#[test]
fn a_host_that_is_killed_ten_times_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let total = message_count();
    let (endpoint, arrived) = slow(Duration::from_millis(5));
    let each = fill(&server, "killed", total);
    let folder = tempfile::tempdir().unwrap();
    let file = connector("killed", &endpoint, each, folder.path());
    let begun = Instant::now();
    let mut repeats_possible = 0;
    for kill in 1..=KILLS {
        let running = host(&server, &file, &[]);
        wait_for_messages(&arrived, total * kill / (KILLS + 2));
        running.signal("KILL");
        repeats_possible += usize::from(running.finish().code.is_none());
    }
    let finished = host(&server, &file, &["--once"]).finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let repeated = check(&endpoint, each);
    println!(
        "{total} messages, {PARTITIONS} partitions, {repeats_possible} kills: all arrived in order in {:?}, {repeated} of \
         them repeated",
        begun.elapsed()
    );
    assert_eq!(repeats_possible, KILLS);
}

#[test]
fn the_other_host_takes_over() {
    let Some(server) = Server::start() else { return };
    let total = message_count();
    let (endpoint, arrived) = slow(Duration::from_millis(20));
    let each = fill(&server, "shared", total);
    let folder = tempfile::tempdir().unwrap();
    let file = connector("shared", &endpoint, each, folder.path());
    let group = "iggy-connect-sink-shared";
    let admin = server.admin();
    let first = host(&server, &file, &[]);
    first.wait_for_stderr("reading partitions 0, 1, 2, 3");
    let second = host(&server, &file, &[]);
    // Half of them once what the first has in flight is settled.
    second.wait_for_stderr("reading partitions");
    wait_for("two members", || admin.members("shared", "t", group).filter(|members| *members == 2));
    wait_for_messages(&arrived, arrived.load(SeqCst) + total / 10);
    first.signal("KILL");
    assert_eq!(first.finish().code, None);
    let killed = Instant::now();
    second.wait_for_stderr("reading partitions 0, 1, 2, 3");
    println!("the other host had all partitions {:?} after the kill", killed.elapsed());
    wait_for("the end", || {
        let done = |partition| admin.stored("shared", "t", group, partition) == Some(each as u64 - 1);
        (0..PARTITIONS).all(done).then_some(())
    });
    second.signal("TERM");
    let finished = second.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    // Members that live, or are gone in an orderly way, are no ghosts.
    assert!(!finished.stderr.contains("made anew"), "{finished:?}");
    let repeated = check(&endpoint, each);
    println!("{total} messages, two hosts, one killed: all arrived in order, {repeated} of them repeated");
}

/// What the runtime commits before it hands it over is lost with the process, as far as consume has not kept it.
#[test]
fn what_the_runtime_loses_is_what_was_in_consume() {
    let Some(server) = Server::start() else { return };
    let away = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&away);
    let endpoint = Endpoint::start(move |_| {
        let status = if seen.load(SeqCst) { 503 } else { 200 };
        Answer::status(status).after(Duration::from_millis(20))
    });
    let total = 4000;
    let each = fill(&server, "window", total);
    let connector = Connector { batch_length: 50, ..Connector::new("window", &endpoint.url(), &plugin()) };
    let connector =
        connector.with("batch_mode = \"nd_json\"\nmax_retries = 1000\nmax_retry_delay = \"100ms\"");
    let Some(runtime) = Runtime::start(&server, std::slice::from_ref(&connector)) else { return };
    endpoint.wait_for_requests(10, Duration::from_secs(30));
    away.store(true, SeqCst);
    let refused = || endpoint.exchanges().iter().any(|exchange| exchange.status == Some(503));
    wait_for("a refusal", || refused().then_some(()));
    thread::sleep(Duration::from_millis(300));
    // On drop it is killed.
    drop(runtime);
    away.store(false, SeqCst);
    let Some(_runtime) = Runtime::start(&server, &[connector]) else { return };
    let group = "iggy-connect-sink-window";
    let admin = server.admin();
    wait_for("the end", || {
        let done = |partition| admin.stored("window", "t", group, partition) == Some(each as u64 - 1);
        (0..PARTITIONS).all(done).then_some(())
    });
    thread::sleep(Duration::from_secs(1));
    let delivered: HashSet<(u64, u64)> = endpoint
        .exchanges()
        .iter()
        .filter(|exchange| exchange.is_success())
        .flat_map(|exchange| messages(&exchange.request))
        .map(|(partition, offset, _)| (partition, offset))
        .collect();
    let lost = total - delivered.len();
    println!(
        "the runtime was killed once, without a spool: {lost} of {total} messages lost, in batches of 50"
    );
    // A batch of the one topic was in consume.
    assert!((1..=100).contains(&lost), "{lost}");
}
