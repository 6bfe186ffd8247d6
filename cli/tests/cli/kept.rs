//! Dead letters and spools, from the outside.

use super::*;

#[test]
fn dead_letters_are_listed_shown_replayed_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let letters = folder.path().join("letters");
    let away = Arc::new(AtomicBool::new(true));
    let endpoint = Endpoint::start({
        let away = Arc::clone(&away);
        move |_, body| {
            if away.load(SeqCst) && body.contains("\"n\":1}") { "404 Not Found" } else { "200 OK" }
        }
    });
    connector(
        folder.path(),
        &endpoint.url(),
        &format!("\n[plugin_config.dead_letter]\npath = '{}'\n", letters.display()),
    );
    let sent = run(folder.path(), numbers(3).as_bytes());
    assert_eq!(sent.code, Some(0), "a dead letter is settled: {sent:?}");
    let path = letters.to_str().unwrap();
    let act =
        |arguments: &[&str]| start(&mut program(&[&["dead-letters", path], arguments].concat())).finish();

    let listed = act(&["list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    for word in ["1:0", "waiting", "rejected", "404", "s/t/0@1", "1 dead letter, 0 of them replayed"] {
        assert!(listed.stdout.contains(word), "{word}: {listed:?}");
    }
    assert!(act(&["list", "--reason", "too_large"]).stdout.starts_with("0 dead letters"));
    let shown = json(&act(&["show", "1:0"]));
    assert_eq!(
        (&shown["position"], &shown["replayed"], &shown["offset"]),
        (&json!("1:0"), &json!(false), &json!(1))
    );
    assert_eq!(shown["payload"], json!({ "n": 1 }));
    assert_eq!(act(&["show", "1:7"]).code, Some(2));

    let config = folder.path().join("connector.toml");
    let replay = || act(&["replay", "--json", "--config", config.to_str().unwrap()]);
    let result = |finished: &Finished| {
        let result = json(finished);
        ["delivered", "failed", "replayed_before"].map(|key| result[key].as_u64().unwrap())
    };
    let failed = replay();
    assert_eq!((failed.code, result(&failed)), (Some(1), [0, 1, 0]), "{failed:?}");
    away.store(false, SeqCst);
    let delivered = replay();
    assert_eq!((delivered.code, result(&delivered)), (Some(0), [1, 0, 0]), "{delivered:?}");
    let again = replay();
    assert_eq!((again.code, result(&again)), (Some(0), [0, 0, 1]), "{again:?}");

    let purged = act(&["purge"]);
    assert!(purged.code == Some(0) && purged.stdout.contains("1 letters"), "{purged:?}");
    assert!(act(&["list"]).stdout.starts_with("0 dead letters"));
    assert_eq!(start(&mut program(&["dead-letters", "/surely/not/there", "list"])).finish().code, Some(2));
}

#[cfg(unix)]
#[test]
fn a_spool_shows_what_waits_and_the_next_run_delivers_it() {
    let there = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::start({
        let there = there.clone();
        move |_, _| if there.load(SeqCst) { "200 OK" } else { "503 Service Unavailable" }
    });
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    let more = format!(
        "batch_mode = \"nd_json\"\ninclude_metadata = false\nclose_timeout = \"1s\"\n[plugin_config.spool]\npath = {}\n",
        json!(spool)
    );
    let file = connector(folder.path(), &endpoint.url(), &more);
    let status = || json(&start(program(&["spool", "--json"]).arg(&spool).arg("status")).finish());

    let run = || {
        let mut command = program(&["run", "--json", "--input", "-", "--plugin"]);
        // One body is tried, and keeps its messages; all that comes later waits behind it.
        for (key, value) in [
            ("MAX_RETRIES", "1000000"),
            ("RETRY_DELAY", "1h"),
            ("MAX_RETRY_DELAY", "1h"),
            ("RETRY_JITTER", "none"),
        ] {
            command.env(format!("IGGY_CONNECTORS_SINK_TEST_PLUGIN_CONFIG_{key}"), value);
        }
        start(command.arg(plugin()).arg(&file).stdin(Stdio::piped()))
    };
    let mut running = run();
    running.write(numbers(25).as_bytes());
    running.close_input();
    running.wait_for_stderr("all is in the spool");
    let waiting = status();
    assert_eq!((&waiting["messages"], &waiting["in_use"]), (&json!(25), &json!(true)), "{waiting}");
    assert_eq!(
        (&waiting["lanes"][0]["next_offset"], &waiting["lanes"][0]["partition"]),
        (&json!(0), &json!(null)),
        "the first batch of a partition may hold others as well"
    );
    running.signal("INT");
    let interrupted = running.finish();
    assert!(interrupted.stderr.contains("25 messages stay in the spool"), "{interrupted:?}");

    there.store(true, SeqCst);
    let refused = endpoint.bodies().len();
    let mut running = run();
    running.close_input();
    let finished = running.finish();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(status()["messages"], 0);
    // Whatever waited behind what was tried before goes out together.
    let lines: Vec<_> = endpoint.bodies()[refused..].iter().map(|body| body.lines().count()).collect();
    assert!(lines.len() <= 2 && lines.iter().sum::<usize>() == 25, "{lines:?}");
    let shown = start(program(&["spool"]).arg(&spool).arg("status")).finish();
    assert!(shown.code == Some(0) && shown.stdout.contains("not open"), "{shown:?}");
    assert_eq!(start(&mut program(&["spool", "/surely/not/there", "status"])).finish().code, Some(1));
}
