//! The host on a real server: when it stops, when the server does, when there is nothing yet, and what it sends again.

use std::{
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
    iggy::support::{Connector, receiver::Receiver, server::Server, wait_for},
    shared::endpoint::{Answer, Endpoint},
    support::{Finished, Running, plugin, program, start},
};

fn host(server: &Server, file: &Path, options: &[&str]) -> Running {
    start(program(&["run", "--json", "--server", &server.address()]).arg(file).args(options))
}

fn result(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|why| panic!("{why}: {finished:?}"))
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

/// The numbers in the payloads of the requests to a path.
fn received(receiver: &Receiver, path: &str) -> Vec<u64> {
    let number = |body: &str| serde_json::from_str::<Value>(body).unwrap()["n"].as_u64().unwrap();
    receiver.received(path).iter().map(|request| number(&request.body)).collect()
}

#[test]
fn a_signal_ends_it_after_what_is_on_its_way() {
    let Some(server) = Server::start() else { return };
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(50)));
    let admin = server.admin();
    admin.create("stopped", "t", 1);
    admin.send("stopped", "t", 0, numbers(0..1000));
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector { batch_length: 10, ..Connector::new("stopped", &endpoint.url(), &plugin()) };
    let file = connector.write(folder.path());
    for signal in ["TERM", "INT"] {
        let before = endpoint.requests().len();
        let running = host(&server, &file, &[]);
        endpoint.wait_for_requests(before + 15, Duration::from_secs(30));
        running.signal(signal);
        let finished = running.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let result = result(&finished);
        assert_eq!((&result["stopped"], &result["failed_batches"]), (&true.into(), &0.into()));
        // No batch is half done, and every one that was is stored.
        let sent = endpoint.requests().len() as u64;
        assert_eq!(sent % 10, 0, "{sent}");
        assert_eq!(admin.stored("stopped", "t", "iggy-connect-sink-stopped", 0), Some(sent - 1));
        assert_eq!(admin.members("stopped", "t", "iggy-connect-sink-stopped"), Some(0));
    }
}

#[test]
fn a_signal_ends_it_while_the_endpoint_hangs() {
    let Some(server) = Server::start() else { return };
    let endpoint = Endpoint::start(|_| Answer::stall());
    let admin = server.admin();
    admin.create("hanging", "t", 1);
    admin.send("hanging", "t", 0, numbers(0..3));
    let folder = tempfile::tempdir().unwrap();
    let connector = Connector::new("hanging", &endpoint.url(), &plugin()).with("close_timeout = \"500ms\"");
    let running = host(&server, &connector.write(folder.path()), &[]);
    endpoint.wait_for_requests(1, Duration::from_secs(30));
    let asked = Instant::now();
    running.signal("TERM");
    let finished = running.finish();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // Nothing is lost: it comes again.
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(admin.stored("hanging", "t", "iggy-connect-sink-hanging", 0), None);
}

#[test]
fn what_fails_is_tried_again_and_stored_once_settled() {
    let Some(server) = Server::start() else { return };
    let healthy = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&healthy);
    let endpoint = Endpoint::start(move |_| Answer::status(if seen.load(SeqCst) { 200 } else { 403 }));
    let admin = server.admin();
    admin.create("failing", "t", 1);
    admin.send("failing", "t", 0, numbers(0..3));
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("failing", &endpoint.url(), &plugin()).write(folder.path());
    let stored = || admin.stored("failing", "t", "iggy-connect-sink-failing", 0);

    // With an end to reach it does not wait for better times.
    let finished = host(&server, &file, &["--once"]).finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let once = result(&finished);
    assert_eq!(once["partitions"][0]["failing"]["last_offset"], 2, "{once}");
    assert_eq!(stored(), None);

    let running = host(&server, &file, &[]);
    running.wait_for_stderr("offsets 0 to 2 were not settled");
    sleep(Duration::from_millis(300));
    assert_eq!(stored(), None);
    healthy.store(true, SeqCst);
    wait_for("the offset", || stored().filter(|offset| *offset == 2));
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    // Once, and then summed up.
    assert_eq!(finished.stderr.matches("offsets 0 to 2 were not settled").count(), 1, "{finished:?}");
    assert!(finished.stderr.contains("works again after"), "{finished:?}");
}

