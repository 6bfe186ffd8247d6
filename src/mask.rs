//! Masks secrets in text from outside: if an endpoint echoes a request in its answer, they must not get into a log.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    sync::{PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Url;
use url::form_urlencoded;

use crate::{
    config::{AuthConfig, EndpointConfig, header::is_credential},
    secret::MASK,
};

/// A shorter secret is masked only as a separate word: otherwise it would be found everywhere.
const SHORT: usize = 6;
/// A shorter path segment is a name and not a secret.
const SHORT_SEGMENT: usize = 12;
/// A shorter beginning of a secret at the end of a text reveals nothing.
const SHORT_BEGINNING: usize = 4;
/// How many secrets are remembered, former ones included: an endpoint may still repeat them.
const KNOWN: usize = 512;

/// The secrets of an endpoint, in every form in which they may be echoed.
#[derive(Default)]
pub(crate) struct Masks(RwLock<VecDeque<String>>);

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masks(…)")
    }
}

impl Masks {
    /// Adds the current secrets of an endpoint: values of references, headers with credentials, user, password, path and
    /// query of the URL. Values that cannot be read are skipped.
    pub(crate) fn learn_endpoint(&self, endpoint: &EndpointConfig) {
        for value in endpoint.url.secrets() {
            self.learn(&value);
        }
        if let Some(url) = endpoint.url.resolve().ok().and_then(|url| Url::parse(url.trim()).ok()) {
            self.learn_url(&url);
        }
        for secret in endpoint.auth.iter().flat_map(AuthConfig::secrets) {
            if let Ok(value) = secret.resolve() {
                self.learn(&value);
            }
        }
        for (name, text) in &endpoint.headers {
            for value in text.secrets() {
                self.learn_credential(&value);
            }
            if is_credential(name.as_str())
                && let Ok(value) = text.resolve()
            {
                self.learn_credential(&value);
            }
        }
    }

    fn learn_url(&self, url: &Url) {
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        if !user.is_empty() || !password.is_empty() {
            let decoded = |text: &str| percent_decoded(text);
            self.learn(&STANDARD.encode(format!("{}:{}", decoded(user), decoded(password))));
            for part in [user, password] {
                self.learn(part);
                self.learn(&decoded(part));
            }
        }
        let path = url.path().trim_matches('/');
        let segments = path.split('/').filter(|segment| segment.len() >= SHORT_SEGMENT);
        let values = url.query_pairs().map(|(_, value)| value.into_owned());
        let query = url.query().map(str::to_owned);
        let all = segments.map(str::to_owned).chain([path.to_owned()]).chain(query).chain(values);
        for part in all.filter(|part| part.len() >= SHORT) {
            self.learn(&part);
        }
    }

    /// Adds a value such as `Bearer 1234` or `Basic dTpw`, and the credentials in it.
    fn learn_credential(&self, value: &str) {
        self.learn(value);
        if let Some((scheme, credential)) = value.split_once(' ') {
            self.learn(credential);
            let decoded =
                STANDARD.decode(credential).ok().and_then(|decoded| String::from_utf8(decoded).ok());
            if let Some(decoded) = decoded.filter(|_| scheme.eq_ignore_ascii_case("basic")) {
                decoded.splitn(2, ':').for_each(|part| self.learn(part));
            }
        }
    }

    /// Adds a secret.
    pub(crate) fn learn(&self, secret: &str) {
        let secret = secret.trim();
        if secret.is_empty() {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for form in forms(secret) {
            if !known.contains(&form) {
                known.push_back(form);
            }
        }
        while known.len() > KNOWN {
            known.pop_front();
        }
        // The longest first: a secret may contain another one.
        known.make_contiguous().sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Replaces secrets in a text by `***`, including one that its end cuts off.
    pub(crate) fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.masked(text, true)
    }

    /// The same for a text that is not cut off.
    pub(crate) fn apply_to_whole<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.masked(text, false)
    }

    fn masked<'t>(&self, text: &'t str, cut_off: bool) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            if let Some(without) = replaced(&masked, secret) {
                masked = Cow::Owned(without);
            }
            if let Some(end) = begun(&masked, secret).filter(|_| cut_off) {
                masked = Cow::Owned(format!("{}{MASK}", &masked[..end]));
            }
        }
        masked
    }
}

