//! This program once more, with one test alone, for what needs a process of its own: its memory, its environment, its end.

use std::{env, path::PathBuf, process::Command};

/// Runs the test of that name in that module, which is a `module_path!()`.
pub fn again(module: &str, test: &str) -> Command {
    let mut command = Command::new(program());
    command.args(arguments(module, test));
    command
}

/// The same once a shell has run `first`, which changes what the process may do.
pub fn again_after(first: &str, module: &str, test: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{first} && exec \"$0\" \"$@\"")])
        .arg(program())
        .args(arguments(module, test));
    shell
}

fn program() -> PathBuf {
    env::current_exe().expect("a test knows where it lies")
}

fn arguments(module: &str, test: &str) -> [String; 4] {
    let (_program, module) = module.split_once("::").expect("a test lies in a module of the program");
    [
        "--exact".to_owned(),
        format!("{module}::{test}"),
        "--nocapture".to_owned(),
        "--include-ignored".to_owned(),
    ]
}
