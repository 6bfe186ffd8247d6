//! What is asked of a run.

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

/// Send messages from Iggy, from a file or from stdin, as a connector file says
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink run config.toml --server localhost:8090
  iggy-http-sink run config.toml --input fixtures/orders.ndjson

Without --input the messages come from the streams of the connector file, at least once: an offset is stored in the
consumer group only when the messages up to it are settled. The server, and who signs in there, are those of [iggy]
in the runtime's main configuration, or IGGY_CONNECTORS_IGGY_ADDRESS, _USERNAME, _PASSWORD and _TOKEN.

An input of gzip or zstd is unpacked. A signal ends a run in order: the result says what was delivered, dead-lettered and
failed, and gives the command that goes on with the first line that is not settled.

The exit code is 0 where all was settled well, 1 where messages failed or lines are left, 2 where the arguments or the
configuration are wrong, 3 where something could not be reached or started, and 130 after a second signal.")]
pub(crate) struct Arguments {
    /// The connector file, as the Iggy connectors runtime reads it
    pub(super) config: PathBuf,
    /// Read messages from here instead of Iggy, one a line; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// What a line is [default: what the schema in the connector file says]
    #[arg(long, value_enum, requires = "input")]
    pub(super) format: Option<Format>,
    /// The Iggy server [default: what the runtime's configuration says, else localhost:8090]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "input")]
    pub(super) server: Option<String>,
    /// The main configuration of the Iggy runtime [default: what `IGGY_CONNECTORS_CONFIG_PATH` names]
    #[arg(long, value_name = "FILE", conflicts_with = "input")]
    pub(super) runtime_config: Option<PathBuf>,
    /// Give up when the server is not reached for this long at the start, such as 30s [default: never]
    #[arg(long, value_name = "TIME", conflicts_with = "input", value_parser = humantime::parse_duration)]
    pub(super) connect_timeout: Option<Duration>,
    /// Send again what came since, up to the end, with a consumer group of its own
    #[arg(long, value_name = "OFFSET|TIME", conflicts_with = "input")]
    pub(super) replay_from: Option<ReplayFrom>,
    /// The plugin [default: the one that the connector file names]
    #[arg(long, value_name = "PATH")]
    pub(super) plugin: Option<PathBuf>,
    /// Begin at this line of the input, from 1 on; offsets and idempotency keys are those of the whole input
    #[arg(long, value_name = "N", requires = "input", conflicts_with = "lines",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) start_line: Option<u64>,
    /// Send these lines of the input alone, such as 5,8-10,21-
    #[arg(long, value_name = "LINES", requires = "input")]
    pub(super) lines: Option<Selection>,
    /// Send no more messages than this
    #[arg(long, value_name = "N", requires = "input", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// Go on where a whole batch has failed
    #[arg(long, requires = "input")]
    pub(super) keep_going: bool,
    /// The identity of this input: lines of inputs with the same id have the same idempotency keys [default: which
    /// file it is; of stdin, another one each time]
    #[arg(long, value_name = "ID", requires = "input")]
    pub(super) input_id: Option<String>,
    /// Stop at the end that the input has at the start; with --input and --replay-from this is always so
    #[arg(long)]
    pub(super) once: bool,
    /// Write the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    /// Which lines of the input are meant.
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

/// What a line is.
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
