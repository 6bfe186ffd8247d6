//! `bench`: what it counts, beside another build, and what it says of one that is not there.

use crate::support::{Endpoint, Finished, connector, plugin, program, start};
use serde_json::Value;

fn bench(arguments: &[&str]) -> Finished {
    start(program(&["bench", "--pairs", "1"]).args(arguments)).finish()
}

fn result(finished: &Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn two_builds_are_measured_side_by_side() {
    let plugin = plugin();
    for (mode, key, requests) in [("nd_json", "ndjson", 2), ("individual", "individual", 2000)] {
        let arguments =
            ["--json", "--messages", "2000", "--mode", mode, "--plugin", plugin.to_str().unwrap()];
        let value = result(&bench(&arguments));
        // Under the name that every plugin knows.
        assert_eq!(value["mode"], key);
        for side in ["this", "other"] {
            let side = &value[side];
            assert_eq!(side["plugin_version"], env!("CARGO_PKG_VERSION"));
            let [run] = side["runs"].as_array().unwrap().as_slice() else { panic!("{side}") };
            for (key, expected) in [
                ("messages", 2000),
                ("batches", 2),
                ("failed_batches", 0),
                ("payload_bytes", 2000 * 1024),
                ("requests", requests),
            ] {
                assert_eq!(run[key], expected, "{key}: {run}");
            }
            assert!(run["body_bytes"].as_u64().unwrap() > 2000 * 1024, "{run}");
            assert!(run["latency"]["p50"].as_f64() <= run["latency"]["max"].as_f64(), "{run}");
            assert_eq!(run["peak_memory_bytes"].is_u64(), cfg!(target_os = "linux"), "{run}");
        }
        for figure in
            ["messages_per_second", "megabytes_per_second", "requests_per_second", "p50_ms", "max_ms"]
        {
            let ratio = &value["ratios"][figure];
            assert!(ratio["median"].as_f64().unwrap() > 0.0, "{figure}: {ratio}");
            assert_eq!(ratio["pairs"].as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn a_plugin_that_is_not_there_is_told_before_anything_is_measured() {
    let finished = bench(&["--messages", "1000", "--plugin", "/nowhere/libsink.so"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{finished:?}");
    assert_eq!(finished.stderr, "error: there is no plugin at /nowhere/libsink.so\n");
}

#[test]
fn a_connector_file_and_an_endpoint_of_ones_own() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let file = connector(folder.path(), "http://127.0.0.1:1/never", "batch_mode = \"json_array\"\n");
    let file = file.to_str().unwrap();
    let value = result(&bench(&[file, "--json", "--messages", "25", "--url", &endpoint.url()]));
    assert_eq!(endpoint.bodies().len(), 3);
    assert_eq!(value["this"]["runs"][0]["requests"], Value::Null);
    assert_eq!(value["this"]["figures"]["requests_per_second"], Value::Null);
    assert_eq!(value.get("ratios"), None);

    let finished = bench(&[file, "--messages", "20", "--latency", "5ms"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains("mode json_array"), "{}", finished.stdout);
}

#[test]
fn batches_that_fail_are_told() {
    let endpoint = Endpoint::start(|_, _| "404 Not Found");
    let finished = bench(&["--messages", "10", "--batch", "5", "--url", &endpoint.url()]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("2 batches failed"), "{}", finished.stderr);
}
