//! What a file names on this machine: what is not there, or of no use, keeps the connector from starting.

use std::fs;

use serde_json::Value;

use super::{GOOD, check, folder};
use crate::support::{plugin, program, start};

/// Where the problems of a file are, in `folder`.
fn problems(text: &str, folder: &tempfile::TempDir, options: &[&str]) -> Vec<(u64, String, String)> {
    let file = folder.path().join("c.toml");
    fs::write(&file, text).unwrap();
    let finished = check(&file, &[&["--json"], options].concat());
    let result: Value = serde_json::from_str(&finished.stdout).unwrap();
    let problems = result["problems"].as_array().unwrap();
    assert_eq!(finished.code, Some(if problems.is_empty() { 0 } else { 2 }), "{finished:?}");
    problems
        .iter()
        .map(|problem| {
            let text = |key: &str| problem[key].as_str().unwrap().to_owned();
            (problem["line"].as_u64().unwrap(), text("path"), text("message"))
        })
        .collect()
}

/// The file with these two folders.
fn with_folders(letters: &str, spool: &str) -> String {
    let tables = format!("path = '{letters}'\n[plugin_config.spool]\npath = '{spool}'");
    GOOD.replace("path = \"letters\"", &tables)
}

#[test]
fn a_plugin_that_is_missing_is_a_problem_with_the_places_where_it_was_looked_for() {
    let folder = folder();
    let text = GOOD.replace("path = \"plugin\"", "path = \"lib/plugni\"");
    let told = problems(&text, &folder, &[]);
    assert_eq!(told.len(), 1, "{told:?}");
    let (line, path, message) = &told[0];
    assert_eq!((*line, path.as_str()), (6, "path"));
    let beside = folder.path().join("lib/plugni");
    assert!(message.contains(beside.to_str().unwrap()), "{message}");
    assert_eq!(problems(&text, &folder, &["--elsewhere"]), []);
    // Beside other mistakes.
    let told = problems(&text.replace("timeout = \"30s\"", "timeout = 30"), &folder, &[]);
    let paths: Vec<&str> = told.iter().map(|(_, path, _)| path.as_str()).collect();
    assert_eq!(paths, ["path", "plugin_config.timeout"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_plugin_that_is_cut_off_is_a_problem() {
    let folder = folder();
    let file = folder.path().join("plugin.so");
    fs::copy(plugin(), &file).unwrap();
    assert_eq!(problems(GOOD, &folder, &[]), []);
    fs::File::options().write(true).open(&file).unwrap().set_len(5000).unwrap();
    let told = problems(GOOD, &folder, &[]);
    assert_eq!((told.len(), told[0].0, told[0].1.as_str()), (1, 6, "path"), "{told:?}");
    assert!(told[0].2.contains("plugin.so cannot be loaded: the file is cut off"), "{told:?}");
}

#[test]
fn folders_that_cannot_be_made_are_problems_and_others_are_not_made() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("file"), "").unwrap();
    let told = problems(&with_folders(&at("file/letters"), &at("file/below/spool")), &folder, &[]);
    let expected = [(38, "plugin_config.dead_letter.path"), (40, "plugin_config.spool.path")];
    let found: Vec<_> = told.iter().map(|(line, path, _)| (*line, path.as_str())).collect();
    assert_eq!(found, expected);
    for (_, _, message) in &told {
        assert!(message.contains(&format!("{} is a file, and no folder", at("file"))), "{message}");
    }
    let good = with_folders(&at("new/letters"), &at("new/spool"));
    assert_eq!(problems(&good, &folder, &[]), []);
    assert!(!folder.path().join("new").exists());
    // Told although the table has a mistake, and although the file has others.
    let wrong = with_folders(&at("file"), &at("new/spool")).replace("\"1 GiB\"", "\"1 Gig\"");
    let told = problems(&wrong, &folder, &[]);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[cfg(unix)]
#[test]
fn folders_of_spool_and_dead_letters_that_are_not_apart_are_a_problem_wherever_links_lead() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(at("real/data")).unwrap();
    std::os::unix::fs::symlink(at("real/data"), at("link")).unwrap();
    let (of_letters, of_spool) = ((38, "plugin_config.dead_letter.path"), (40, "plugin_config.spool.path"));
    let inside_spool = "lies inside the folder of [spool]";
    let inside_letters = "lies inside the folder of [dead_letter]";
    // What is told of a link or `..` says where it leads.
    let leads_to =
        |name: &str| format!(" (it is {})", folder.path().canonicalize().unwrap().join(name).display());
    for (letters, spool, place, words, found) in [
        ("spool/letters", "spool", of_letters, inside_spool, String::new()),
        ("letters", "letters/spool", of_spool, inside_letters, String::new()),
        ("link", "real/data", of_letters, "is the folder of [spool], too", leads_to("real/data")),
        ("real/data/new", "link", of_letters, inside_spool, leads_to("real/data/new")),
        ("link/letters", "real/data", of_letters, inside_spool, leads_to("real/data/letters")),
        ("real", "link/spool", of_spool, inside_letters, leads_to("real/data/spool")),
        // The folder above is that of what the link leads to.
        ("link/../letters", "real", of_letters, inside_spool, leads_to("real/letters")),
        ("spool", "new/../spool", of_letters, "is the folder of [spool], too", leads_to("spool")),
    ] {
        let told = problems(&with_folders(&at(letters), &at(spool)), &folder, &[]);
        let places: Vec<_> = told.iter().map(|(line, path, _)| (*line, path.as_str())).collect();
        assert_eq!(places, [place], "{letters} and {spool}: {told:?}");
        assert!(told[0].2.starts_with(&format!("{words}{found}: write ")), "{letters} and {spool}: {told:?}");
    }
    for (letters, spool) in [("spool-letters", "spool"), ("link/../letters", "link/spool"), ("link", "spool")]
    {
        assert_eq!(
            problems(&with_folders(&at(letters), &at(spool)), &folder, &[]),
            [],
            "{letters} and {spool}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_another_user_owns_is_a_problem() {
    use std::os::unix::{fs::MetadataExt, fs::PermissionsExt, process::CommandExt};

    /// Neither root nor the one who owns the folder.
    const SOMEBODY: u32 = 4711;
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let run = |arguments: &[&str]| {
        let mut program = program(arguments);
        if is_root {
            program.uid(SOMEBODY).gid(SOMEBODY);
        }
        start(&mut program).finish()
    };
    if is_root {
        let mut program = program(&["--version"]);
        if !program.uid(SOMEBODY).gid(SOMEBODY).output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: user {SOMEBODY} cannot start the program where it was built");
            return;
        }
    }
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let file = folder.path().join("c.toml");
    let letters = closed.join("letters");
    fs::write(&file, GOOD.replace("\"letters\"", &format!("'{}'", letters.display()))).unwrap();
    let finished = run(&["check", file.to_str().unwrap()]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let words = format!("cannot write to {} (permission denied)", closed.display());
    assert!(finished.stdout.contains(&words), "{finished:?}");
    assert!(finished.stdout.contains("plugin_config.dead_letter.path: "), "{finished:?}");
}
