//! Spans of attempts, where the environment says who takes them.

use crate::shared::endpoint::Endpoint;
use crate::support::{Finished, connector, plugin, program, start};

/// Runs over one line, with these variables.
fn run(endpoint: &Endpoint, variables: &[(&str, &str)]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), &endpoint.url(), "");
    let input = folder.path().join("input");
    std::fs::write(&input, "{}\n").unwrap();
    let plugin = plugin();
    let [file, input, plugin] = [&file, &input, &plugin].map(|path| path.to_str().unwrap());
    let mut command = program(&["run", file, "--input", input, "--plugin", plugin]);
    start(command.envs(variables.iter().copied())).finish()
}

#[test]
fn the_environment_can_name_the_collector_and_the_service() {
    let (endpoint, collector) = (Endpoint::answering(200), Endpoint::answering(200));
    let origin = collector.origin();
    let finished =
        run(&endpoint, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &origin), ("OTEL_SERVICE_NAME", "orders-to-http")]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let taken = collector.requests();
    assert_eq!(taken.iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), ["/v1/traces"]);
    let holds = |words: &[u8]| taken[0].body.windows(words.len()).any(|window| window == words);
    assert!(holds(b"orders-to-http") && holds(b"http.response.status_code"));
    let sent = endpoint.requests();
    let span = sent[0].header("traceparent").unwrap().split('-').nth(2).unwrap().to_owned();
    assert!(holds(&u64::from_str_radix(&span, 16).unwrap().to_be_bytes()), "{span}");
}

#[test]
fn a_collector_that_is_none_is_told_by_the_name_of_its_variable() {
    let endpoint = Endpoint::answering(200);
    let finished = run(&endpoint, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(
        finished.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT: \"collector\" is neither"),
        "{finished:?}"
    );
    assert_eq!(run(&endpoint, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).code, Some(0));
    assert_eq!(endpoint.requests()[0].header("traceparent"), None);
}
