//! The connector file of the Iggy connectors runtime: read, overridden by the environment, and fully checked.

mod check;
mod environment;
pub(crate) mod excerpt;
pub(crate) mod location;
mod streams;

use std::path::{Path, PathBuf};

use iggy_connector_http_sink::config::{Config, shown_value};
use iggy_connector_sdk::host::Plugin;
use serde_json::{Map, Value};

use crate::{
    host,
    terminal::report::{self, Failure},
};

pub(crate) use self::streams::StreamConfig;
use self::{
    check::Check,
    environment::Overrides,
    location::{Finding, Location},
};

const KEYS: [&str; 11] = [
    "type",
    "key",
    "enabled",
    "version",
    "name",
    "path",
    "streams",
    "plugin_config",
    "plugin_config_format",
    "transforms",
    "verbose",
];
/// A connector file without mistakes.
#[derive(Debug)]
pub(crate) struct ConnectorFile {
    /// Its path.
    pub(crate) path: PathBuf,
    pub(crate) key: String,
    pub(crate) enabled: bool,
    /// `path` of the file: the plugin.
    pub(crate) plugin: PathBuf,
    /// At least one.
    pub(crate) streams: Vec<StreamConfig>,
    /// `[plugin_config]` with its overrides, as the runtime passes it to the plugin.
    pub(crate) plugin_config: Value,
    /// What is allowed, but may be a mistake.
    pub(crate) warnings: Vec<Finding>,
    /// How many keys the environment set.
    pub(crate) overrides: usize,
}

impl ConnectorFile {
    /// Reads the file at `path`, with the overrides among `variables`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn load(
        path: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Finding>> {
        Self::parse(path, &read(path)?, variables, Extent::File)
    }

    /// The same; in addition, the plugin and the folders that the file names must exist on this machine and be usable.
    ///
    /// # Errors
    /// Everything that is wrong with it, or missing.
    pub(crate) fn load_for_this_machine(
        path: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Finding>> {
        Self::parse(path, &read(path)?, variables, Extent::Machine)
    }

    fn parse(
        path: &Path,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
        extent: Extent,
    ) -> Result<Self, Vec<Finding>> {
        let (mut file, lines) = location::read(text)?;
        let key = file.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
        let overrides = if key.is_empty() {
            Overrides::default()
        } else {
            environment::apply(&mut file, &key, variables)
        };
        let mut check = Check::new(lines, overrides, file.get("plugin_config"));
        let checked = check.file(path, &file, key);
        if extent == Extent::Machine {
            check.machine(&checked);
        }
        // In the order of the file, so that it can be mended from top to bottom.
        check.findings.sort_by_key(|finding| match &finding.location {
            Location::Line(line) => *line,
            Location::File => 0,
            Location::Environment(_) => usize::MAX,
        });
        if check.findings.is_empty() {
            Ok(Self { warnings: check.warnings, overrides: check.overrides.len(), ..checked })
        } else {
            Err(check.findings)
        }
    }
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The content of the file.
    File,
    /// Also the plugin and the folders on this machine.
    Machine,
}

fn read(path: &Path) -> Result<String, Vec<Finding>> {
    std::fs::read_to_string(path).map_err(|why| {
        let message = format!("cannot be read: {why}");
        vec![Finding { location: Location::File, path: String::new(), message, excerpt: None }]
    })
}

/// Loads a connector file; its warnings are logged.
///
/// # Errors
/// It has mistakes; the message lists them.
pub(crate) fn load(path: &Path) -> Result<ConnectorFile, Failure> {
    let file = ConnectorFile::load(path, environment_variables()).map_err(|problems| {
        let count = problems.len();
        let plural = if count == 1 { "" } else { "s" };
        Failure::Usage(format!(
            "{count} problem{plural} in the configuration\n{}",
            location::lines(&problems, path)
        ))
    })?;
    for warning in &file.warnings {
        report::note(&format!("warning: {}", warning.in_file(path)));
    }
    if !file.enabled {
        report::note(&format!(
            "note: {} has enabled = false: the Iggy runtime does not start `{}`",
            path.display(),
            file.key
        ));
    }
    Ok(file)
}

/// The environment variables that are valid text.
pub(crate) fn environment_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl Check {
    fn file(&mut self, path: &Path, file: &Map<String, Value>, key: String) -> ConnectorFile {
        match file.get("type") {
            None => self.wrong("type", "is required and not given: write type = \"sink\""),
            Some(Value::String(kind)) if kind == "sink" => {}
            Some(other) => {
                self.wrong("type", format!("{} is not \"sink\": this is a sink", shown_value(other)));
            }
        }
        self.required_text(file, "key", "key", "a name for the connector, such as \"http\"");
        let plugin = self.required_text(
            file,
            "path",
            "path",
            "the plugin, such as \"target/release/libiggy_connector_http_sink\"",
        );
        let enabled = self.typed(file, "enabled", true, Value::as_bool, "neither true nor false");
        self.typed(file, "version", 0, Value::as_u64, "not a whole number from 0");
        self.typed(file, "name", String::new(), |value| value.as_str().map(str::to_owned), "not text");
        if file.get("verbose").is_some_and(|value| !value.is_boolean()) {
            self.wrong("verbose", format!("{} is neither true nor false", shown_value(&file["verbose"])));
        }
        if file.contains_key("transforms") {
            self.warn(
                "transforms",
                "are applied by the Iggy runtime alone: `run` sends messages as they are",
            );
        }
        let streams = self.streams(file, &key);
        self.unknown("", file, &KEYS);

        let plugin_config = file.get("plugin_config").cloned().unwrap_or(Value::Null);
        match Config::from_json(&plugin_config) {
            Ok(config) => {
                for warning in &config.warnings {
                    self.warn(&self.key_of(warning), warning);
                }
            }
            Err(problems) => problems.iter().for_each(|problem| self.wrong(&problem.path, &problem.message)),
        }
        ConnectorFile {
            path: path.to_owned(),
            key,
            enabled,
            plugin: plugin.into(),
            streams,
            plugin_config,
            warnings: Vec::new(),
            overrides: 0,
        }
    }

    /// Checks what on this machine would keep the connector from starting.
    fn machine(&mut self, file: &ConnectorFile) {
        let usable = |path: PathBuf| Plugin::check(&path).map_err(|why| Failure::Start(why.to_string()));
        if !file.plugin.as_os_str().is_empty()
            && let Err(why) = host::named(&file.plugin, &file.path).and_then(usable)
        {
            self.wrong("path", why.to_string());
        }
        if let Value::Object(table) = &file.plugin_config {
            for problem in Config::unusable_folders(table) {
                self.wrong(&problem.path, problem.message);
            }
        }
    }

    /// Returns the key that a warning of the sink begins with, as spelled in the file.
    fn key_of(&self, warning: &str) -> String {
        let word = warning.split([' ', ',']).next().unwrap_or_default();
        let word = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word);
        let path = format!("plugin_config.{word}");
        if self.lines.exactly(&path).is_some() { path } else { "plugin_config".to_owned() }
    }
}

#[cfg(test)]
mod tests;
