//! The command that continues where a run has ended.

use std::ffi::OsString;

use super::selection::Selection;

/// Options that select lines, each with a value.
const REPLACED: [&str; 4] = ["--start-line", "--lines", "--limit", "--input-id"];

/// This program's arguments, with other lines.
#[derive(Debug, Clone)]
pub(super) struct Resume {
    arguments: Vec<String>,
    /// Given if the input has no identity of its own.
    input_id: Option<String>,
}

impl Resume {
    /// From the arguments of this process.
    pub(super) fn new(input_id: Option<&str>) -> Self {
        Self { arguments: kept(std::env::args_os()), input_id: input_id.map(str::to_owned) }
    }

    /// Returns the command for these lines; with `limit`, for at most that many messages.
    pub(super) fn command(&self, lines: &Selection, limit: Option<u64>) -> String {
        let mut words = self.arguments.clone();
        if let Some(id) = &self.input_id {
            words.extend(["--input-id".to_owned(), id.clone()]);
        }
        if lines.is_tail() {
            words.extend(["--start-line".to_owned(), lines.first().to_string()]);
        } else {
            words.extend(["--lines".to_owned(), lines.to_string()]);
        }
        words.extend(limit.into_iter().flat_map(|limit| ["--limit".to_owned(), limit.to_string()]));
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// Returns all arguments except those that are replaced.
fn kept(arguments: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        if REPLACED.contains(&argument.as_str()) {
            arguments.next();
        } else if !REPLACED
            .iter()
            .any(|option| argument.strip_prefix(option).is_some_and(|rest| rest.starts_with('=')))
        {
            kept.push(argument);
        }
    }
    kept
}

/// Quotes a word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lines_take_the_place_of_those_before() {
        let arguments =
            "p run c.toml --input in\u{20}put --limit=5 --start-line 3 --json --lines 7- --input-id x";
        let arguments = arguments.replace("in put", "in_put");
        let mut kept = kept(arguments.split(' ').map(OsString::from));
        assert_eq!(kept.join(" "), "p run c.toml --input in_put --json");
        kept[4] = "it's".to_owned();
        let resume = Resume { arguments: kept, input_id: Some("a b".to_owned()) };
        assert_eq!(
            resume.command(&Selection::from_line(8), Some(2)),
            r"p run c.toml --input 'it'\''s' --json --input-id 'a b' --start-line 8 --limit 2"
        );
        assert!(resume.command(&"2,5-".parse().unwrap(), None).ends_with("--lines 2,5-"));
    }
}
