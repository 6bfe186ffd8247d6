//! `completions` and `man`: shell completions and the manual page.

use std::{fs, io, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::terminal::report::{self, Failure};

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink completions bash > /etc/bash_completion.d/iggy-http-sink
  iggy-http-sink completions zsh > \"${fpath[1]}/_iggy-http-sink\"
  iggy-http-sink completions fish > ~/.config/fish/completions/iggy-http-sink.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page, or write one for each command into a folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink man | man -l -
  iggy-http-sink man --folder /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Stdout cannot be written.
pub(crate) fn completions(arguments: &Completions, mut command: Command) -> Result<bool, Failure> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    report::say(String::from_utf8_lossy(&script).trim_end())?;
    Ok(true)
}

/// Runs the command.
///
/// # Errors
/// Stdout or the folder cannot be written.
pub(crate) fn man(arguments: &Man, command: Command) -> Result<bool, Failure> {
    let failed = |why: io::Error| Failure::Other(format!("the manual page cannot be written: {why}"));
    match &arguments.folder {
        None => report::say(page(&command).map_err(failed)?.trim_end())?,
        Some(folder) => {
            let at = |why: io::Error| Failure::Usage(format!("{}: {why}", folder.display()));
            fs::create_dir_all(folder).map_err(at)?;
            clap_mangen::generate_to(command.disable_help_subcommand(true), folder).map_err(at)?;
        }
    }
    Ok(true)
}

fn page(command: &Command) -> io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
