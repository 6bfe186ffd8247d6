//! Shows a finding like a compiler: the line, with a mark under the relevant part.

use std::{io::IsTerminal, path::Path};

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use iggy_connector_sdk::{shown, shown_lines};

use super::location::{Finding, Location};

/// The maximum of a line that is shown, in bytes.
const LONGEST_LINE: usize = 2000;

/// The severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Problem,
    Warning,
}

/// All of them, with their number at the end.
pub(crate) fn of_all(findings: &[Finding], file: &Path, kind: Kind) -> String {
    let plural = if findings.len() == 1 { "" } else { "s" };
    let mut all: Vec<String> = findings.iter().map(|finding| of(finding, file, kind)).collect();
    all.push(format!(
        "{}: {} problem{plural}",
        shown(&file.display().to_string(), usize::MAX),
        findings.len()
    ));
    all.join("\n\n")
}

/// Formats one finding; in colours if stdout is a terminal, so text from outside is made safe here.
pub(crate) fn of(finding: &Finding, file: &Path, kind: Kind) -> String {
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
    let level = match kind {
        Kind::Problem => Level::ERROR,
        Kind::Warning => Level::WARNING,
    };
    let title = match &*finding.path {
        "" => finding.message.clone(),
        path => format!("{path}: {}", finding.message),
    };
    let path = shown(&file.display().to_string(), usize::MAX).to_string();
    let title = level.primary_title(shown_lines(&title).into_owned());
    let group = match (&finding.location, &finding.excerpt) {
        (Location::Line(line), Some(excerpt)) if excerpt.text.len() <= LONGEST_LINE => {
            let up_to = |end: usize| shown_lines(&excerpt.text[..end]).len();
            let marked = up_to(excerpt.marked.start)..up_to(excerpt.marked.end);
            title.element(
                Snippet::source(shown_lines(&excerpt.text))
                    .line_start(*line)
                    .path(&path)
                    .annotation(AnnotationKind::Primary.span(marked)),
            )
        }
        (Location::Line(line), _) => title.element(Origin::path(&path).line(*line)),
        (Location::File, _) => title.element(Origin::path(&path)),
        (Location::Environment(variable), _) => {
            let variable = format!("set by {}", shown(variable, 255));
            return renderer.render(&[title.element(Origin::path(&variable))]);
        }
    };
    renderer.render(&[group])
}
