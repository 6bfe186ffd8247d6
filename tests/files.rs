//! The files of spool and dead letters: their owner's alone, and nothing else in their place.

use std::{
    env, fs,
    ops::ControlFlow,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use iggy_connector_http_sink::{dead_letter::Folder, spool};
use serde_json::json;

use crate::support::{
    again::again_after,
    endpoint::Endpoint,
    plugin::{Batch, Sink, logged},
    spooled::{config, wait_until},
};

/// Tells a child process where to put its files.
const CHILD: &str = "IGGY_HTTP_SINK_TEST_FILES";

/// Everything below a folder, with its mode.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        found.push((path.clone(), metadata.mode() & 0o7777));
        if metadata.is_dir() {
            found.extend(modes(&path));
        }
    }
    found
}

#[track_caller]
fn assert_for_the_owner_alone(folder: &Path) {
    for (path, mode) in modes(folder) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{} has mode {mode:04o}", path.display());
    }
}

/// Stores and refuses messages, then replays them: every file there is comes about.
fn make_all_files(below: &Path) {
    let endpoint = Endpoint::answering(404);
    let config = config(&endpoint.url(), below, json!({}));
    let letters = below.join("dead-letters");
    let sink = Sink::open(&config);
    assert_eq!(sink.consume(&Batch::numbered(3)), 0);
    let file = letters.join("dead-letters-000001.ndjson");
    wait_until("dead letters", || fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 3));
    assert_eq!(sink.close(), 0);
    // A damaged piece is set aside when the spool is opened.
    let segment = fs::read_dir(below.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let segment =
        segment.into_iter().find(|path| path.extension().is_some_and(|name| name == "log")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes.extend_from_slice(&[1; 100]);
    fs::write(&segment, bytes).unwrap();
    let sink = Sink::open(&config);
    let folder = Folder::open(&letters).unwrap();
    folder.replay(&config, |_| true, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(sink.close(), 0);
}

/// Run by the test below in a process of its own, whose umask is its own.
#[test]
fn child() {
    if let Some(below) = env::var_os(CHILD) {
        make_all_files(Path::new(&below));
    }
}

#[test]
fn what_is_made_is_for_its_owner_alone_whatever_the_umask() {
    for umask in ["022", "000", "077", "277"] {
        let folder = tempfile::tempdir().unwrap();
        // Folders on the way are missing, too.
        let below = folder.path().join("made/on/the/way");
        let status = again_after(&format!("umask {umask}"), module_path!(), "child")
            .env(CHILD, &below)
            .output()
            .unwrap();
        assert!(status.status.success(), "umask {umask}: {}", String::from_utf8_lossy(&status.stdout));
        let made = modes(folder.path());
        for name in
            ["lock", "replay.lock", "damaged", "dead-letters-000001.ndjson", "dead-letters-000001.replayed"]
        {
            assert!(made.iter().any(|(path, _)| path.ends_with(name)), "{name} is in {made:?}");
        }
        assert!(made.iter().any(|(path, _)| path.ends_with("spool-of-this-connector")), "{made:?}");
        assert!(
            made.iter().any(|(path, _)| path.extension().is_some_and(|name| name == "damaged")),
            "{made:?}"
        );
        assert_for_the_owner_alone(folder.path());
    }
}

#[test]
fn files_of_an_earlier_release_are_tightened() {
    let folder = tempfile::tempdir().unwrap();
    make_all_files(folder.path());
    for (path, _) in modes(folder.path()) {
        let loose = if path.is_dir() { 0o777 } else { 0o666 };
        fs::set_permissions(&path, fs::Permissions::from_mode(loose)).unwrap();
    }
    make_all_files(folder.path());
    assert_for_the_owner_alone(folder.path());
}

#[test]
fn a_folder_with_files_of_others_stays_as_it_is_and_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    fs::create_dir(&spool).unwrap();
    fs::write(spool.join("syslog"), "somebody else's").unwrap();
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o777)).unwrap();
    let endpoint = Endpoint::answering(200);
    let sink = Sink::open(&config(&endpoint.url(), folder.path(), json!({})));
    assert_eq!(fs::metadata(&spool).unwrap().mode() & 0o7777, 0o777);
    let warned = logged(&format!("{} can be written to by others", spool.display()));
    assert!(warned.iter().any(|line| line.starts_with("WARN")), "{warned:?}");
    assert_eq!(fs::metadata(spool.join("lock")).unwrap().mode() & 0o777, 0o600);
    drop(sink);
}

/// What can stand in the place of a file.
const IN_PLACE: [&str; 5] =
    ["a symbolic link", "a symbolic link to nothing", "a FIFO", "a socket", "a folder"];

fn put(kind: &str, path: &Path, victim: &Path) {
    // Of an earlier run.
    let _ = fs::remove_file(path);
    match kind {
        "a symbolic link" => symlink(victim, path).unwrap(),
        "a symbolic link to nothing" => symlink(victim.with_extension("nothing"), path).unwrap(),
        "a FIFO" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "a socket" => drop(UnixListener::bind(path).unwrap()),
        _ => fs::create_dir(path).unwrap(),
    }
}

/// What this returns within a time in which nothing blocks.
#[track_caller]
fn soon<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(run()));
    wait.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{what} blocks"))
}

