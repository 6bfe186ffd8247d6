//! `check`: reports every mistake in a connector file at once, each with its location, and tries whether the endpoint and the
//! server can be reached.

use std::path::{Path, PathBuf};

use clap::Args;
use iggy_connector_http_sink::{
    config::Config,
    reach::{self, Step},
};
use serde_json::{Value, json};

use crate::{
    connector_file::{
        ConnectorFile, environment_variables,
        excerpt::{self, Kind},
        location::{Finding, Location},
    },
    iggy::{self, Server},
    terminal::report::{self, Failure},
};

/// Report every mistake in a connector file, with its line
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink check config.toml
  iggy-http-sink check config.toml --connect --runtime-config runtime.toml
  iggy-http-sink check config.toml --elsewhere

The exit code is 0 if all is well, 2 if the file has mistakes, and 3 if a step of --connect fails.")]
pub(crate) struct Arguments {
    /// The connector file, as the Iggy connectors runtime reads it
    config: PathBuf,
    /// Also try each step of the connection to the endpoint, without sending a message, and to the Iggy server if one is
    /// named
    #[arg(long)]
    connect: bool,
    /// The main configuration of the Iggy runtime, whose [iggy] names the server [default: what
    /// `IGGY_CONNECTORS_CONFIG_PATH` names]
    #[arg(long, requires = "connect")]
    runtime_config: Option<PathBuf>,
    /// The Iggy server
    #[arg(long, requires = "connect")]
    server: Option<String>,
    /// The file is for another machine: do not check whether its plugin and its folders are there
    #[arg(long, conflicts_with = "connect")]
    elsewhere: bool,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command. Returns whether the file is valid.
///
/// # Errors
/// Stdout is closed, or something cannot be reached.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let file = &arguments.config;
    let load = if arguments.elsewhere { ConnectorFile::load } else { ConnectorFile::load_for_this_machine };
    let loaded = load(file, environment_variables());
    let valid = loaded.is_ok();
    if let (true, Ok(loaded)) = (arguments.connect, &loaded) {
        return connect(arguments, loaded).map(|()| true);
    }
    if arguments.json {
        let (enabled, warnings, problems) = match &loaded {
            Ok(loaded) => (Some(loaded.enabled), loaded.warnings.as_slice(), [].as_slice()),
            Err(problems) => (None, [].as_slice(), problems.as_slice()),
        };
        let list = |findings: &[Finding]| findings.iter().map(as_json).collect::<Vec<_>>();
        let result = json!({
            "file": file,
            "valid": valid,
            "enabled": enabled,
            "problems": list(problems),
            "warnings": list(warnings),
        });
        report::say_json(&result.to_string())?;
        return if valid { Ok(true) } else { Err(Failure::Reported) };
    }
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                report::say_styled(&excerpt::of(warning, file, Kind::Warning))?;
            }
            let disabled =
                if loaded.enabled { "" } else { ", and not enabled: the runtime does not start it" };
            let overrides = match loaded.overrides {
                0 => String::new(),
                count => format!(" (with {count} from the environment)"),
            };
            report::say(&format!("{}: valid{disabled}{overrides}", file.display()))?;
        }
        Err(problems) => {
            report::say_styled(&excerpt::of_all(&problems, file, Kind::Problem))?;
            return Err(Failure::Reported);
        }
    }
    Ok(valid)
}

/// Tries each step to the endpoint and the server, with a line for each, up to the first that fails.
fn connect(arguments: &Arguments, file: &ConnectorFile) -> Result<(), Failure> {
    for warning in &file.warnings {
        report::note(&format!("warning: {}", warning.in_file(&arguments.config)));
    }
    let config = Config::from_json(&file.plugin_config).map_err(|why| Failure::Other(why.to_string()))?;
    let mut steps = Steps { json: arguments.json, taken: Vec::new() };
    let mut good = true;
    for destination in config.destinations() {
        good &= reach::endpoint(destination, |step| steps.take(step))?;
    }
    if good {
        if let Some(server) = server(arguments)? {
            let step = Step { name: "iggy", outcome: iggy::reach(&server) };
            steps.take(&step)?;
            good = step.outcome.is_ok();
        } else {
            report::note("note: no Iggy server is named (--server, --runtime-config): it is not tried");
        }
    }
    if steps.json {
        report::say(&json!({ "file": arguments.config, "valid": true, "steps": steps.taken }).to_string())?;
    }
    if good { Ok(()) } else { Err(Failure::Unreachable) }
}

/// The server, if anything names one.
fn server(arguments: &Arguments) -> Result<Option<Server>, Failure> {
    let named = arguments.server.is_some()
        || arguments.runtime_config.is_some()
        || environment_variables().any(|(name, _)| {
            ["IGGY_CONNECTORS_CONFIG_PATH", "IGGY_CONNECTORS_IGGY_ADDRESS"].contains(&name.as_str())
        });
    let runtime_config: Option<&Path> = arguments.runtime_config.as_deref();
    named
        .then(|| Server::load(runtime_config, arguments.server.as_deref(), environment_variables()))
        .transpose()
}

/// The steps so far; printed one by one, or all at the end as JSON.
struct Steps {
    json: bool,
    taken: Vec<Value>,
}

impl Steps {
    fn take(&mut self, step: &Step) -> Result<(), Failure> {
        let (line, value) = match &step.outcome {
            Ok(found) => (
                format!("ok      {:<10} {found}", step.name),
                json!({ "step": step.name, "ok": true, "found": found }),
            ),
            Err(why) => (
                format!("FAILED  {:<10} {}: {}", step.name, why.reason, why.remedy),
                json!({ "step": step.name, "ok": false, "reason": why.reason, "remedy": why.remedy }),
            ),
        };
        self.taken.push(value);
        if self.json { Ok(()) } else { report::say(&line) }
    }
}

fn as_json(finding: &Finding) -> Value {
    let (line, variable) = match &finding.location {
        Location::File => (None, None),
        Location::Line(line) => (Some(line), None),
        Location::Environment(variable) => (None, Some(variable)),
    };
    let column = finding.excerpt.as_ref().map(|excerpt| excerpt.column);
    json!({ "line": line, "column": column, "environment": variable, "path": finding.path, "message": finding.message })
}
