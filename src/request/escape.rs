//! Escapes text for the context it is inserted into, so that it cannot break out of it.

use crate::payload::write_escaped;

/// The context that a field of a message is inserted into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// Nothing is special there.
    Text,
    /// A path segment or a query value of a URL: everything but letters, digits and `-._~` is percent-encoded (RFC 3986
    /// section 2.3).
    Url,
    /// The value of a header: `%`, control characters, non-ASCII characters, and spaces at both ends are percent-encoded, as
    /// in the HTTP binding of `CloudEvents` 1.0 (section 3.1.3.2).
    Header,
    /// A JSON value.
    Json,
    /// The inside of a JSON string.
    JsonString,
    /// Line protocol, outside of quotes: a name, a tag or a number. Special characters are escaped with a backslash.
    Line,
    /// Line protocol, in quotes.
    LineString,
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

impl Context {
    /// The quotes around a value that needs no escapes in this context.
    pub(super) fn quote(self) -> &'static str {
        if self == Self::Json { "\"" } else { "" }
    }

    /// Writes text, escaped for this context.
    ///
    /// # Errors
    /// The text cannot be written in this context, however it is escaped.
    pub(crate) fn write(self, text: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Self::Text => out.extend_from_slice(text.as_bytes()),
            Self::Url => percent(text, out, |_, byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
            }),
            Self::Header => {
                let last = text.len().saturating_sub(1);
                percent(text, out, |at, byte| match byte {
                    b'%' => false,
                    b' ' => at != 0 && at != last,
                    byte => byte.is_ascii_graphic(),
                });
            }
            Self::Json => {
                out.push(b'"');
                write_escaped(text, out);
                out.push(b'"');
            }
            Self::JsonString => write_escaped(text, out),
            Self::Line => {
                if text.is_empty() {
                    return Err("is empty, which line protocol has no form for");
                }
                if text.ends_with('\\') {
                    return Err("ends in a backslash, which line protocol has no form for");
                }
                if text.contains(['\n', '\r']) {
                    return Err("holds a line break, which line protocol has no form for");
                }
                line(text.as_bytes(), out);
            }
            Self::LineString => {
                for byte in text.bytes() {
                    match byte {
                        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                        b'\n' => out.extend_from_slice(b"\\n"),
                        b'\r' => out.extend_from_slice(b"\\r"),
                        byte => out.push(byte),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes a name, a tag or a number of line protocol.
///
/// A backslash before a special character or another backslash is doubled: some readers take two of them for one, so that the
/// next character would end the field. Readers that do not know doubled ones, such as `InfluxDB` 1, show both.
fn line(mut text: &[u8], out: &mut Vec<u8>) {
    while let [first, rest @ ..] = text {
        let backslashes = text.iter().take_while(|byte| **byte == b'\\').count();
        let is_special = |byte: &u8| matches!(byte, b',' | b'=' | b' ');
        if backslashes == 0 {
            if is_special(first) {
                out.push(b'\\');
            }
            out.push(*first);
            text = rest;
        } else {
            let doubled = backslashes > 1 || text.get(backslashes).is_some_and(is_special);
            out.extend(std::iter::repeat_n(b'\\', if doubled { 2 * backslashes } else { 1 }));
            text = &text[backslashes..];
        }
    }
}

fn percent(text: &str, out: &mut Vec<u8>, stays: impl Fn(usize, u8) -> bool) {
    for (at, byte) in text.bytes().enumerate() {
        if stays(at, byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use arbtest::{
        arbitrary::{self, Unstructured},
        arbtest,
    };

    use super::*;

    fn written(context: Context, text: &str) -> Option<String> {
        let mut out = Vec::new();
        context.write(text, &mut out).ok()?;
        Some(String::from_utf8(out).expect("text"))
    }

    fn percent_decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, others @ ..] = rest {
            if *first == b'%' {
                let digits = std::str::from_utf8(&others[..2]).expect("digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("digits"));
                rest = &others[2..];
            } else {
                bytes.push(*first);
                rest = others;
            }
        }
        String::from_utf8(bytes).expect("text")
    }

    /// As a reader takes it: a backslash means itself unless what follows is special.
    fn without_backslashes(text: &str, special: &str) -> String {
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            match rest.peek() {
                Some(next) if character == '\\' && special.contains(*next) => plain.extend(rest.next()),
                _ => plain.push(character),
            }
        }
        plain
    }

    /// Any text, or one of the characters that a context escapes.
    fn text(u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
        let characters: &[u8] = match u.int_in_range(0..=2)? {
            0 => return u.arbitrary(),
            1 => b" !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~",
            _ => b"a\\,= ",
        };
        let length = u.int_in_range(0..=12)?;
        (0..length).map(|_| Ok(char::from(*u.choose(characters)?))).collect()
    }

    #[test]
    fn unescaping_gives_back_the_text() {
        arbtest(|u| {
            let text = text(u)?;
            let url = written(Context::Url, &text).expect("any text can be there");
            assert_eq!(&percent_decoded(&url), &text);
            assert!(!url.contains(['/', '?', '#', '&', '=', '\\', ':', '@', '+', ' ']));
            let header = written(Context::Header, &text).expect("any text can be there");
            assert_eq!(&percent_decoded(&header), &text);
            assert_eq!(header.trim(), &header);
            assert!(reqwest::header::HeaderValue::from_str(&header).is_ok());
            let json = written(Context::Json, &text).expect("any text can be there");
            assert_eq!(&serde_json::from_str::<String>(&json).expect("JSON"), &text);
            let inside = written(Context::JsonString, &text).expect("any text can be there");
            assert_eq!(format!("\"{inside}\""), json);
            if let Some(line) = written(Context::Line, &text) {
                assert_eq!(&without_backslashes(&line, ",= \\"), &text);
                // A reader that checks only the byte before finds no end in it either.
                let bytes = line.as_bytes();
                let ends = bytes.iter().enumerate().filter(|(_, byte)| b",= ".contains(byte));
                for (at, _) in ends {
                    assert!(at > 0 && bytes[at - 1] == b'\\', "{}", line);
                }
            } else {
                assert!(text.is_empty() || text.ends_with('\\') || text.contains(['\n', '\r']));
            }
            let quoted = written(Context::LineString, &text).expect("any text can be there");
            if !text.contains(['\n', '\r']) {
                assert_eq!(&without_backslashes(&quoted, "\"\\"), &text);
            }
            assert!(!quoted.contains(['\n', '\r']));
            Ok(())
        })
        .budget_ms(300);
    }
}