#[test]
fn what_is_no_file_in_the_place_of_one_is_refused_and_not_touched() {
    let names = [
        "spool/lock",
        "spool/000000000001.log",
        "dead-letters/lock",
        "dead-letters/dead-letters-000001.ndjson",
        "dead-letters/spool-of-this-connector",
    ];
    for (name, kind) in names.into_iter().flat_map(|name| IN_PLACE.map(|kind| (name, kind))) {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        for part in ["spool", "dead-letters"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        let path = folder.path().join(name);
        put(kind, &path, &victim);
        let endpoint = Endpoint::answering(200);
        let config = config(&endpoint.url(), folder.path(), json!({}));
        let opened = soon(&format!("open with {kind} for {name}"), move || Sink::try_open(&config).map(drop));
        let kind = kind.trim_end_matches(" to nothing");
        assert_eq!(opened, Err(1), "{kind} in the place of {name}");
        let told = logged(&path.display().to_string());
        assert!(
            told.iter().any(|line| line.starts_with("ERROR") && line.contains(kind)),
            "{kind}, {name}: {told:?}"
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{kind} in the place of {name}");
        assert!(!victim.with_extension("nothing").exists(), "{name}");
    }
}

#[test]
fn readers_and_replays_refuse_what_is_no_file_too() {
    for (name, kind) in ["dead-letters-000001.ndjson", "dead-letters-000001.replayed", "replay.lock"]
        .into_iter()
        .flat_map(|name| IN_PLACE.map(|kind| (name, kind)))
    {
        let folder = tempfile::tempdir().unwrap();
        make_all_files(folder.path());
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let letters = folder.path().join("dead-letters");
        put(kind, &letters.join(name), &victim);
        let endpoint = Endpoint::answering(200);
        let config = config(&endpoint.url(), folder.path(), json!({}));
        let replayed = soon(&format!("a replay with {kind} for {name}"), move || {
            let folder = Folder::open(&letters).unwrap();
            folder.replay(&config, |_| true, |_| ControlFlow::Continue(())).map_err(|why| why.to_string())
        });
        let why = replayed.expect_err(name);
        assert!(
            why.contains(name) && why.contains(kind.trim_end_matches(" to nothing")),
            "{name}, {kind}: {why}"
        );
        assert_eq!(endpoint.requests().len(), 0, "{name}, {kind}: nothing is sent");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{kind} in the place of {name}");
    }
}

#[test]
fn the_status_of_a_spool_follows_no_link_and_waits_for_no_fifo() {
    for (name, kind) in
        ["lock", "000000000009.log"].into_iter().flat_map(|name| IN_PLACE.map(|kind| (name, kind)))
    {
        let folder = tempfile::tempdir().unwrap();
        make_all_files(folder.path());
        let path = folder.path().join("spool");
        put(kind, &path.join(name), &folder.path().join("victim"));
        let status = soon(&format!("status with {kind} for {name}"), move || {
            spool::status(&path).map(|status| status.messages).map_err(|why| why.to_string())
        });
        let why = status.expect_err(name);
        assert!(why.contains(kind.trim_end_matches(" to nothing")), "{name}, {kind}: {why}");
    }
}

#[test]
fn a_folder_that_is_a_link_of_its_owner_leads_to_its_place() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["spool", "dead-letters"] {
        fs::create_dir(folder.path().join(format!("large-{part}"))).unwrap();
        symlink(folder.path().join(format!("large-{part}")), folder.path().join(part)).unwrap();
    }
    make_all_files(folder.path());
    assert!(folder.path().join("large-spool/lock").exists());
}

#[test]
fn a_folder_that_is_a_link_of_somebody_else_is_refused() {
    if !is_root() {
        eprintln!("skipped: only root can make a link of somebody else");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, folder.path().join("spool")).unwrap();
    std::os::unix::fs::lchown(folder.path().join("spool"), Some(4711), Some(4711)).unwrap();
    let endpoint = Endpoint::answering(200);
    assert_eq!(Sink::try_open(&config(&endpoint.url(), folder.path(), json!({}))).map(drop), Err(1));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn what_root_makes_in_the_folder_of_a_service_belongs_to_the_service() {
    if !is_root() {
        eprintln!("skipped: only root can make files for somebody else");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(4711), Some(4712)).unwrap();
    make_all_files(folder.path());
    for (path, _) in modes(folder.path()) {
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (4711, 4712), "{}", path.display());
    }
}

#[test]
fn root_writes_to_no_file_that_a_service_has_put_there_by_another_name() {
    if !is_root() {
        eprintln!("skipped: only root can own files in the folder of somebody else");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make_all_files(folder.path());
    let letters = folder.path().join("dead-letters");
    chown(&letters, Some(4711), Some(4711)).unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let marks = letters.join("dead-letters-000001.replayed");
    fs::remove_file(&marks).unwrap();
    fs::hard_link(&victim, &marks).unwrap();
    let endpoint = Endpoint::answering(200);
    let config = config(&endpoint.url(), folder.path(), json!({}));
    let replayed = Folder::open(&letters).unwrap().replay(&config, |_| true, |_| ControlFlow::Continue(()));
    assert!(replayed.expect_err("a hard link").to_string().contains("hard link"));
    assert_eq!((endpoint.requests().len(), fs::read_to_string(&victim).unwrap().as_str()), (0, "precious"));
}

#[test]
fn marks_that_cannot_be_written_are_noticed_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    make_all_files(folder.path());
    let letters = folder.path().join("dead-letters");
    let marks = letters.join("dead-letters-000001.replayed");
    fs::remove_file(&marks).unwrap();
    fs::create_dir(&marks).unwrap();
    let endpoint = Endpoint::answering(200);
    let config = config(&endpoint.url(), folder.path(), json!({}));
    let replay = || {
        let folder = Folder::open(&letters).unwrap();
        folder.replay(&config, |_| true, |_| ControlFlow::Continue(())).map_err(|why| why.to_string())
    };
    let why = replay().expect_err("a folder takes no marks");
    assert!(why.contains("000001.replayed"), "{why}");
    assert_eq!(endpoint.requests().len(), 0);
    fs::remove_dir(&marks).unwrap();
    assert_eq!(replay().map(|replay| replay.delivered), Ok(3));
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
