//! Signals and a stdin that is closed: what was settled is known, and a run goes on where it was ended.

use std::{
    collections::HashMap,
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

use super::{TOO_LONG, folder, json, numbers, run};
use crate::{
    shared::endpoint::{Answer, Endpoint},
    support::start,
};

/// Pseudo-random numbers of a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// How often each number of the input was taken by the endpoint.
fn taken(endpoint: &Endpoint) -> HashMap<u64, usize> {
    let mut taken = HashMap::new();
    for exchange in endpoint.exchanges().iter().filter(|exchange| exchange.is_success()) {
        for line in exchange.request.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let value: Value = serde_json::from_slice(line).unwrap();
            *taken.entry(value["n"].as_u64().unwrap()).or_default() += 1;
        }
    }
    taken
}

/// Ends a run in a random way; returns what it said on stdout, if it said anything.
fn end_at_random(command: &mut Command, chance: &mut Chance) -> (Option<i32>, String) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let errors = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || std::io::read_to_string(errors).unwrap());
    // The result of a run whose stdout nobody reads is on stderr.
    let output = child.stdout.take().filter(|_| chance.below(4) > 0);
    let output = output.map(|output| std::thread::spawn(move || std::io::read_to_string(output).unwrap()));
    let id = child.id();
    let signal_to = |name: &str, whom: String| {
        Command::new("kill").args(["-s", name, "--", &whom]).stderr(Stdio::null()).status().unwrap();
    };
    let signal = |name: &str| signal_to(name, id.to_string());
    sleep(Duration::from_millis(chance.below(400)));
    match chance.below(5) {
        0 => signal("INT"),
        1 => signal("TERM"),
        2 => signal("HUP"),
        _ => {
            // As GNU timeout does.
            signal("TERM");
            sleep(Duration::from_millis(chance.below(6)));
            signal("TERM");
        }
    }
    let code = child.wait().unwrap().code();
    // GNU timeout leaves its command behind, in the group that it leads, if the signal comes right after it has started that.
    signal_to("TERM", format!("-{id}"));
    let said = output.map(|output| output.join().unwrap());
    let errors = errors.join().unwrap();
    let on_stderr = || errors.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default().to_owned();
    let said = said.unwrap_or_else(on_stderr);
    // GNU timeout hides behind a code of its own that the run was ended before it had begun.
    let code = code.filter(|code| *code < 124 || !said.is_empty() || errors.contains("stopping: "));
    assert!(code.is_none() || !said.is_empty(), "the result is lost: {code:?} {errors}");
    (code, said)
}

/// A run that a signal ends at a random moment, then the command that it names, until all is done; how often it was ended.
fn ended_again_and_again(seed: u64) -> usize {
    const LINES: usize = 400;
    let mut chance = Chance(seed);
    let faults = 5 + chance.below(10);
    // One request in so many is refused for now, and is not sent again before the run is ended.
    let endpoint = Endpoint::start(move |request| {
        Answer::status(if request.index as u64 % faults == faults - 1 { 503 } else { 200 })
    });
    let order = ["", "concurrency = 4\nordering = \"none\"\n"][usize::from(seed % 2 == 1)];
    let wait = "max_retry_delay = \"1h\"\nmax_retry_duration = \"2h\"\nclose_timeout = \"20s\"\n";
    let mode = ["", "max_batch_messages = 3\n"][usize::from(seed / 2 % 2 == 1)];
    let (folder, input) = folder(&endpoint.url(), &format!("{order}{wait}{mode}"), numbers(LINES).as_bytes());
    let file = folder.path().join("connector.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("retry_delay = \"1ms\"", "retry_delay = \"1h\"")
            .replace("max_retries = 1", "max_retries = 5"),
    )
    .unwrap();

    let mut command = run(folder.path(), &["--input", &input]);
    let mut next = String::new();
    let mut ended = 0;
    for round in 0.. {
        assert!(round < 400, "it does not come to an end: {next}");
        let (code, said) = end_at_random(&mut command, &mut chance);
        if code.is_none() {
            // It was ended before it had begun.
            command = again(&command);
            continue;
        }
        let result: Value = serde_json::from_str(&said).unwrap_or_else(|why| panic!("{why}: {said}"));
        if result["complete"] == true {
            assert_eq!(result["failed"], 0, "{result}");
            break;
        }
        let resume = result["resume"].as_str();
        resume.unwrap_or_else(|| panic!("nothing to go on with: {result}")).clone_into(&mut next);
        ended += 1;
        command = Command::new("sh");
        // As it is typed, as GNU timeout runs it, or without a stdin.
        let how = ["exec NEXT", "exec timeout 0.2s NEXT", "exec NEXT <&-"];
        command.args(["-c", &how[usize::try_from(chance.below(3)).unwrap()].replace("NEXT", &next)]);
    }
    let taken = taken(&endpoint);
    let wrong: Vec<_> =
        (0..LINES as u64).filter(|n| taken.get(n) != Some(&1)).map(|n| (n, taken.get(&n))).collect();
    assert!(wrong.is_empty(), "seed {seed}: not taken once: {wrong:?}");
    ended
}

fn again(command: &Command) -> Command {
    let mut again = Command::new(command.get_program());
    again.args(command.get_args());
    again
}

#[test]
fn however_often_a_run_is_ended_no_line_is_lost_or_doubled() {
    let wanted = std::env::var("IGGY_HTTP_SINK_INTERRUPTIONS").map_or(80, |wanted| wanted.parse().unwrap());
    let (mut seed, mut ended) = (0, 0);
    while ended < wanted {
        seed += 1;
        ended += ended_again_and_again(seed);
    }
    println!("{ended} runs were ended, of {seed} inputs");
}

#[test]
fn stdin_can_be_closed_and_a_hangup_be_ignored() {
    let endpoint = Endpoint::answering(200);
    let (folder, _) = folder(&endpoint.url(), "", b"");
    let with_shell = |script: &str| {
        let inner = run(folder.path(), &["--input", "-"]);
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command
    };
    let finished = start(&mut with_shell("exec \"$@\" <&-")).finish();
    assert_eq!((finished.code, &json(&finished)["messages"]), (Some(0), &json!(0)), "{finished:?}");

    let mut running = start(with_shell("trap '' HUP; exec \"$@\"").stdin(Stdio::piped()));
    running.write(numbers(10).as_bytes());
    endpoint.wait_for_requests(1, TOO_LONG);
    running.signal("HUP");
    running.write(numbers(10).as_bytes());
    endpoint.wait_for_requests(2, TOO_LONG);
    running.signal("INT");
    let finished = running.finish_with_open_input();
    assert_eq!((finished.code, &json(&finished)["delivered"]), (Some(1), &json!(20)), "{finished:?}");
}

#[test]
fn a_signal_before_the_connector_is_open_ends_with_a_result() {
    // The health check of open is never answered.
    let endpoint = Endpoint::start(|_| Answer::stall());
    let keys = "health_check_enabled = true\ntimeout = \"1h\"\n";
    let (folder, input) = folder(&endpoint.url(), keys, b"{}\n");
    let running = start(&mut run(folder.path(), &["--input", &input, "--start-line", "1"]));
    endpoint.wait_for_requests(1, TOO_LONG);
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!((finished.code, &json(&finished)["resume_at_line"]), (Some(1), &json!(1)), "{finished:?}");
}
