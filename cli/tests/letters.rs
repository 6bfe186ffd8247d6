//! `dead-letters` as an operator calls it: what is wrong is told, and nothing is lost by accident.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};

use crate::support::{Endpoint, Finished, connector, plugin, program, start};

/// Messages 0 to 2, of which 1 was refused and is a letter, and an endpoint that takes it once it is told to.
struct Letters {
    folder: tempfile::TempDir,
    path: PathBuf,
    takes_all: Arc<AtomicBool>,
    _endpoint: Endpoint,
}

fn letters() -> Letters {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters");
    let takes_all = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::start({
        let takes_all = Arc::clone(&takes_all);
        move |_, body| {
            if !takes_all.load(SeqCst) && body.contains("\"n\":1}") {
                "404 Not Found\r\ncontent-length: 13\r\n\r\nno such order"
            } else {
                "200 OK"
            }
        }
    });
    let keys = format!("\n[plugin_config.dead_letter]\npath = {}\n", json!(path));
    let file = connector(folder.path(), &endpoint.url(), &keys);
    let input = folder.path().join("input");
    fs::write(&input, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n").unwrap();
    let mut command = program(&["run", "--plugin"]);
    let sent = start(command.arg(plugin()).arg(file).arg("--input").arg(input)).finish();
    assert_eq!(sent.code, Some(0), "{sent:?}");
    Letters { folder, path, takes_all, _endpoint: endpoint }
}

fn at(path: &Path, arguments: &[&str]) -> Finished {
    start(program(&["dead-letters"]).arg(path).args(arguments)).finish()
}

impl Letters {
    fn act(&self, arguments: &[&str]) -> Finished {
        at(&self.path, arguments)
    }

    fn replay(&self, arguments: &[&str]) -> Finished {
        let config = self.folder.path().join("connector.toml");
        self.act(&[&["replay", "--config", config.to_str().unwrap()], arguments].concat())
    }
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|why| panic!("{why}: {finished:?}"))
}

#[test]
fn a_replay_whose_connector_does_not_open_ends_with_3_as_the_help_says() {
    let letters = letters();
    let file = letters.folder.path().join("connector.toml");
    let text = fs::read_to_string(&file).unwrap();
    let failing = "[plugin_config]\nhealth_check_enabled = true\nsuccess_status_codes = [299]\n";
    fs::write(&file, text.replacen("[plugin_config]\n", failing, 1)).unwrap();
    let replayed = letters.replay(&[]);
    assert!(replayed.code == Some(3) && replayed.stderr.contains("health check failed"), "{replayed:?}");
    let help = letters.act(&["--help"]).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("3 if `replay` cannot open the connector"), "{help}");
}

#[test]
fn a_list_has_a_header_and_a_summary_counts() {
    let letters = letters();
    let listed = letters.act(&["list"]);
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(listed.code == Some(0) && lines.len() == 3, "{listed:?}");
    for column in ["POSITION", "TIME", "STATE", "REASON", "STATUS", "STREAM/TOPIC/PARTITION@OFFSET", "ANSWER"]
    {
        assert!(lines[0].contains(column), "{listed:?}");
    }
    let column = |name: &str| lines[0].find(name).unwrap();
    assert!(lines[1][column("REASON")..].starts_with("rejected"), "{listed:?}");
    assert!(lines[1][column("ANSWER")..].starts_with("no such order"), "{listed:?}");
    let summary = letters.act(&["summary"]);
    for word in ["rejected", "s/t", "waiting", "1 dead letter, 0 of them replayed"] {
        assert!(summary.stdout.contains(word), "{summary:?}");
    }
    let by = &json(&letters.act(&["summary", "--json"]))["by"][0];
    assert_eq!((&by["reason"], &by["letters"], &by["waiting"]), (&json!("rejected"), &json!(1), &json!(1)));
}

