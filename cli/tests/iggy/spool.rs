//! The real runtime with the plugin and its spool: what consume had accepted outlives every kill.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    iggy::support::{
        Connector,
        admin::Admin,
        flow::{PARTITIONS, fill, message_count, messages},
        runtime::Runtime,
        server::Server,
        wait_for,
    },
    shared::endpoint::{Answer, Endpoint},
    support::{plugin, program, start},
};

/// A partition and an offset in it.
type Place = (u32, u64);

/// How often the runtime is killed: `IGGY_KILLS`, or few enough for every day.
fn kill_count() -> usize {
    std::env::var("IGGY_KILLS").map_or(3, |count| count.parse().expect("IGGY_KILLS is a number"))
}

fn spooled(connector: Connector, spool: &Path) -> Connector {
    connector.with(&format!("[plugin_config.spool]\npath = \"{}\"", spool.display()))
}

/// What `spool PATH status` says.
fn status(spool: &Path) -> Value {
    let finished = start(program(&["spool", "--json"]).arg(spool).arg("status")).finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

/// What arrived, by partition.
fn arrived(endpoint: &Endpoint) -> BTreeSet<Place> {
    let requests = endpoint.requests();
    let all = requests.iter().flat_map(messages);
    all.map(|(partition, offset, _)| (u32::try_from(partition).unwrap(), offset)).collect()
}

/// How many messages of the partition the runtime has polled: it has the server store that when it polls.
fn polled(admin: &Admin, stream: &str, partition: u32) -> u64 {
    let group = format!("iggy-connect-sink-{stream}");
    admin.stored(stream, "t", &group, partition).map_or(0, |offset| offset + 1)
}

fn polled_of_all(admin: &Admin, stream: &str) -> u64 {
    (0..PARTITIONS).map(|partition| polled(admin, stream, partition)).sum()
}

/// The end of what consume has accepted of a partition: after all that is in the spool and all that arrived. `lost` is
/// what was never in the spool before.
fn accepted(spool: &Value, came: &BTreeSet<Place>, lost: &BTreeSet<Place>, partition: u32) -> u64 {
    let delivered = came.range((partition, 0)..=(partition, u64::MAX)).next_back();
    let delivered = delivered.map_or(0, |(_, offset)| offset + 1);
    let lanes = spool["lanes"].as_array().unwrap();
    let Some(lane) = lanes.iter().find(|lane| lane["partition"] == partition) else { return delivered };
    let first = lane["next_offset"].as_u64().unwrap();
    let waiting = usize::try_from(lane["messages"].as_u64().unwrap()).unwrap();
    let stored = (first..).filter(|offset| !lost.contains(&(partition, *offset))).take(waiting);
    // The one that was on its way when the process died is in the spool and may have arrived.
    delivered.max(stored.last().map_or(0, |offset| offset + 1))
}

/// Checks that each partition arrived in order, but for what was lost, and repeats with the keys of the first time; how
/// many came more than once.
fn check(endpoint: &Endpoint, lost: &BTreeSet<Place>) -> usize {
    let mut latest: HashMap<u64, u64> = HashMap::new();
    let mut keys: HashMap<(u64, u64), String> = HashMap::new();
    let mut repeated = 0;
    for request in endpoint.requests() {
        let key = request.header("idempotency-key").expect("every request has a key");
        for (partition, offset, number) in messages(&request) {
            assert_eq!(offset, number, "partition {partition}");
            if let Some(before) = keys.get(&(partition, offset)) {
                repeated += 1;
                assert_eq!(before, key, "partition {partition}, offset {offset}");
                continue;
            }
            let latest = latest.entry(partition).or_insert(0);
            let place = (u32::try_from(partition).unwrap(), offset);
            assert!(!lost.contains(&place), "{place:?} was not in the spool");
            assert!(offset >= *latest, "partition {partition}: {offset} came after {latest}");
            *latest = offset;
            keys.insert((partition, offset), key.to_owned());
        }
    }
    repeated
}

#[test]
fn a_runtime_that_is_killed_loses_nothing_that_consume_accepted() {
    let Some(server) = Server::start() else { return };
    let (total, kills) = (message_count(), kill_count());
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(2)));
    let each = fill(&server, "kept", total);
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let batch_length = (each / 100).max(10);
    let connector = Connector { batch_length, ..Connector::new("kept", &endpoint.url(), &plugin()) };
    let connector = spooled(connector.with("batch_mode = \"nd_json\""), &spool);
    let admin = server.admin();
    let mut lost = BTreeSet::new();
    let mut windows = Vec::new();
    for kill in 1..=kills {
        let Some(runtime) = Runtime::start(&server, std::slice::from_ref(&connector)) else { return };
        let enough = (total * kill / (kills + 2)) as u64;
        wait_for("messages", || (polled_of_all(&admin, "kept") >= enough).then_some(()));
        // On drop it is killed.
        drop(runtime);
        // By then the server has done what it had still asked for.
        let members = || admin.members("kept", "t", "iggy-connect-sink-kept");
        wait_for("the server to notice", || (members() == Some(0)).then_some(()));
        assert!(polled_of_all(&admin, "kept") < total as u64, "kill {kill} came after the flow");
        let (kept, came) = (status(&spool), arrived(&endpoint));
        let before = lost.len();
        for partition in 0..PARTITIONS {
            let end = accepted(&kept, &came, &lost, partition);
            lost.extend((end..polled(&admin, "kept", partition)).map(|offset| (partition, offset)));
        }
        windows.push(lost.len() - before);
    }
    let Some(_runtime) = Runtime::start(&server, &[connector]) else { return };
    wait_for("the end", || (polled_of_all(&admin, "kept") == total as u64).then_some(()));
    let waiting = || status(&spool)["messages"].as_u64().unwrap();
    wait_for("an empty spool", || {
        (arrived(&endpoint).len() + lost.len() >= total && waiting() == 0).then_some(())
    });
    let repeated = check(&endpoint, &lost);
    println!(
        "{total} messages, {PARTITIONS} partitions, {kills} kills of the runtime, batches of {batch_length}: polled and not \
         handed over were {windows:?}, everything else arrived in order, {repeated} of them repeated"
    );
    assert_eq!(arrived(&endpoint).len() + lost.len(), total);
    assert!(windows.iter().all(|window| *window <= batch_length), "{windows:?}");
}

