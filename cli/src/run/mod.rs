//! `run`: runs a connector file with input from an Iggy server ([`iggy`]), or from a file or stdin ([`from_lines`]).

mod arguments;
mod from_lines;
mod identity;
mod lines;
mod outcome;
mod resume;
mod selection;
mod source;
mod stop;

pub(crate) use self::{
    arguments::{Arguments, Format},
    from_lines::{Opened, line_schema, messages, open_input},
    selection::Selection,
};

use crate::{
    connector_file::{self, environment_variables},
    iggy::{self, Server},
    terminal::report::{self, Failure},
};

/// Runs the command; whether everything was settled well.
///
/// # Errors
/// It cannot run at all.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let file = connector_file::load(&arguments.config)?;
    if let Some(source) = &arguments.input {
        return from_lines::run(arguments, source, file);
    }
    let server = Server::load(
        arguments.runtime_config.as_deref(),
        arguments.server.as_deref(),
        environment_variables(),
    )?;
    let plugin = arguments.open_plugin(&file)?;
    let outcome =
        iggy::run(&file, server, plugin, arguments.once, arguments.replay_from, arguments.connect_timeout)?;
    let text = if arguments.json { outcome.as_json() } else { outcome.as_table() };
    report::result(&text, arguments.json)?;
    if outcome.unreachable { Err(Failure::Unreachable) } else { Ok(outcome.good()) }
}
