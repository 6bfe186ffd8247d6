//! The log on stderr: its forms and its levels.

use serde_json::Value;

use crate::support::{Endpoint, Finished, connector, plugin, program, start};

/// Runs over two lines, the second of which is no JSON, with these options behind the command.
fn run(options: &[&str]) -> Finished {
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), &endpoint.url(), "verbose_logging = true\n");
    let input = folder.path().join("input");
    std::fs::write(&input, "{}\n{\n").unwrap();
    let plugin = plugin();
    let [file, input, plugin] = [&file, &input, &plugin].map(|path| path.to_str().unwrap());
    let mut arguments = vec!["run", file, "--input", input, "--plugin", plugin];
    arguments.extend(options);
    start(&mut program(&arguments)).finish()
}

/// The levels of lines that begin with a time, and how many lines do not.
fn levels(stderr: &str) -> (Vec<&str>, usize) {
    let levels: Vec<&str> = stderr
        .lines()
        .filter_map(|line| {
            let (time, rest) = line.split_once(' ')?;
            humantime::parse_rfc3339(time).ok()?;
            rest.split(' ').next()
        })
        .collect();
    let others = stderr.lines().count() - levels.len();
    (levels, others)
}

#[test]
fn each_line_of_the_log_has_its_time_and_its_level() {
    let finished = run(&[]);
    let (levels, others) = levels(&finished.stderr);
    assert!(
        levels.contains(&"INFO") && levels.contains(&"ERROR") && !levels.contains(&"DEBUG"),
        "{finished:?}"
    );
    // The command that sends the failed line again.
    assert_eq!(others, 1, "{finished:?}");
}

#[test]
fn the_log_as_json_is_an_object_a_line() {
    let finished = run(&["--log-format", "json"]);
    let lines: Vec<Value> =
        finished.stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &lines {
        humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
        assert!(["level", "target", "message"].iter().all(|key| line[key].is_string()), "{line}");
    }
    let failed = lines.iter().find(|line| line["level"] == "ERROR").unwrap();
    assert!(failed["message"].as_str().unwrap().contains("offsets 1 failed: undecodable"), "{failed}");
    assert!(finished.stdout.contains("delivered"), "the result is as ever: {finished:?}");
}

#[test]
fn quiet_leaves_warnings_and_errors() {
    let finished = run(&["--quiet"]);
    let (levels, _) = levels(&finished.stderr);
    assert!(
        !levels.is_empty() && levels.iter().all(|level| ["WARN", "ERROR"].contains(level)),
        "{finished:?}"
    );
    let both = run(&["-q", "-v"]);
    assert!(both.stderr.contains("cannot be used with"), "{both:?}");
}

#[test]
fn verbose_shows_requests_and_answers() {
    let finished = run(&["-v"]);
    let (levels, _) = levels(&finished.stderr);
    assert!(levels.contains(&"DEBUG"), "{finished:?}");
    assert!(finished.stderr.contains("sending 1 messages in"), "{finished:?}");
}
