//! `bench --iggy`: all ways from a real server to the endpoint are measured to the last message.

use serde_json::Value;

use crate::{
    iggy::support::executable,
    support::{Finished, plugin, program, start},
};

fn bench(arguments: &[&str]) -> Finished {
    start(program(&["bench", "--iggy", "--json", "--pairs", "1"]).args(arguments)).finish()
}

#[test]
fn every_way_is_measured_to_the_last_message() {
    let (Some(server), Some(runtime)) = (executable("IGGY_SERVER"), executable("IGGY_CONNECTORS")) else {
        return;
    };
    let plugin = plugin();
    for mode in ["nd_json", "individual"] {
        let finished = bench(&[
            "--messages",
            "2001",
            "--batch",
            "100",
            "--mode",
            mode,
            "--iggy-server",
            server.to_str().unwrap(),
            "--iggy-connectors",
            runtime.to_str().unwrap(),
            "--plugin",
            plugin.to_str().unwrap(),
        ]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let value: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!(value["batch_length"], 100);
        for way in ["host", "runtime", "other"] {
            let [run] = value[way]["runs"].as_array().unwrap().as_slice() else { panic!("{value}") };
            assert_eq!(run["messages"], 2001, "{way}: {run}");
            assert!(run["body_bytes"].as_u64().unwrap() > 2001 * 1024, "{way}: {run}");
            assert!(run["first_seconds"].as_f64() <= run["seconds"].as_f64(), "{way}: {run}");
        }
        let ratio = &value["ratios"]["host_to_other"]["messages_per_second"];
        assert!(ratio["median"].as_f64().unwrap() > 0.0, "{ratio}");
    }
}

#[test]
fn what_is_missing_is_told_before_anything_starts() {
    let finished = bench(&["--iggy-server", "/nowhere/iggy-server", "--iggy-connectors", "/nowhere"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{finished:?}");
    assert_eq!(finished.stderr, "error: there is no executable at /nowhere/iggy-server\n");
    let finished = start(program(&["bench", "--iggy"]).env_remove("IGGY_SERVER")).finish();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("--iggy-server or IGGY_SERVER"), "{finished:?}");
}
