//! The reference of all keys, `docs/configuration.md`, made from their declarations.

use std::fmt::{self, Write};

use super::{
    Config,
    declared::{Declared, Shape},
    problem::TABLE,
};

/// A bound above this is not worth mentioning.
const LARGEST: u64 = u32::MAX as u64;

const HEAD: &str = "\
# Configuration

<!-- Made by `just configuration` from the declarations that the sink reads its configuration with: edit those. -->

Every key of `[plugin_config]` and of its tables. [config.toml](../config.toml) has the same keys as a file, with more explanation. A *duration* is text
such as `\"500ms\"` or `\"1m 30s\"`, a *size* a number of bytes or text such as `\"10 MiB\"`; any text can contain `${env:NAME}` and `${file:/path}`. Keys of
tables can be written flat, as in environment overrides: `auth_token` is `auth.token`. A dash means that there is no fixed default; the meaning says what
happens without the key. A wrong value or an unknown key keeps the connector from opening; all mistakes are reported at once.
";

impl Config {
    /// All keys with type, default and meaning, as Markdown.
    pub fn reference() -> String {
        let declared = Self::all_declared();
        let mut text = HEAD.to_owned();
        let in_table = |table: &str| -> Vec<&Declared> {
            let prefix = format!("{table}.");
            declared
                .iter()
                .filter(|key| key.path.strip_prefix(&prefix).is_some_and(|name| !name.contains('.')))
                .collect()
        };
        let tables = declared.iter().filter(|key| key.shape == Shape::Table).map(|key| key.path.as_str());
        for table in [TABLE].into_iter().chain(tables) {
            let keys = in_table(table);
            let is_of_auth = table.ends_with(".dead_letter.auth");
            if keys.is_empty() {
                continue;
            }
            // Writing to a string does not fail.
            let _ = write!(text, "\n## `[{table}]`\n\n");
            if is_of_auth {
                text.push_str("The keys of `[plugin_config.auth]`, for `dead_letter.url`.\n");
                continue;
            }
            text.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
            for key in keys {
                let name = key.path.rsplit('.').next().unwrap_or_default();
                let default = key.default.as_ref().map_or("-".to_owned(), |default| format!("`{default}`"));
                let _ = writeln!(text, "| `{name}` | {} | {default} | {} |", Type(key), key.meaning());
            }
        }
        text
    }
}

/// The type of a key, with its allowed values.
struct Type<'d>(&'d Declared);

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match &self.0.shape {
            Shape::Boolean => "boolean",
            Shape::Duration => "duration",
            Shape::Size => "size",
            Shape::Integer { least, most } => {
                return match most.parse::<u64>() {
                    Ok(most) if most < LARGEST => write!(f, "integer, {least} to {most}"),
                    _ => write!(f, "integer, {least} or more"),
                };
            }
            Shape::Choice => {
                let choices: Vec<String> =
                    self.0.choices.iter().map(|choice| format!("`{choice}`")).collect();
                return f.write_str(&choices.join(", "));
            }
            Shape::StatusCodes => "list of status codes, 200 to 599, and ranges such as `\"202-204\"`",
            Shape::Rate => "number above zero",
            Shape::Text => "text",
            Shape::Texts => "text, or list of texts",
            Shape::Table => "table",
            Shape::Any => "as the meaning says",
        };
        f.write_str(words)
    }
}