#[test]
fn a_stop_while_the_endpoint_hangs_leaves_the_messages_in_the_spool() {
    let Some(server) = Server::start() else { return };
    let healthy = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&healthy);
    let endpoint =
        Endpoint::start(move |_| if seen.load(SeqCst) { Answer::status(200) } else { Answer::stall() });
    let total = 1000;
    fill(&server, "waiting", total);
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let connector = Connector::new("waiting", &endpoint.url(), &plugin())
        .with("batch_mode = \"nd_json\"\ntimeout = \"1m\"\nclose_timeout = \"1s\"");
    let connector = spooled(connector, &spool);
    let Some(mut runtime) = Runtime::start(&server, std::slice::from_ref(&connector)) else { return };
    endpoint.wait_for_requests(1, Duration::from_secs(30));
    // None of them waits for the endpoint.
    let waiting = || status(&spool)["messages"].as_u64().unwrap();
    wait_for("the messages in the spool", || (waiting() == total as u64).then_some(()));
    let asked = Instant::now();
    runtime.ask_to_end();
    wait_for("the end of the runtime", || runtime.has_ended().then_some(()));
    let took = asked.elapsed();
    println!("with a spool, the runtime ended {took:?} after the signal");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let log = runtime.log();
    assert!(log.contains("1000 messages stay in the spool"), "{log}");
    drop(runtime);
    assert_eq!(waiting(), total as u64);

    healthy.store(true, SeqCst);
    let Some(_runtime) = Runtime::start(&server, &[connector]) else { return };
    wait_for("an empty spool", || (waiting() == 0).then_some(()));
    sleep(Duration::from_millis(100));
    assert_eq!(arrived(&endpoint).len(), total);
    check(&endpoint, &BTreeSet::new());
}
