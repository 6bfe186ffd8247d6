//! `init`: writes a connector file to start from, made from the documented one or from the declarations of a preset.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, builder::PossibleValuesParser};
use iggy_connector_http_sink::config::Preset;

use crate::terminal::report::{self, Failure};

/// Every key with its default and what it does.
pub(crate) const DOCUMENTED: &str = include_str!("../../config.toml");

/// The maximum length of a comment line, in bytes.
const LINE: usize = 120;

/// Write a connector file to start from
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  iggy-http-sink init
  iggy-http-sink init --preset elasticsearch elasticsearch.toml

Without --preset, the file has every key with its default. The exit code is 2 if the file exists already or cannot be written.")]
pub(crate) struct Arguments {
    /// The file to write; - is stdout
    #[arg(default_value = "connector.toml")]
    path: PathBuf,
    /// The endpoint that the file is for (docs/presets.md)
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Preset::names()))]
    preset: Option<String>,
    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

/// Runs the command.
///
/// # Errors
/// The file exists already, or cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<bool, Failure> {
    // The arguments were checked against the names.
    let preset = arguments.preset.as_deref().and_then(|name| name.parse::<Preset>().ok());
    let text = preset.map_or_else(|| DOCUMENTED.to_owned(), starter);
    let path = &arguments.path;
    if path == Path::new("-") {
        report::say(text.trim_end())?;
        return Ok(true);
    }
    write(path, &text, arguments.force)?;
    let shown = path.display();
    report::note(&format!("{shown} is written: fill in url and the streams, then try"));
    report::note(&format!("  iggy-http-sink check {shown}"));
    report::note(&format!("  iggy-http-sink preview {shown} --input MESSAGES"));
    Ok(true)
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|why| {
        let shown = path.display();
        Failure::Usage(match why.kind() {
            ErrorKind::AlreadyExists => format!("{shown} is there already: --force replaces it"),
            _ => format!("{shown} cannot be written: {why}"),
        })
    })
}

/// The starter file of a preset: the keys that the user gives and, in comments, those that the preset stands for.
fn starter(preset: Preset) -> String {
    let starter = preset.starter();
    let mut text = format!(
        "# The HTTP sink with the preset {preset}, as a connector of the Apache Iggy connectors runtime.\n\
         # Every other key is in config.toml; `iggy-http-sink init` without --preset writes it.\n\n\
         type = \"sink\"\nkey = \"{preset}\"\nenabled = true\nversion = 0\nname = \"HTTP sink for {preset}\"\n"
    );
    // Writing to a string does not fail.
    let _ = write!(text, "{}", between("# Without an extension", "# The rules for every key below"));
    let _ = writeln!(text, "[plugin_config]\npreset = \"{preset}\"");
    for line in wrapped(starter.about) {
        let _ = writeln!(text, "# {line}");
    }
    let _ = writeln!(text, "url = {}\n", toml::Value::from(starter.url));
    text.push_str("# The preset stands for these keys; any of them that is written here wins:\n");
    for line in preset.to_toml().lines() {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    for (table, keys) in starter.tables {
        let _ = writeln!(text, "\n[plugin_config.{table}]");
        for (key, value) in *keys {
            let _ = writeln!(text, "{key} = {}", toml::Value::from(*value));
        }
    }
    text.push_str(
        "\n# Messages that cannot be delivered are kept here, to be read and sent again.\n\
         [plugin_config.dead_letter]\npath = \"dead_letters\"\n\n\
         # Messages are kept here until they are delivered, over restarts and outages.\n\
         # [plugin_config.spool]\n# path = \"spool\"\n",
    );
    text
}

/// The part of the documented file from one line to another.
fn between(from: &str, to: &str) -> &'static str {
    let start = DOCUMENTED.find(from).unwrap_or(DOCUMENTED.len());
    let part = &DOCUMENTED[start..];
    &part[..part.find(to).unwrap_or(part.len())]
}

/// Wraps a text into lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < LINE => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_each_preset_is_toml_with_what_the_preset_needs() {
        for name in Preset::names() {
            let preset: Preset = name.parse().unwrap();
            let file: toml::Table =
                toml::from_str(&starter(preset)).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(file["plugin_config"]["preset"].as_str(), Some(*name));
            assert_eq!(file["streams"][0]["schema"].as_str(), Some("json"), "{name}");
            assert!(file.contains_key("path"), "{name}");
        }
    }
}
