//! The batch modes of the plugin, as arguments.

use clap::ValueEnum;

/// A batch mode of the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// One envelope per request
    Individual,
    /// One envelope per line
    #[value(name = "nd_json", alias = "ndjson")]
    NdJson,
    /// One array of envelopes
    JsonArray,
    /// One payload per request, as it is
    Raw,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Individual => "individual",
            Self::NdJson => "nd_json",
            Self::JsonArray => "json_array",
            Self::Raw => "raw",
        }
    }
}
