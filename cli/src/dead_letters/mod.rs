//! `dead-letters`: reads ([`show`]), replays ([`replay`]) and removes ([`purge`]) messages that could not be delivered.

mod purge;
mod replay;
mod selection;
mod show;

use std::{io, path::PathBuf};

use clap::{Args, Subcommand};
use iggy_connector_http_sink::dead_letter::{Folder, LetterPosition};

use crate::terminal::report::Failure;

/// List, show, count, replay and purge dead letters
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iggy-http-sink dead-letters /var/lib/iggy/http-sink/dead-letters list

The exit code is 0 if all went well, 1 if letters failed again or cannot be read, 2 if the folder or the arguments are wrong, \
and 3 if `replay` cannot open the connector.")]
pub(crate) struct Arguments {
    /// The folder: `dead_letter.path` of the connector
    path: PathBuf,
    /// Write the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a line for each letter: its position, when, why, and where it came from
    #[command(after_help = "Example:\n  iggy-http-sink dead-letters PATH list --reason rejected --since 2h")]
    List(selection::Arguments),
    /// Print one letter in full, as JSON
    #[command(after_help = "Example:\n  iggy-http-sink dead-letters PATH show 1:0")]
    Show {
        /// Its position, as `list` shows it
        position: LetterPosition,
    },
    /// Count the letters by reason and topic
    #[command(after_help = "Example:\n  iggy-http-sink dead-letters PATH summary")]
    Summary(selection::Arguments),
    /// Resend letters, and mark those that are delivered, so that a later replay does not send them again
    #[command(
        after_help = "Example:\n  iggy-http-sink dead-letters PATH replay --config config.toml --reason retries_exhausted"
    )]
    Replay {
        /// The connector file that says where and how to send them
        #[arg(long)]
        config: PathBuf,
        /// Only show how many letters would be sent
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        selection: selection::Arguments,
    },
    /// Remove files whose letters have all been replayed
    #[command(after_help = "Example:\n  iggy-http-sink dead-letters PATH purge")]
    Purge {
        /// Also remove files with letters that were never replayed: these are lost for good
        #[arg(long)]
        all: bool,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        /// Only show what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command. A replay succeeds only when every letter it sent was delivered.
///
/// # Errors
/// The folder is not one of dead letters, cannot be read or changed, or the connector file has mistakes.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let path = &arguments.path;
    let at = |why: io::Error| Failure::Other(format!("{}: {why}", path.display()));
    let wrong = |why: io::Error| Failure::Usage(format!("{}: {why}", path.display()));
    let folder = Folder::open(path).map_err(wrong)?;
    if !folder.is_ours().map_err(wrong)? {
        return Err(Failure::Usage(format!(
            "{}: no dead letters were ever kept here: name the folder that dead_letter.path of the connector names",
            path.display()
        )));
    }
    match &arguments.action {
        Action::List(selection) => show::list(&folder, &selection.meant(), arguments.json, at),
        Action::Show { position } => show::one(&folder, *position, at),
        Action::Summary(selection) => show::summary(&folder, &selection.meant(), arguments.json, at),
        Action::Replay { config, dry_run: false, selection } => {
            replay::replay(&folder, config, &selection.meant(), arguments.json, at)
        }
        Action::Replay { config, dry_run: true, selection } => {
            replay::dry_run(&folder, config, &selection.meant(), arguments.json, at)
        }
        Action::Purge { all, yes, dry_run } => {
            purge::purge(&folder, purge::How { all: *all, yes: *yes, dry_run: *dry_run }, arguments.json, at)
        }
    }
}
