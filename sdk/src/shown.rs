//! Makes text from outside safe for a log, a table or a terminal.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// The maximum length of the name of a stream or topic, in bytes: a server allows no longer one.
pub(crate) const LONGEST_NAME: usize = 255;

/// Text from outside on one line, at most a given number of its bytes.
///
/// Control characters (C0, DEL and C1, and so escape sequences), line separators, and characters that have no width or change
/// the direction of the text around them (Unicode Standard Annex 9) are shown as `\n` or `\u{202e}`: they must not forge
/// lines, move the cursor or make a name look like another.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'t> {
    text: &'t str,
    limit: usize,
}

/// Shows at most `limit` bytes of a text, and `…` if there is more.
pub fn shown(text: &str, limit: usize) -> Shown<'_> {
    Shown { text, limit }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.text.floor_char_boundary(self.limit);
        let mut rest = &self.text[..end];
        while let Some(at) = rest.find(is_hidden) {
            f.write_str(&rest[..at])?;
            let mut behind = rest[at..].chars();
            if let Some(hidden) = behind.next() {
                escape(f, hidden)?;
            }
            rest = behind.as_str();
        }
        f.write_str(rest)?;
        if end < self.text.len() { f.write_char('…') } else { Ok(()) }
    }
}

/// The same for a text of several lines, keeping the line breaks.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    let is_hidden = |c: char| is_hidden(c) && !matches!(c, '\n' | '\t');
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to a string does not fail.
        let _ = if is_hidden(c) { escape(&mut shown, c) } else { shown.write_char(c) };
    }
    Cow::Owned(shown)
}

/// Escapes the same characters in the text of a JSON value, as `\u202e`, which does not change the value.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    // These occur only between values: in strings, JSON itself escapes them.
    let is_hidden = |c: char| is_hidden(c) && !matches!(c, '\n' | '\r' | '\t');
    if !json.contains(is_hidden) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character is not visible as what it is: a control character, one that changes the direction of text, or one that
/// is invisible (`Default_Ignorable_Code_Point` of Unicode Standard Annex 44, without the selectors of emoji).
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn escape(to: &mut impl Write, c: char) -> fmt::Result {
    match c {
        '\n' | '\r' | '\t' => write!(to, "{}", c.escape_default()),
        other => write!(to, "{}", other.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_be_seen_is_escaped() {
        for (text, expected) in [
            ("bad\r\nERROR forged", "bad\\r\\nERROR forged"),
            ("\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("a\u{9b}31mb", "a\\u{9b}31mb"),
            ("txt.\u{202e}exe", "txt.\\u{202e}exe"),
            ("\u{2066}a\u{2069}\u{2028}b\u{2029}", "\\u{2066}a\\u{2069}\\u{2028}b\\u{2029}"),
            ("pay\u{200b}pal\u{200d}\u{feff}", "pay\\u{200b}pal\\u{200d}\\u{feff}"),
            ("del\u{7f}nul\0", "del\\u{7f}nul\\u{0}"),
            ("zażółć 你好 🙂", "zażółć 你好 🙂"),
            ("", ""),
        ] {
            assert_eq!(shown(text, 100).to_string(), expected);
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shown("żółć", 3).to_string(), "ż…");
        assert_eq!(shown("abc", 3).to_string(), "abc");
        assert_eq!(shown("\n\n\n", 2).to_string(), "\\n\\n…");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(shown_lines("a\n\tb"), "a\n\tb");
        assert_eq!(shown_lines("a\n\u{202e}b\r"), "a\n\\u{202e}b\\r");
    }

    #[test]
    fn json_stays_the_same_value() {
        let json = "{\"a\":\"\u{202e}\u{9b}\u{e0001}é\",\n\"b\":\"\\n\"}";
        let shown = shown_json(json);
        assert_eq!(shown, "{\"a\":\"\\u202e\\u009b\\udb40\\udc01é\",\n\"b\":\"\\n\"}");
        let values: [serde_json::Value; 2] =
            [json, &shown].map(|text| serde_json::from_str(text).unwrap_or_default());
        assert_eq!(values[0], values[1]);
    }
}
