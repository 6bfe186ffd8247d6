//! What a user is told when the plugin or the server is not what it should be.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{Endpoint, Finished, connector, plugin, program, start};

/// Runs a plugin with no input.
fn load(folder: &Path, plugin: &Path) -> Finished {
    let file = folder.join("connector.toml");
    let mut command = program(&["run", "--input", "/dev/null", "--plugin"]);
    start(command.arg(plugin).arg(file)).finish()
}

#[test]
fn a_plugin_that_is_cut_off_or_made_for_another_processor_is_told_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    connector(folder.path(), "http://localhost:1/", "");
    let copy = folder.path().join("libcopy.so");
    let whole = fs::metadata(plugin()).unwrap().len();
    for length in [10, 100, 5000, whole / 20, whole / 10] {
        fs::copy(plugin(), &copy).unwrap();
        File::options().write(true).open(&copy).unwrap().set_len(length).unwrap();
        let finished = load(folder.path(), &copy);
        assert_eq!(finished.code, Some(3), "{length}: {finished:?}");
        assert!(finished.stderr.contains("libcopy.so cannot be loaded: "), "{length}: {finished:?}");
    }
    let mut bytes = fs::read(plugin()).unwrap();
    // The processor stands at this place of an ELF header; this one is the PDP-11.
    bytes[18..20].copy_from_slice(&65_u16.to_le_bytes());
    fs::write(&copy, &bytes).unwrap();
    let finished = load(folder.path(), &copy);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let words = format!("made for processor 65, and this is {}", std::env::consts::ARCH);
    assert!(finished.stderr.contains(&words), "{finished:?}");
}

/// Builds a library from C; `false` where there is no compiler.
fn compile(folder: &Path, source: &str, output: &str, options: &[&str]) -> bool {
    let file = folder.join("source.c");
    fs::write(&file, source).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-o", output]).arg(&file).args(options).current_dir(folder);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[test]
fn what_the_system_misses_is_told() {
    let folder = tempfile::tempdir().unwrap();
    connector(folder.path(), "http://localhost:1/", "");
    let built = compile(folder.path(), "int gone(void) { return 1; }", "libgone.so", &[])
        && compile(
            folder.path(),
            "int gone(void); int f(void) { return gone(); }",
            "libuses.so",
            &["-L.", "-lgone"],
        );
    if !built {
        eprintln!("skipped: there is no C compiler (cc) to build a library with");
        return;
    }
    fs::remove_file(folder.path().join("libgone.so")).unwrap();
    let finished = load(folder.path(), &folder.path().join("libuses.so"));
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("libgone.so: cannot open shared object file"), "{finished:?}");
}

#[test]
fn a_plugin_with_a_version_in_its_name_can_be_named() {
    let endpoint = Endpoint::start(|_, _| "200 OK");
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), &endpoint.url(), "");
    fs::copy(plugin(), folder.path().join("libx.so.6")).unwrap();
    let text = fs::read_to_string(&file).unwrap().replace(plugin().to_str().unwrap(), "libx.so.6");
    fs::write(&file, text).unwrap();
    let finished = start(program(&["run", "--input", "/dev/null"]).arg(&file)).finish();
    assert_eq!(finished.code, Some(0), "beside the connector file: {finished:?}");
    assert_eq!(load(folder.path(), &folder.path().join("libx.so.6")).code, Some(0));
}

#[test]
fn a_server_that_is_away_is_told_and_waited_for_no_longer_than_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = connector(folder.path(), "http://localhost:1/", "");
    let run = |address: &str| {
        let mut command = program(&["run", "--connect-timeout", "300ms", "--server", address, "--plugin"]);
        start(command.arg(plugin()).arg(&file)).finish()
    };
    // Privileged, and nobody's.
    let finished = run("127.0.0.1:1");
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(finished.stderr.contains("Connection refused"), "{finished:?}");
    assert!(finished.stdout.contains("was not reached within --connect-timeout"), "{finished:?}");
    // Somebody listens there and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let finished = run(&silent.local_addr().unwrap().to_string());
    assert!(finished.code == Some(3) && finished.stdout.contains("did not answer in time"), "{finished:?}");
}