#[test]
fn letters_are_selected_by_time() {
    let letters = letters();
    let count = |since: &str| letters.act(&["list", "--json", "--since", since]).stdout.lines().count();
    assert_eq!((count("1h"), count("2999-01-01T00:00:00Z"), count("2020-01-01T00:00:00Z")), (1, 0, 1));
    assert_eq!(letters.act(&["list", "--since", "yesterday"]).code, Some(2));
}

#[test]
fn a_replay_says_why_each_letter_fails_again() {
    let letters = letters();
    let dry = letters.replay(&["--dry-run"]);
    assert!(dry.code == Some(0) && dry.stdout.contains("would send 1 dead letters"), "{dry:?}");
    let failed = letters.replay(&[]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for word in ["failed again: 1:0: ", "rejected", "404", "no such order"] {
        assert!(failed.stderr.contains(word), "{word}: {failed:?}");
    }
    let failed = json(&letters.replay(&["--json"]));
    assert_eq!(failed["failures"][0]["position"], "1:0");
    assert!(failed["failures"][0]["why"].as_str().unwrap().contains("no such order"), "{failed}");
    letters.takes_all.store(true, SeqCst);
    assert_eq!(json(&letters.replay(&["--json"]))["delivered"], 1);
}

#[test]
fn what_is_not_there_is_an_error() {
    let letters = letters();
    let empty = tempfile::tempdir().unwrap();
    let none = at(empty.path(), &["list"]);
    assert!(none.code == Some(2) && none.stderr.contains("no dead letters were ever kept here"), "{none:?}");
    let of_others = at(letters.folder.path(), &["purge", "--all", "--yes"]);
    assert_eq!(of_others.code, Some(2), "{of_others:?}");
    assert!(letters.folder.path().join("input").exists());
    assert_eq!(at(Path::new("/surely/not/there"), &["list"]).code, Some(2));
    for arguments in [
        &["list", "--reason", "retries_exausted"][..],
        &["list", "--position", "1:7"],
        &["list", "--position", "nowhere"],
        &["show", "9:0"],
    ] {
        let wrong = letters.act(arguments);
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
    }
    let wrong = letters.act(&["list", "--reason", "retries_exausted"]);
    assert!(wrong.stderr.contains("retries_exhausted"), "the reasons are told: {wrong:?}");
    let elsewhere = letters.act(&["list", "--topic", "elsewhere"]);
    assert!(elsewhere.code == Some(0) && elsewhere.stderr.contains("none of the 1 letters"), "{elsewhere:?}");
    assert_eq!(letters.replay(&["--position", "1:7"]).code, Some(2));
}

#[test]
fn letters_that_were_never_replayed_are_not_purged_by_accident() {
    let letters = letters();
    let kept = letters.act(&["purge"]);
    assert!(kept.code == Some(0) && kept.stdout.starts_with("removed 0 files"), "{kept:?}");
    let dry = letters.act(&["purge", "--all", "--dry-run"]);
    assert!(dry.code == Some(0) && dry.stdout.starts_with("would remove 1 files with 1 letters"), "{dry:?}");
    let asked = letters.act(&["purge", "--all"]);
    assert!(asked.code == Some(2) && asked.stderr.contains("--yes"), "nobody can answer: {asked:?}");
    let listed = letters.act(&["list"]);
    assert!(listed.stdout.contains("1 dead letter, 0 of them replayed"), "{listed:?}");
    let purged = letters.act(&["purge", "--all", "--yes"]);
    assert!(
        purged.code == Some(0) && purged.stdout.starts_with("removed 1 files with 1 letters"),
        "{purged:?}"
    );
    assert!(letters.act(&["list"]).stdout.starts_with("0 dead letters"), "the folder is still known");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let letters = letters();
    let mut command = program(&["dead-letters"]);
    let mut child =
        command.arg(&letters.path).arg("list").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // As in a shell.
    let script = "\"$@\" | head -n 0; echo done";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_iggy-http-sink"), "run", "--help"]);
    let finished = start(&mut shell).finish();
    assert!(finished.stdout == "done\n" && finished.stderr.is_empty(), "{finished:?}");
}
