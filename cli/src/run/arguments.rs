//! The arguments of `run`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use iggy_connector_sdk::Schema;

use super::selection::Selection;
use crate::{
    connector_file::ConnectorFile,
    host::{self, OpenPlugin},
    iggy::ReplayFrom,
    terminal::report::Failure,
};

/// Deliver messages from Iggy, a file or stdin, as a connector file says
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink run config.toml --server localhost:8090
  iggy-http-sink run config.toml --input fixtures/orders.ndjson

Without --input, messages are read from the streams of the connector file, at least once: an offset is stored in the \
consumer group only when the messages up to it are settled. The server and the credentials are those of [iggy] in the \
runtime's main configuration, or IGGY_CONNECTORS_IGGY_ADDRESS, _USERNAME, _PASSWORD and _TOKEN.

Input that is compressed with gzip or zstd is decompressed. A signal ends a run in an orderly way: the result says what was \
delivered, dead-lettered and failed, and prints the command that continues with the first line that is not settled.

The exit code is 0 if every message was delivered or dead-lettered, 1 if messages failed or lines are left, 2 if the \
arguments or the configuration are wrong, 3 if something could not be reached or started, and 130 after a second signal.")]
pub(crate) struct Arguments {
    /// The connector file, as the Iggy connectors runtime reads it
    pub(super) config: PathBuf,
    /// Read messages from here instead of Iggy, one per line; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// What a line contains [default: what the schema in the connector file says]
    #[arg(long, value_enum, requires = "input")]
    pub(super) format: Option<Format>,
    /// The Iggy server [default: what the runtime's configuration says, else localhost:8090]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "input")]
    pub(super) server: Option<String>,
    /// The main configuration of the Iggy runtime [default: what `IGGY_CONNECTORS_CONFIG_PATH` names]
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub(super) runtime_config: Option<PathBuf>,
    /// Give up if the server cannot be reached within this time at the start, such as 30s [default: never]
    #[arg(long, value_name = "TIME", conflicts_with = "input", value_parser = humantime::parse_duration)]
    pub(super) connect_timeout: Option<Duration>,
    /// Resend the messages since then, up to the present end, with a separate consumer group
    #[arg(long, value_name = "OFFSET|TIME", conflicts_with = "input")]
    pub(super) replay_from: Option<ReplayFrom>,
    /// The plugin [default: the one that the connector file names]
    #[arg(long, value_name = "PATH")]
    pub(super) plugin: Option<PathBuf>,
    /// Start at this line of the input, counted from 1; offsets and idempotency keys stay those of the whole input
    #[arg(long, value_name = "N", requires = "input", conflicts_with = "lines",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) start_line: Option<u64>,
    /// Send only these lines of the input, such as 5,8-10,21-
    #[arg(long, value_name = "LINES", requires = "input")]
    pub(super) lines: Option<Selection>,
    /// Send at most this many messages
    #[arg(long, value_name = "N", requires = "input", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// Continue after a batch that failed as a whole
    #[arg(long, requires = "input")]
    pub(super) keep_going: bool,
    /// The identity of this input: inputs with the same id get the same idempotency keys, line by line [default: the
    /// identity of the file; for stdin, a new one each time]
    #[arg(long, value_name = "ID", requires = "input")]
    pub(super) input_id: Option<String>,
    /// Stop at the end that the input has at the start; --input and --replay-from always do
    #[arg(long)]
    pub(super) once: bool,
    /// Write the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    /// The selected lines of the input.
    pub(super) fn selection(&self) -> Selection {
        match (&self.lines, self.start_line) {
            (Some(lines), _) => lines.clone(),
            (None, line) => Selection::from_line(line.unwrap_or(1)),
        }
    }

    /// Opens the plugin, with the connector.
    pub(super) fn open_plugin(&self, file: &ConnectorFile) -> Result<OpenPlugin, Failure> {
        let path = match &self.plugin {
            Some(path) => path.clone(),
            None => host::named(&file.plugin, &file.path)?,
        };
        OpenPlugin::open_observed(&path, &file.plugin_config)
    }
}

/// What a line contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A JSON value
    Json,
    /// Text
    Text,
    /// Bytes; a carriage return at the end is one of them
    Raw,
}

impl Format {
    pub(super) fn schema(self) -> Schema {
        match self {
            Self::Json => Schema::Json,
            Self::Text => Schema::Text,
            Self::Raw => Schema::Raw,
        }
    }
}
