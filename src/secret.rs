//! Strings that refer to secrets instead of containing them: `${env:NAME}` and `${file:/run/secrets/x}`.

use std::{fmt, path::PathBuf, time::SystemTime};

use crate::private;

/// Replaces a secret wherever text is shown.
pub(crate) const MASK: &str = "***";

/// A configured string with unresolved references to secrets.
///
/// `Debug` and `Display` show references by their names, and `***` for everything else: a literal password, also beside a
/// reference, is a secret as well.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text {
    configured: String,
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Env(String),
    File(PathBuf),
}

/// A part of a [`Text`].
pub(crate) enum TextPart<'t> {
    /// Literal text.
    Literal(&'t str),
    /// A single reference.
    Secret(Text),
}

/// The properties of a file that change when it is rewritten: modification time and length.
pub(crate) type FileStamp = Option<(SystemTime, u64)>;

impl Text {
    /// Splits a configured string into literal parts and references.
    ///
    /// # Errors
    /// A reference has no end, or a kind other than `env` and `file`.
    pub(crate) fn parse(configured: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = configured;
        while let Some(start) = rest.find("${") {
            let (literal, reference) = rest.split_at(start);
            let end = reference.find('}').ok_or(
                // The text is not shown: it may be a credential.
                "a \"${\" stands without its \"}\": write ${env:NAME} or ${file:/path}",
            )?;
            let name = &reference[2..end];
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(match name.split_once(':') {
                Some(("env", name)) if !name.is_empty() => Part::Env(name.to_owned()),
                Some(("file", path)) if !path.is_empty() => Part::File(PathBuf::from(path)),
                _ => {
                    // Nor is this: a password may contain "${".
                    return Err(
                        "what stands in \"${…}\" is no reference: write ${env:NAME} or ${file:/path}"
                            .to_owned(),
                    );
                }
            });
            rest = &reference[end + 1..];
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { configured: configured.to_owned(), parts })
    }

    /// Returns the current values of its references, without those that cannot be read.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = String> {
        self.parts
            .iter()
            .filter(|part| !matches!(part, Part::Literal(_)))
            .filter_map(|part| part.resolve().ok())
    }

    /// Returns the text with every reference replaced by its current value.
    ///
    /// A file's content counts without line breaks at its end.
    ///
    /// # Errors
    /// The reference that cannot be read, by its name.
    pub fn resolve(&self) -> Result<String, String> {
        self.parts.iter().map(Part::resolve).collect()
    }

    /// The text as configured, which may be a secret.
    pub(crate) fn configured(&self) -> &str {
        &self.configured
    }

    /// Iterates over the literal parts of the text, without the values of secrets.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(literal) => Some(literal.as_str()),
            Part::Env(_) | Part::File(_) => None,
        })
    }

    /// Iterates over literal parts and references, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = TextPart<'_>> {
        self.parts.iter().map(|part| match part {
            Part::Literal(literal) => TextPart::Literal(literal),
            Part::Env(name) => {
                TextPart::Secret(Self { configured: format!("${{env:{name}}}"), parts: vec![part.clone()] })
            }
            Part::File(path) => TextPart::Secret(Self {
                configured: format!("${{file:{}}}", path.display()),
                parts: vec![part.clone()],
            }),
        })
    }

    /// Whether the text refers to a secret, so that its resolved value must not be shown.
    pub fn is_secret(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part, Part::Literal(_)))
    }

    /// Iterates over the stamps of the files that the text refers to, in order: if they differ, its value may have changed.
    pub(crate) fn file_stamps(&self) -> impl Iterator<Item = FileStamp> {
        self.parts.iter().filter_map(|part| match part {
            Part::File(path) => {
                Some(std::fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len()))))
            }
            Part::Literal(_) | Part::Env(_) => None,
        })
    }
}

impl Part {
    fn resolve(&self) -> Result<String, String> {
        match self {
            Self::Literal(literal) => Ok(literal.clone()),
            Self::Env(name) => std::env::var(name).map_err(|why| match why {
                std::env::VarError::NotPresent => {
                    format!("${{env:{name}}}: the environment variable {name} is not set")
                }
                std::env::VarError::NotUnicode(_) => {
                    format!("${{env:{name}}}: the environment variable {name} is not UTF-8")
                }
            }),
            Self::File(path) => {
                let content = private::read_foreign(path).map_err(|why| {
                    format!("${{file:{path}}}: the file cannot be read: {why}", path = path.display())
                })?;
                Ok(content.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(text) if text.is_empty() => Ok(()),
            Part::Literal(_) => f.write_str(MASK),
            Part::Env(name) => write!(f, "${{env:{name}}}"),
            Part::File(path) => write!(f, "${{file:{}}}", path.display()),
        })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_references_is_itself() -> Result<(), String> {
        for text in ["", "plain", "$HOME {stream} }", "100 $"] {
            assert_eq!(Text::parse(text)?.resolve()?, text);
            assert!(!Text::parse(text)?.is_secret());
        }
        Ok(())
    }

    #[test]
    fn environment_variables_are_put_in_place() -> Result<(), String> {
        let cargo = std::env::var("CARGO_MANIFEST_DIR").map_err(|why| why.to_string())?;
        let text = Text::parse("a ${env:CARGO_MANIFEST_DIR} b")?;
        assert_eq!(text.resolve()?, format!("a {cargo} b"));
        assert!(text.is_secret());
        assert_eq!(
            format!("{text} {text:?}"),
            "***${env:CARGO_MANIFEST_DIR}*** \"***${env:CARGO_MANIFEST_DIR}***\""
        );
        Ok(())
    }

    #[test]
    fn a_missing_secret_is_named() -> Result<(), String> {
        let why = Text::parse("Bearer ${env:NO_SUCH_VARIABLE_HERE}")?.resolve();
        assert!(why.is_err_and(|why| why.contains("NO_SUCH_VARIABLE_HERE")));
        let why = Text::parse("${file:/no/such/file}")?.resolve();
        assert!(why.is_err_and(|why| why.contains("/no/such/file")));
        Ok(())
    }

    #[test]
    fn a_file_is_read_again_and_its_last_line_break_dropped() -> Result<(), Box<dyn std::error::Error>> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), "first\n")?;
        let text = Text::parse(&format!("Bearer ${{file:{}}}", file.path().display()))?;
        assert_eq!(text.resolve()?, "Bearer first");
        let before: Vec<_> = text.file_stamps().collect();
        std::fs::write(file.path(), "second, longer\r\n")?;
        assert_eq!(text.resolve()?, "Bearer second, longer");
        assert_ne!(before, text.file_stamps().collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn broken_references_are_refused() {
        for text in ["${env:HOME", "${ENV:HOME}", "${env:}", "${vault:x}", "${x}"] {
            assert!(Text::parse(text).is_err(), "{text}");
        }
    }
}
