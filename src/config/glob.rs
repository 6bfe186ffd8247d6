//! Patterns of names: `*` for any text, `?` for one character.

use std::fmt;

/// A pattern for whole names. Case matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Creates a pattern; any text is valid.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut rest) = (&*self.0, name);
        // The pattern after the last star, and the rest of the name after the text that the star stands for so far.
        let mut star: Option<(&str, &str)> = None;
        loop {
            let (mut parts, mut characters) = (pattern.chars(), rest.chars());
            match (parts.next(), characters.next()) {
                (Some('*'), _) => {
                    pattern = parts.as_str();
                    star = Some((pattern, rest));
                }
                (None, None) => return true,
                (Some(wanted), Some(character)) if wanted == '?' || wanted == character => {
                    (pattern, rest) = (parts.as_str(), characters.as_str());
                }
                _ => {
                    // The star stands for one more character.
                    let Some((behind, of_name)) = star else { return false };
                    let mut characters = of_name.chars();
                    if characters.next().is_none() {
                        return false;
                    }
                    (pattern, rest) = (behind, characters.as_str());
                    star = Some((pattern, rest));
                }
            }
        }
    }

    /// Whether every name matches.
    pub fn matches_all(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|part| part == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use arbtest::arbtest;

    use super::*;

    #[test]
    fn stars_stand_for_any_text_and_question_marks_for_one_character() {
        for (pattern, name, expected) in [
            ("orders", "orders", true),
            ("orders", "orders.eu", false),
            ("orders*", "orders", true),
            ("orders.*", "orders.eu", true),
            ("*.eu", "orders.eu.eu", true),
            ("*a*b*", "xaab", true),
            ("*a*b*", "xba", false),
            ("t?", "tż", true),
            ("t?", "t", false),
            ("*", "", true),
            ("", "", true),
            ("?", "", false),
            ("Orders", "orders", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} {name}");
        }
        assert!(Glob::new("**").matches_all() && !Glob::new("*?").matches_all());
    }

    /// The same, as it is defined.
    fn defined(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|taken| defined(rest, &name[taken..])),
            Some((first, rest)) => name
                .split_first()
                .is_some_and(|(next, name)| (*first == '?' || first == next) && defined(rest, name)),
        }
    }

    #[test]
    fn it_matches_what_the_definition_says() {
        arbtest(|u| {
            let mut text = |characters: &[char], most: usize| {
                let length = u.int_in_range(0..=most)?;
                (0..length).map(|_| u.choose(characters).copied()).collect::<Result<Vec<_>, _>>()
            };
            let (pattern, name) = (text(&['a', 'b', '*', '?'], 7)?, text(&['a', 'b'], 8)?);
            let [as_pattern, as_name] = [&pattern, &name].map(|text| text.iter().collect::<String>());
            let matches = Glob::new(&as_pattern).matches(&as_name);
            assert_eq!(matches, defined(&pattern, &name), "{as_pattern} {as_name}");
            Ok(())
        });
    }
}
