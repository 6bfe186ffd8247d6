//! What is said to a misspelled key or word: the known one that is nearest.

/// Above this similarity (Jaro-Winkler, 0 to 1) a key is taken for a misspelling of another.
const NEAR: f64 = 0.82;

/// The known name that a wrong one is likely meant to be.
pub fn nearest<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    let wrong = wrong.to_ascii_lowercase();
    known
        .iter()
        // Of two that are as near the first is taken.
        .rev()
        .map(|key| (strsim::jaro_winkler(&wrong, &key.to_ascii_lowercase()), *key))
        .filter(|(likeness, _)| *likeness > NEAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

/// What is said of a key that is none of the known ones.
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let near = nearest(key, known).map_or_else(
        || "remove it, or look for its name in config.toml".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    format!("unknown key: {near}")
}
