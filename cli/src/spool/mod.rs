//! `spool`: shows ([`status`]) and writes out ([`export`]) what is waiting to be delivered, whether or not a connector is
//! running.

mod damage;
mod export;
mod status;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::terminal::report::Failure;

/// Show or export what is in a spool
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  iggy-http-sink spool /var/lib/iggy/http-sink/spool status

The exit code is 0 if all went well, 1 if there is no spool, something in it cannot be read, or `export --payloads` left \
messages out, and 2 if the arguments are wrong.")]
pub(crate) struct Arguments {
    /// The folder: `spool.path` of the connector
    path: PathBuf,
    /// Write the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the messages and bytes that are waiting, by stream, topic and partition, with the age of the oldest and the
    /// next offset
    #[command(after_help = "Example:\n  iggy-http-sink spool PATH status --json")]
    Status,
    /// Print each message that is waiting as a line of JSON, in the form of a dead letter; the spool keeps them
    #[command(after_help = export::EXAMPLES)]
    Export(export::Arguments),
}

/// Runs the command. Returns whether everything that is stored can be read and was written.
///
/// # Errors
/// There is no spool, or it cannot be read.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    match &arguments.action {
        Action::Status => status::run(&arguments.path, arguments.json),
        Action::Export(export) => export::run(&arguments.path, export),
    }
}
