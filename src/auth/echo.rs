//! Masks credentials in answers: some endpoints repeat a request that they refuse.

use reqwest::{Response, header::HeaderValue};
use url::form_urlencoded;

use crate::secret::MASK;

/// The shortest beginning of a credential that is masked if the end of a text cuts it off.
const SHORTEST_BEGINNING: usize = 4;

/// The credentials that a request was sent with, to be masked in its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Echo(Vec<HeaderValue>);

impl Echo {
    /// Attaches to an answer the credentials of its request.
    pub(super) fn note(answer: &mut Response, sent: &[&HeaderValue]) {
        answer.extensions_mut().insert(Self(sent.iter().copied().cloned().collect()));
    }

    /// Replaces these credentials in a text by `***`.
    pub(crate) fn mask(&self, mut text: String) -> String {
        if text.is_empty() {
            return text;
        }
        for sent in &self.0 {
            let sent = String::from_utf8_lossy(sent.as_bytes());
            // The scheme of an `Authorization` is no secret.
            let credential =
                sent.strip_prefix("Bearer ").or_else(|| sent.strip_prefix("Basic ")).unwrap_or(&sent);
            let in_query: String = form_urlencoded::byte_serialize(credential.as_bytes()).collect();
            let in_json = serde_json::Value::from(credential).to_string();
            for form in [credential, &in_query, in_json.trim_matches('"')] {
                text = without(text, form);
            }
        }
        text
    }
}

fn without(text: String, credential: &str) -> String {
    if credential.is_empty() {
        return text;
    }
    let mut text = if text.contains(credential) { text.replace(credential, MASK) } else { text };
    // The part of an answer that was read may end within it.
    let lengths =
        (SHORTEST_BEGINNING..credential.len()).rev().filter(|length| credential.is_char_boundary(*length));
    if let Some(length) = lengths.into_iter().find(|length| text.ends_with(&credential[..*length])) {
        text.truncate(text.len() - length);
        text.push_str(MASK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_in_every_form_and_where_the_text_cuts_them_off() {
        let echo = |sent: &'static str| Echo(vec![HeaderValue::from_static(sent)]);
        let masked = |sent, text: &str| echo(sent).mask(text.to_owned());
        assert_eq!(
            masked("Bearer t0k3n", "authorization: Bearer t0k3n, t0k3n"),
            "authorization: Bearer ***, ***"
        );
        assert_eq!(
            masked("a/b c\"d", r#"{"key":"a/b c\"d","q":"key=a%2Fb+c%22d"}"#),
            r#"{"key":"***","q":"key=***"}"#
        );
        assert_eq!(masked("Basic dXNlcjpwYXNz", "you sent Basic dXNlcjp"), "you sent Basic ***");
        assert_eq!(masked("Bearer t0k3n", "nothing of it"), "nothing of it");
    }
}
