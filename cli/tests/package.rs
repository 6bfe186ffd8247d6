//! What `packaging/dist` makes, unpacked and installed elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;

use crate::support::plugin;

const TOOL: &str = env!("CARGO_BIN_EXE_iggy-http-sink");

/// Runs a command that has to go well; returns what it said.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let said = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&stderr));
    said
}

fn is_there(command: &str) -> bool {
    Command::new(command).arg("--version").output().is_ok()
}

/// The archive and the Debian package of this build; `None` where they cannot be made.
fn packages() -> Option<&'static (PathBuf, PathBuf)> {
    static PACKAGES: OnceLock<Option<(tempfile::TempDir, (PathBuf, PathBuf))>> = OnceLock::new();
    let made = PACKAGES.get_or_init(|| {
        if let Some(missing) = ["dpkg-deb", "objdump", "strip"].into_iter().find(|command| !is_there(command))
        {
            eprintln!("SKIPPED: there is no {missing} to make a package with");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/dist");
        let mut script = Command::new(script);
        run(script.arg(folder.path()).env("TOOL", TOOL).env("PLUGIN", plugin()).env("LEVEL", "1"));
        let file = |extension: &str| {
            let mut files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
            files.find(|file| file.extension().is_some_and(|found| found == extension)).unwrap()
        };
        let files = (file("gz"), file("deb"));
        Some((folder, files))
    });
    made.as_ref().map(|(_, files)| files)
}

/// Runs the demo of a tool that lies elsewhere, which has to find the plugin that came with it.
fn demo(usr: &Path) {
    let mut tool = Command::new(usr.join("bin/iggy-http-sink"));
    let said = run(tool.args(["demo", "--messages", "200", "--json"]).current_dir("/"));
    let result: Value = serde_json::from_str(&said).unwrap();
    let plugin = usr.join("lib/iggy-http-sink/libiggy_connector_http_sink.so");
    assert_eq!(result["plugin"], plugin.to_str().unwrap(), "{result}");
}

#[test]
fn the_archive_works_wherever_it_is_unpacked() {
    let Some((archive, _)) = packages() else { return };
    let folder = tempfile::tempdir().unwrap();
    run(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder.path()));
    let inside = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    demo(&inside);
    run(Command::new(inside.join("bin/iggy-http-sink")).arg("check").arg(inside.join("config.toml")));
}

#[test]
fn the_package_has_all_its_parts() {
    let Some((_, package)) = packages() else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(root));
    demo(&root.join("usr"));
    for file in [
        "usr/lib/systemd/system/iggy-http-sink@.service",
        "usr/share/man/man1/iggy-http-sink.1.gz",
        "usr/share/man/man1/iggy-http-sink-dead-letters-replay.1.gz",
        "usr/share/bash-completion/completions/iggy-http-sink",
        "usr/share/zsh/vendor-completions/_iggy-http-sink",
        "usr/share/fish/vendor_completions.d/iggy-http-sink.fish",
        "usr/share/doc/iggy-http-sink/changelog.gz",
        "usr/share/doc/iggy-http-sink/docs/tool.md",
    ] {
        assert!(root.join(file).metadata().is_ok_and(|file| file.len() > 100), "{file}");
    }
    let mut tool = Command::new(root.join("usr/bin/iggy-http-sink"));
    run(tool.arg("check").arg(root.join("etc/iggy-http-sink/http.toml")));
    // Folders that the unit may write to, once they are no comment any more.
    let connector = fs::read_to_string(root.join("etc/iggy-http-sink/http.toml")).unwrap();
    assert!(
        connector.contains("# path = \"spool\"") && connector.contains("# path = \"dead-letters\""),
        "{connector}"
    );

    let licences = fs::read_to_string(root.join("usr/share/doc/iggy-http-sink/copyright")).unwrap();
    let lock: toml::Table = toml::from_str(include_str!("../../Cargo.lock")).unwrap();
    let version = |name: &str| {
        let mut packages = lock["package"].as_array().unwrap().iter();
        let package = packages.find(|package| package["name"].as_str() == Some(name)).unwrap();
        package["version"].as_str().unwrap().to_owned()
    };
    for name in ["reqwest", "ring", "tokio", "zstd-sys", "iggy", "maud"] {
        let entry = format!("  {name} {}: ", version(name));
        assert!(licences.contains(&entry), "{entry}");
    }
    for text in ["BoringSSL", "Copyright (c) Tokio Contributors", "Copyright (c) Meta Platforms"] {
        assert!(licences.contains(text), "{text}");
    }

    let fields = run(Command::new("dpkg-deb").arg("-f").arg(package));
    assert!(fields.contains(&format!("Version: {}\n", env!("CARGO_PKG_VERSION"))), "{fields}");
    assert!(fields.contains("Depends: libc6 (>= 2."), "{fields}");
}