#[test]
fn a_topic_that_comes_late_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("late", &receiver.url("/late"), &plugin())
        .with("include_metadata = false")
        .write(folder.path());
    let finished = host(&server, &file, &["--once"]).finish();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(result(&finished)["errors"][0].to_string().contains("no such stream or topic"), "{finished:?}");

    let running = host(&server, &file, &[]);
    running.wait_for_stderr("there is no such stream or topic");
    let admin = server.admin();
    admin.create("late", "t", 2);
    admin.send("late", "t", 0, numbers(0..2));
    admin.send("late", "t", 1, numbers(2..4));
    receiver.wait("/late", 4);
    running.signal("INT");
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr.matches("no such stream or topic").count(), 1, "{finished:?}");
    let mut all = received(&receiver, "/late");
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
}

#[test]
fn a_server_that_restarts_is_waited_for() {
    let Some(mut server) = Server::start() else { return };
    let receiver = Receiver::start();
    server.admin().create("restart", "t", 1);
    server.admin().send("restart", "t", 0, numbers(0..5));
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("restart", &receiver.url("/restart"), &plugin())
        .with("include_metadata = false")
        .write(folder.path());
    let running = host(&server, &file, &[]);
    for round in 1..=2 {
        receiver.wait("/restart", round * 5);
        sleep(Duration::from_millis(200));
        server.down();
        server.up();
        let first = round as u64 * 5;
        server.admin().send("restart", "t", 0, numbers(first..first + 5));
    }
    receiver.wait("/restart", 15);
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr.matches("works again after").count(), 2, "{finished:?}");
    assert_eq!(received(&receiver, "/restart"), (0..15).collect::<Vec<_>>());
}

#[test]
fn a_signal_ends_it_while_the_server_hangs() {
    let Some(server) = Server::start() else { return };
    let endpoint = Endpoint::answering(200);
    let admin = server.admin();
    admin.create("frozen", "t", 2);
    admin.send("frozen", "t", 0, numbers(0..3));
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("frozen", &endpoint.url(), &plugin()).write(folder.path());
    let running = host(&server, &file, &[]);
    endpoint.wait_for_requests(3, Duration::from_secs(30));
    server.signal("STOP");
    sleep(Duration::from_millis(300));
    assert_ends_beside(&server, running);
}

#[test]
fn a_signal_ends_it_while_the_server_hangs_before_anything_is_read() {
    let Some(server) = Server::start() else { return };
    // Each has its stored offset asked for, one after the other, so that the server hangs in the midst of it.
    server.admin().create("frozen-early", "t", 300);
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("frozen-early", "http://127.0.0.1:1/", &plugin()).write(folder.path());
    let running = host(&server, &file, &[]);
    running.wait_for_stderr("reading partitions");
    server.signal("STOP");
    assert_ends_beside(&server, running);
}

/// A signal ends a host soon, and well, beside a server that hangs.
fn assert_ends_beside(server: &Server, running: Running) {
    let asked = Instant::now();
    running.signal("TERM");
    let finished = running.finish();
    server.signal("CONT");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    // Two seconds for each of the last things that the server is asked, and as much again for a busy machine; a poll that
    // nobody ended would wait for a minute.
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
}

#[test]
fn a_group_of_two_hosts_outlives_the_server() {
    let Some(mut server) = Server::start() else { return };
    let receiver = Receiver::start();
    server.admin().create("two", "t", 4);
    let send = |server: &Server, first: u64| {
        for partition in 0..4 {
            let start = u64::from(partition) * 1000 + first;
            server.admin().send("two", "t", partition, numbers(start..start + 5));
        }
    };
    send(&server, 0);
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("two", &receiver.url("/two"), &plugin())
        .with("include_metadata = false")
        .write(folder.path());
    let hosts = [host(&server, &file, &[]), host(&server, &file, &[])];
    receiver.wait("/two", 20);
    let group = "iggy-connect-sink-two";
    let stored = |server: &Server, offset| {
        let admin = server.admin();
        (0..4).all(|partition| admin.stored("two", "t", group, partition) == Some(offset))
    };
    wait_for("the offsets", || stored(&server, 4).then_some(()));
    wait_for("both", || server.admin().members("two", "t", group).filter(|members| *members == 2));
    server.down();
    server.up();
    send(&server, 5);
    receiver.wait("/two", 40);
    wait_for("the offsets", || stored(&server, 9).then_some(()));
    wait_for("both", || server.admin().members("two", "t", group).filter(|members| *members == 2));
    for host in hosts {
        host.signal("TERM");
        let finished = host.finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    // Nothing was in flight, so nothing was sent twice.
    let mut all = received(&receiver, "/two");
    assert_eq!(all.len(), 40, "{all:?}");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 40, "{all:?}");
}

