//! Adds the parameters of a preset to the query of a URL, which may contain secrets and placeholders.

use url::form_urlencoded;

use super::Text;
use crate::request::{Kind, Part, Template};

/// Returns the configured URL with those parameters that its query, as resolved now, lacks.
///
/// # Errors
/// A secret with a `#` comes before the parameters. Any other problem of a URL is reported where it is read: such a URL is
/// returned unchanged.
pub(super) fn with_parameters(url: &str, parameters: &[(&str, &str)]) -> Result<String, String> {
    let Some(whole) = resolved(url) else { return Ok(url.to_owned()) };
    let end = fragment(url, whole.placeholders);
    let (before, fragment) = url.split_at(end.unwrap_or(url.len()));
    let before = before.trim_end();
    let Some(Resolved { url: resolved, .. }) = resolved(before) else { return Ok(url.to_owned()) };
    let sent = resolved.split('#').next().unwrap_or_default();
    let query = sent.split_once('?').map(|(_, query)| query);
    let missing: Vec<String> = parameters
        .iter()
        .filter(|(name, _)| !has(query.unwrap_or_default(), name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if missing.is_empty() {
        return Ok(url.to_owned());
    }
    if resolved.contains('#') {
        return Err("holds a \"#\" in a secret, and its preset adds parameters before one: remove what is \
                    behind it, which is never sent, or write %23"
            .to_owned());
    }
    let mark = match query {
        None => "?",
        Some(query) if query.is_empty() || query.ends_with('&') => "",
        Some(_) => "&",
    };
    Ok(format!("{before}{mark}{}{fragment}", missing.join("&")))
}

/// A URL with the current values of its secrets.
struct Resolved {
    /// With a letter in place of each placeholder, whose default may contain any character.
    url: String,
    placeholders: usize,
}

/// `None` if the text is not a URL that can be parsed.
fn resolved(url: &str) -> Option<Resolved> {
    let template = Template::parse(&Text::parse(url).ok()?, Kind::Url).ok()?;
    let url = template.parts().iter().map(|part| match part {
        Part::Literal(literal) => Some(literal.clone()),
        Part::Secret(secret) => secret.resolve().ok(),
        Part::Slot(_) => Some("x".to_owned()),
    });
    Some(Resolved { url: url.collect::<Option<String>>()?, placeholders: template.slots().count() })
}

/// Returns where the fragment of a configured URL begins: at the first `#` outside of references to secrets and placeholders.
fn fragment(url: &str, placeholders: usize) -> Option<usize> {
    url.match_indices('#').map(|(at, _)| at).find(|&at| {
        // A placeholder that is cut counts on neither side.
        let (before, behind) = url.split_at(at);
        match (resolved(before), resolved(behind)) {
            (Some(before), Some(behind)) => before.placeholders + behind.placeholders == placeholders,
            _ => false,
        }
    })
}

/// Whether a query has a parameter of this name.
fn has(query: &str, name: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(other, _)| other == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: [(&str, &str); 2] = [("token", "{idempotency_key}"), ("wait", "1")];

    #[test]
    fn what_is_there_is_left_as_it_is_written() {
        for url in [
            "http://h/?token=x&wait=0",
            "http://h/?a&wait&token#top",
            "http://h/?to%6Ben=x&wait=1",
            "${env:NO_SUCH_VARIABLE_HERE}/?a=1",
            "http://h/${env:",
            "http://h/{header:",
        ] {
            assert_eq!(with_parameters(url, &ADDED).as_deref(), Ok(url));
        }
        assert_eq!(with_parameters("http://h/#a", &[]).as_deref(), Ok("http://h/#a"));
    }

    #[test]
    fn what_is_missing_stands_before_the_fragment() {
        for (url, expected) in [
            ("http://h", "http://h?TOKEN&wait=1"),
            ("http://h?wait=0", "http://h?wait=0&TOKEN"),
            ("http://h/a#b?c", "http://h/a?TOKEN&wait=1#b?c"),
            ("http://h/{topic|#}/{{stream}}#{{", "http://h/{topic|#}/{{stream}}?TOKEN&wait=1#{{"),
            ("http://h/${env:CARGO_MANIFEST_DIR}#b", "http://h/${env:CARGO_MANIFEST_DIR}?TOKEN&wait=1#b"),
            ("http://h/?atoken=1&waits=1", "http://h/?atoken=1&waits=1&TOKEN&wait=1"),
        ] {
            let expected = expected.replace("TOKEN", "token={idempotency_key}");
            assert_eq!(with_parameters(url, &ADDED), Ok(expected));
        }
    }

    #[test]
    fn a_number_sign_in_the_name_of_a_file_is_no_fragment() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("a#b");
        std::fs::write(&file, "http://h/?a=1\n")?;
        let url = format!("${{file:{}}}", file.display());
        assert_eq!(with_parameters(&url, &ADDED)?, format!("{url}&token={{idempotency_key}}&wait=1"));
        for held in ["http://h/?hunter2#top", "http://h/#?token=hunter2&wait=1"] {
            std::fs::write(&file, held)?;
            assert!(with_parameters(&url, &ADDED).is_err_and(|why| !why.contains("hunter2")));
        }
        Ok(())
    }
}