#[test]
fn the_package_installs_and_leaves_what_the_user_wrote() {
    let Some((_, package)) = packages() else { return };
    // The answer of `id` is that of this process.
    if run(Command::new("id").arg("-u")).trim() != "0" || !is_there("dpkg") {
        eprintln!("SKIPPED: only root installs a package, with dpkg");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for file in ["updates", "info"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(file)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let dpkg = |arguments: &[&str]| {
        let mut command = Command::new("dpkg");
        // A system of its own, in which there is nothing else.
        command.arg(format!("--root={}", root.display())).arg("--force-depends").args(arguments);
        run(&mut command)
    };
    dpkg(&["--install", package.to_str().unwrap()]);
    demo(&root.join("usr"));
    assert_eq!(dpkg(&["--verify", "iggy-http-sink"]), "");
    let mode = |file: &str| {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(root.join(file)).unwrap().permissions());
        mode & 0o7777
    };
    assert_eq!((mode("usr/bin/iggy-http-sink"), mode("etc/iggy-http-sink/http.toml")), (0o755, 0o644));

    let connector = root.join("etc/iggy-http-sink/http.toml");
    fs::write(&connector, "the user's\n").unwrap();
    dpkg(&["--remove", "iggy-http-sink"]);
    assert!(!root.join("usr/bin/iggy-http-sink").exists());
    assert_eq!(fs::read_to_string(&connector).unwrap(), "the user's\n");
    dpkg(&["--purge", "iggy-http-sink"]);
    assert!(!connector.exists());
}

#[test]
fn systemd_takes_the_unit() {
    if !is_there("systemd-analyze") {
        eprintln!("SKIPPED: there is no systemd-analyze to read the unit");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = include_str!("../../packaging/iggy-http-sink@.service");
    // Where it is looked for on this machine.
    assert!(source.contains("/usr/bin/iggy-http-sink"));
    let unit = folder.path().join("iggy-http-sink@orders.service");
    fs::write(&unit, source.replace("/usr/bin/iggy-http-sink", TOOL)).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&verify.stderr);
    // It reads all units of the machine; those are not ours to judge.
    assert!(verify.status.success() && !said.contains("iggy-http-sink"), "{said}");
    // Out of 10.0: what of the machine an attacker who has taken the process could reach.
    let mut security = Command::new("systemd-analyze");
    run(security.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(&unit));
}

#[test]
fn a_tool_without_a_plugin_says_where_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("bin/iggy-http-sink");
    fs::create_dir(folder.path().join("bin")).unwrap();
    // By another process: what this one has open for writing, a process that another test begins may keep open, and then it
    // cannot be run.
    run(Command::new("cp").arg(TOOL).arg(&tool));
    let output = Command::new(&tool).arg("demo").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let places = ["bin/libiggy_connector_http_sink.so", "lib/iggy-http-sink/libiggy_connector_http_sink.so"];
    for place in places.map(|place| folder.path().join(place)) {
        assert!(said.contains(place.to_str().unwrap()), "{said}");
    }
    assert!(said.contains("cargo build --release -p iggy_connector_http_sink"), "{said}");
}
