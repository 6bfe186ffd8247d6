//! What a signal ends.

use super::*;

#[cfg(unix)]
#[test]
fn an_interrupt_settles_the_batch_and_tells_where_to_go_on() {
    for signal in ["INT", "TERM", "HUP"] {
        let endpoint = Endpoint::start(|_, _| "200 OK");
        let folder = tempfile::tempdir().unwrap();
        let file = connector(folder.path(), &endpoint.url(), "batch_mode = \"nd_json\"\n");
        let mut command = program(&["run", "--json", "--input", "-", "--plugin"]);
        let mut running = start(command.arg(plugin()).arg(file).stdin(Stdio::piped()));
        // More input may always come: nothing but the signal ends this run.
        running.write(numbers(20).as_bytes());
        endpoint.wait_for_requests(2);
        running.signal(signal);
        let finished = running.finish_with_open_input();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let result = json(&finished);
        assert_eq!((&result["messages"], &result["resume_at_line"]), (&20.into(), &21.into()));
        assert_eq!((&result["failed_batches"], &result["complete"]), (&0.into(), &false.into()));
        assert!(finished.stderr.contains("--start-line 21"), "{finished:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_waits_for_an_endpoint_that_is_away_no_longer_than_close_timeout() {
    // No request is ever answered.
    let endpoint = Endpoint::start(|_, _| "");
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), &endpoint.url(), "close_timeout = \"200ms\"\ntimeout = \"1h\"\n");
    let mut command = program(&["run", "--json", "--input", "-", "--plugin"]);
    let mut running = start(command.arg(plugin()).arg(file).stdin(Stdio::piped()));
    running.write(numbers(10).as_bytes());
    endpoint.wait_for_requests(1);
    running.signal("INT");
    let finished = running.finish_with_open_input();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let result = json(&finished);
    // What was on its way is not settled.
    assert_eq!((&result["failed_batches"], &result["resume_at_line"]), (&1.into(), &1.into()), "{result}");
    assert_eq!((&result["failed"], &result["cut_off"]), (&0.into(), &10.into()), "{result}");
    assert!(finished.stderr.contains("closed"), "{finished:?}");
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_at_once() {
    // The first request is never answered.
    let endpoint = Endpoint::start(|_, _| "");
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), &endpoint.url(), "");
    let mut command = program(&["run", "--input", "-", "--plugin"]);
    let mut running = start(command.arg(plugin()).arg(file).stdin(Stdio::piped()));
    running.write(b"{}\n");
    endpoint.wait_for_requests(1);
    running.signal("INT");
    running.wait_for_stderr("stopping");
    // It counts only a second after the first.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    running.signal("INT");
    let finished = running.finish_with_open_input();
    assert_eq!(finished.code, Some(130));
    assert!(finished.stderr.contains("--start-line 1"), "{finished:?}");
}
