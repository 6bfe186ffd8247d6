//! `check`: every mistake in a connector file at once, each with its place.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::{
    connector_file::{ConnectorFile, environment_variables},
    place::{Finding, Place},
    report::{self, Failure},
};

/// Tell every mistake in a connector file, each with its line
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  iggy-http-sink check config.toml")]
pub(crate) struct Arguments {
    /// The connector file, as the Iggy connectors runtime reads it
    config: PathBuf,
    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command; whether the file is valid.
///
/// # Errors
/// Stdout is closed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let file = &arguments.config;
    let loaded = ConnectorFile::load(file, environment_variables());
    let valid = loaded.is_ok();
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
        return Ok(valid);
    }
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                report::say(&format!("warning: {}", warning.in_file(file)))?;
            }
            let disabled =
                if loaded.enabled { "" } else { ", and not enabled: the runtime does not start it" };
            let overrides = match loaded.overrides {
                0 => String::new(),
                count => format!(" (with {count} from the environment)"),
            };
            report::say(&format!("{}: valid{disabled}{overrides}", file.display()))?;
        }
        Err(problems) => report::say(&lines(&problems, file))?,
    }
    Ok(valid)
}

/// One line for each finding.
pub(crate) fn lines(findings: &[Finding], file: &std::path::Path) -> String {
    findings.iter().map(|finding| finding.in_file(file).to_string()).collect::<Vec<_>>().join("\n")
}

fn as_json(finding: &Finding) -> Value {
    let (line, variable) = match &finding.place {
        Place::File => (None, None),
        Place::Line(line) => (Some(line), None),
        Place::Environment(variable) => (None, Some(variable)),
    };
    json!({ "line": line, "environment": variable, "path": finding.path, "message": finding.message })
}