#[test]
fn a_range_is_sent_again_beside_the_group() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    let admin = server.admin();
    admin.create("again", "t", 2);
    admin.send("again", "t", 0, numbers(0..250));
    admin.send("again", "t", 1, numbers(0..1));
    let folder = tempfile::tempdir().unwrap();
    let run = |path: &str, options: &[&str]| {
        let file = Connector::new("again", &receiver.url(path), &plugin())
            .with("include_metadata = false")
            .write(folder.path());
        let finished = host(&server, &file, options).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        received(&receiver, path)
    };
    assert_eq!(run("/first", &["--once"]).len(), 251);
    assert!(run("/nothing", &["--once"]).is_empty());
    sleep(Duration::from_millis(20));
    let time = humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string();
    sleep(Duration::from_millis(20));
    admin.send("again", "t", 0, numbers(250..260));

    // A finished replay can be made again.
    for path in ["/offset", "/once-more"] {
        assert_eq!(run(path, &["--replay-from", "200"]), (200..260).collect::<Vec<_>>());
    }
    assert_eq!(run("/time", &["--replay-from", &time]), (250..260).collect::<Vec<_>>());
    assert_eq!(run("/beyond", &["--replay-from", "1000"]), Vec::<u64>::new());
    let group = "iggy-connect-sink-again";
    assert_eq!(admin.members("again", "t", &format!("{group}-replay-offset-200")), None);
    // The group itself is where it was.
    assert_eq!(admin.stored("again", "t", group, 0), Some(249));
    assert_eq!(run("/rest", &["--once"]), (250..260).collect::<Vec<_>>());
}

#[test]
fn wrong_credentials_are_no_reason_to_wait() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = Connector::new("nobody", "http://127.0.0.1:1/", &plugin()).write(folder.path());
    let mut command = program(&["run", "--server", &server.address()]);
    command.env("IGGY_CONNECTORS_IGGY_PASSWORD", "not this one").arg(&file);
    let finished = start(&mut command).finish();
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stdout.to_lowercase().contains("credentials"), "{finished:?}");
    assert!(!finished.stdout.contains("not this one") && !finished.stderr.contains("not this one"));
}

/// Without a spool, too, a slow endpoint gets what came meanwhile in one request, however little a poll brings.
#[test]
fn what_waits_goes_out_together() {
    let Some(server) = Server::start() else { return };
    let endpoint = Endpoint::start(|_| Answer::status(200).after(Duration::from_millis(100)));
    let admin = server.admin();
    admin.create("together", "t", 1);
    admin.send("together", "t", 0, numbers(0..1000));
    let folder = tempfile::tempdir().unwrap();
    let sent = |batch_length, keys: &str| {
        let before = endpoint.requests().len();
        let key = "together";
        let connector = Connector { batch_length, ..Connector::new(key, &endpoint.url(), &plugin()) };
        let keys = format!("batch_mode = \"nd_json\"\ninclude_metadata = false\n{keys}");
        let file = connector.with(&keys).write(folder.path());
        let finished = host(&server, &file, &["--replay-from", "0"]).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let requests = endpoint.requests().split_off(before);
        let bodies: Vec<String> =
            requests.iter().map(|request| String::from_utf8(request.body.clone()).unwrap()).collect();
        assert_eq!(bodies.concat(), numbers(0..1000).join("\n") + "\n", "each once and in order");
        bodies.iter().map(|body| body.lines().count()).collect::<Vec<_>>()
    };
    let sizes = sent(5, "");
    assert!(sizes.len() <= 3, "{sizes:?}");
    // A body is not larger than it may be.
    let sizes = sent(5, "max_batch_messages = 100");
    assert_eq!(sizes, [100; 10]);
    let sizes = sent(64, "max_batch_messages = 100");
    assert!(sizes.iter().all(|size| *size <= 100) && sizes.len() <= 16, "{sizes:?}");
}
