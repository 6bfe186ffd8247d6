//! Suggestions for a misspelled key or word: the most similar known one.

/// Above this similarity (Jaro-Winkler, 0 to 1), a key counts as a misspelling of another.
const NEAR: f64 = 0.82;

/// Returns the known name that a wrong one was probably meant to be.
pub fn nearest<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    let wrong = wrong.to_ascii_lowercase();
    known
        .iter()
        // Of two equally similar names, the first is chosen.
        .rev()
        .map(|key| (strsim::jaro_winkler(&wrong, &key.to_ascii_lowercase()), *key))
        .filter(|(likeness, _)| *likeness > NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

/// Returns the message about an unknown key.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let near = nearest(key, known).map_or_else(
        || "remove it, or look for its name in config.toml".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    format!("unknown key: {near}")
}
