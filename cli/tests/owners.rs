//! A folder of a service's user that root works in, and one that the program may not write to.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
};

use crate::support::{Endpoint, Finished, connector, program, start};

/// The user and the group of the service.
const USER: u32 = 4711;
const GROUP: u32 = 4712;

/// A connector file with dead letters, two to a file, and a spool.
fn with_folders(folder: &Path, url: &str, with_spool: bool) -> PathBuf {
    let table = |name: &str| format!("\n[plugin_config.{name}]\npath = '{}'\n", folder.join(name).display());
    let letters = format!("{}segment_bytes = 1000\n", table("dead_letter"));
    let keys = if with_spool { letters + &table("spool") } else { letters };
    connector(folder, url, &keys)
}

/// Runs the program on four messages.
fn run(file: &Path) -> Finished {
    let input = file.with_file_name("in.ndjson");
    fs::write(&input, "1\n2\n3\n4\n").unwrap();
    start(&mut program(&["run", file.to_str().unwrap(), "--input", input.to_str().unwrap()])).finish()
}

fn as_service(arguments: &[&str]) -> Finished {
    let mut program = program(arguments);
    if is_root() {
        program.uid(USER).gid(GROUP);
    }
    start(&mut program).finish()
}

/// Whether another user can start the program at all.
fn service_can_run() -> bool {
    let mut program = program(&["--version"]);
    let works = program.uid(USER).gid(GROUP).output().is_ok_and(|output| output.status.success());
    if !works {
        eprintln!("skipped: user {USER} cannot start the program where it was built");
    }
    works
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn what_root_makes_in_the_folder_of_a_service_locks_the_service_out_of_nothing() {
    if !is_root() {
        eprintln!("skipped: only root can make files for somebody else");
        return;
    }
    if !service_can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    chown(&state, Some(USER), Some(GROUP)).unwrap();
    let endpoint = Endpoint::start(|number, _| if number < 8 { "404 Not Found" } else { "200 OK" });
    // Root runs the connector once and replays, as one who looks for what is wrong does.
    let file = with_folders(&state, &endpoint.url(), true);
    let letters = state.join("dead_letter");
    let letters = letters.to_str().unwrap();
    let ran = run(&file);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let replay = ["dead-letters", letters, "replay", "--config", file.to_str().unwrap()];
    let replayed = start(&mut program(&replay)).finish();
    assert_eq!(replayed.code, Some(1), "{}{}", replayed.stdout, replayed.stderr);
    let made = below(&state);
    for name in [
        "spool/lock",
        "dead_letter/lock",
        "dead_letter/replay.lock",
        "dead_letter/dead-letters-000002.replayed",
    ] {
        assert!(made.contains(&state.join(name)), "{name} is in {made:?}");
    }
    for path in [state.join("spool"), state.join("dead_letter")].iter().flat_map(|folder| below(folder)) {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (USER, GROUP), "{}", path.display());
    }
    // And then the service itself.
    let spool = state.join("spool");
    for arguments in [
        &["dead-letters", letters, "list"][..],
        &["spool", spool.to_str().unwrap(), "status"],
        &replay,
        &["run", file.to_str().unwrap(), "--input", state.join("in.ndjson").to_str().unwrap()],
        &["dead-letters", letters, "purge"],
    ] {
        let ran = as_service(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_replay_sends_nothing_while_the_marks_of_any_file_cannot_be_written() {
    if is_root() && !service_can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let endpoint = Endpoint::start(|number, _| if number < 4 { "404 Not Found" } else { "200 OK" });
    let file = with_folders(folder.path(), &endpoint.url(), false);
    let ran = run(&file);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let letters = folder.path().join("dead_letter");
    let before = endpoint.bodies().len();
    let marks = letters.join("dead-letters-000002.replayed");
    // A hundred in the first file, which are sent together, and two in the second.
    let [first, second] = ["1", "2"].map(|number| letters.join(format!("dead-letters-00000{number}.ndjson")));
    fs::copy(&first, &second).unwrap();
    fs::write(&first, fs::read_to_string(&first).unwrap().repeat(50)).unwrap();
    fs::write(&marks, "").unwrap();
    fs::write(letters.join("replay.lock"), "").unwrap();
    if is_root() {
        for path in below(&letters).iter().chain([&letters]) {
            chown(path, Some(USER), Some(GROUP)).unwrap();
        }
    }
    let arguments = ["dead-letters", letters.to_str().unwrap(), "replay", "--config", file.to_str().unwrap()];
    let refuses = |named: &Path| {
        let replayed = as_service(&arguments);
        assert_eq!(replayed.code, Some(1), "{}{}", replayed.stdout, replayed.stderr);
        let said = format!("{}: Permission denied", named.display());
        assert!(replayed.stderr.contains(&said), "{}", replayed.stderr);
        assert_eq!(endpoint.bodies().len(), before, "nothing is sent");
    };
    // One file of marks, behind one that can be written.
    fs::set_permissions(&marks, fs::Permissions::from_mode(0o400)).unwrap();
    refuses(&marks);
    // The folder.
    fs::set_permissions(&marks, fs::Permissions::from_mode(0o600)).unwrap();
    let first = letters.join("dead-letters-000001.replayed");
    fs::remove_file(&first).unwrap();
    fs::set_permissions(&letters, fs::Permissions::from_mode(0o500)).unwrap();
    refuses(&first);
    fs::set_permissions(&letters, fs::Permissions::from_mode(0o700)).unwrap();
    let replayed = as_service(&arguments);
    assert_eq!(replayed.code, Some(0), "{}{}", replayed.stdout, replayed.stderr);
    assert_eq!(endpoint.bodies().len(), before + 102);
}
