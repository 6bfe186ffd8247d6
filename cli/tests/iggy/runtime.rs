//! The plugin in the real connectors runtime: its API, a wrong configuration, a stop while the endpoint hangs.

use std::time::{Duration, Instant};

use crate::{
    iggy::support::{Connector, http, json, receiver::Receiver, runtime::Runtime, server::Server, wait_for},
    shared::endpoint::{Answer, Endpoint},
    support::plugin,
};

#[test]
fn a_restart_over_the_api_goes_on_where_it_was() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    let admin = server.admin();
    admin.create("restarted", "t", 1);
    admin.send("restarted", "t", 0, ["{\"n\":0}"]);
    let connector = Connector::new("restarted", &receiver.url("/restarted"), &plugin());
    let Some(runtime) = Runtime::start(&server, &[connector]) else { return };
    receiver.wait("/restarted", 1);
    for round in 1..=3 {
        let (status, answer) = http("POST", runtime.port, "/sinks/restarted/restart").unwrap();
        assert!((200..300).contains(&status), "{status} {answer}");
        wait_for("the sink to run", || {
            Some(runtime.sink("restarted")).filter(|sink| sink["status"] == "running")
        });
        admin.send("restarted", "t", 0, [format!("{{\"n\":{round}}}")]);
        let all = receiver.wait("/restarted", round + 1);
        assert!(all[round].body.contains(&format!("\"payload\":{{\"n\":{round}}}")), "{all:?}");
    }
    assert_eq!(receiver.received("/restarted").len(), 4);
}

#[test]
fn a_wrong_configuration_stays_alone() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    let admin = server.admin();
    for stream in ["wrong", "right"] {
        admin.create(stream, "t", 1);
        admin.send(stream, "t", 0, ["{}"]);
    }
    let connectors = [
        Connector::new("wrong", &receiver.url("/wrong"), &plugin()).with("timeout = \"soon\""),
        Connector::new("right", &receiver.url("/right"), &plugin()),
    ];
    let Some(runtime) = Runtime::start(&server, &connectors) else { return };
    receiver.wait("/right", 1);
    let wrong = runtime.sink("wrong");
    assert!(wrong["status"] == "error" && wrong["last_error"].is_object(), "{wrong}");
    assert_eq!(runtime.sink("right")["status"], "running");
    // Why it is wrong stands in the log.
    let log = runtime.log();
    assert!(log.contains("timeout") && log.contains("soon"), "{log}");
    assert!(receiver.received("/wrong").is_empty());

    let stats = json(runtime.port, "/stats").unwrap();
    let stats = stats["connectors"].as_array().unwrap();
    let right = stats.iter().find(|stats| stats["key"] == "right").unwrap();
    assert_eq!(right["version"], env!("CARGO_PKG_VERSION"), "{right}");
}

/// A consume that waits can take the thread that the runtime would hear a signal on: then the stop comes once it has
/// returned. So it waits for what the connector allows, and no longer.
#[test]
fn a_stop_waits_no_longer_than_a_request_may_take() {
    let Some(server) = Server::start() else { return };
    let endpoint = Endpoint::start(|_| Answer::stall());
    let admin = server.admin();
    admin.create("hanging", "t", 1);
    let connector = Connector::new("hanging", &endpoint.url(), &plugin())
        .with("timeout = \"2s\"\nmax_retries = 1\nclose_timeout = \"1s\"");
    let Some(mut runtime) = Runtime::start(&server, &[connector]) else { return };
    admin.send("hanging", "t", 0, ["{}"]);
    endpoint.wait_for_requests(1, Duration::from_secs(30));
    let asked = Instant::now();
    runtime.ask_to_end();
    wait_for("the end of the runtime", || runtime.has_ended().then_some(()));
    println!("the runtime ended {:?} after the signal", asked.elapsed());
    // Two attempts, or the five seconds that the runtime waits for its tasks and the one for close.
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    // What consume had taken is named, for the runtime has committed it.
    let log = runtime.log();
    assert!(log.contains("offsets 0") && log.contains("hanging"), "{log}");
}