/// Returns a secret as it is, and as written in JSON, in HTML, in a URL and in a form.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::Value::from(secret).to_string();
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut forms = vec![
        secret.to_owned(),
        json[1..json.len() - 1].to_owned(),
        json[1..json.len() - 1].replace('/', "\\/"),
        html.replace('"', "&quot;").replace('\'', "&#39;"),
        html.replace('"', "&#34;").replace('\'', "&#x27;"),
        form.replace('+', "%20"),
        form,
    ];
    forms.sort();
    forms.dedup();
    forms
}

fn replaced(text: &str, secret: &str) -> Option<String> {
    let stands_alone = |at: usize| {
        let is_of_a_word = |c: char| c.is_alphanumeric();
        !text[..at].ends_with(is_of_a_word) && !text[at + secret.len()..].starts_with(is_of_a_word)
    };
    let mut found = text
        .match_indices(secret)
        .map(|(at, _)| at)
        .filter(|at| secret.len() >= SHORT || stands_alone(*at))
        .peekable();
    found.peek()?;
    let mut without = String::with_capacity(text.len());
    let mut from = 0;
    for at in found {
        without.push_str(&text[from..at]);
        without.push_str(MASK);
        from = at + secret.len();
    }
    without.push_str(&text[from..]);
    Some(without)
}

/// Returns where the end of a text matches the beginning of a secret: the text may have been cut there.
fn begun(text: &str, secret: &str) -> Option<usize> {
    let longest = secret.len().min(text.len() + 1).checked_sub(1)?;
    (SHORT_BEGINNING..=longest)
        .rev()
        .filter_map(|length| secret.get(..length))
        .find(|beginning| text.ends_with(beginning))
        .map(|beginning| text.len() - beginning.len())
}

fn percent_decoded(text: &str) -> String {
    // A plus does not mean a space in a user or password.
    let pair = format!("={}", text.replace('+', "%2B"));
    form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks(secrets: &[&str]) -> Masks {
        let masks = Masks::default();
        for secret in secrets {
            masks.learn(secret);
        }
        masks
    }

    #[test]
    fn a_secret_is_masked_in_every_form() {
        let masks = masks(&["s3cret/\"&pass w+rd"]);
        for echo in [
            "s3cret/\"&pass w+rd",
            r#"s3cret/\"&pass w+rd"#,
            r#"s3cret\/\"&pass w+rd"#,
            "s3cret/&quot;&amp;pass w+rd",
            "s3cret%2F%22%26pass%20w%2Brd",
            "s3cret%2F%22%26pass+w%2Brd",
        ] {
            assert_eq!(masks.apply(&format!("got <{echo}>, twice <{echo}>")), "got <***>, twice <***>");
        }
    }

    #[test]
    fn a_short_secret_is_masked_where_it_stands_alone() {
        let masks = masks(&["abc"]);
        assert_eq!(masks.apply("{\"password\":\"abc\"} abcd xabc"), "{\"password\":\"***\"} abcd xabc");
    }

    #[test]
    fn a_secret_that_holds_another_is_masked_whole() {
        assert_eq!(masks(&["tokens", "mytokens2"]).apply("mytokens2 tokens"), "*** ***");
    }

    #[test]
    fn a_secret_that_the_end_of_the_text_cuts_off_is_masked() {
        let masks = masks(&["hunter2-and-more"]);
        assert_eq!(masks.apply("with hunter2-an"), "with ***");
        assert_eq!(masks.apply("with hun"), "with hun");
    }

    #[test]
    fn what_holds_no_secret_stays() {
        assert!(matches!(masks(&["hunter2"]).apply("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn parts_of_urls_and_credentials_are_secrets() {
        let masks = Masks::default();
        masks.learn_url(
            &Url::parse("https://us%20er:p%2Bw-rd@h/services/T0000/Bsecretsecret?key=querykey")
                .expect("a URL"),
        );
        masks.learn_credential("Basic YWRtaW46aHVudGVyMg==");
        for echo in [
            "us er",
            "p+w-rd",
            "services/T0000/Bsecretsecret",
            "Bsecretsecret",
            "querykey",
            "hunter2",
            "YWRtaW46aHVudGVyMg==",
        ] {
            assert_eq!(masks.apply(&format!("[{echo}]")), "[***]", "{echo}");
        }
    }
}
