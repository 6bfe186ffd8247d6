//! A token endpoint and an endpoint that takes its tokens.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::endpoint::{Answer, Endpoint, Request};

/// A token endpoint that gives the tokens `token-1`, `token-2` and so on, and an endpoint that takes the one with the number
/// `accepted` and, unless it is `strict`, all later ones.
pub(crate) struct World {
    pub(crate) tokens: Endpoint,
    pub(crate) endpoint: Endpoint,
    /// The lowest number of a token that is taken.
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Whether the token endpoint answers 503.
    pub(crate) down: Arc<AtomicBool>,
}

/// An answer with the token of this number.
pub(crate) fn token(number: usize, expires_in: impl Into<Value>) -> Answer {
    answer(&format!("token-{number}"), expires_in.into())
}

/// An answer with this token.
pub(crate) fn token_of(text: &str) -> Answer {
    answer(text, 3600.into())
}

fn answer(token: &str, expires_in: Value) -> Answer {
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": expires_in });
    Answer::status(200).header("content-type", "application/json").body(body.to_string())
}

/// An error of RFC 6749 section 5.2.
pub(crate) fn refusal(status: u16, code: &str) -> Answer {
    let body = json!({ "error": code, "error_description": "CANARY-of-the-description" });
    Answer::status(status).body(body.to_string())
}

/// An endpoint that takes tokens from this number on, and refuses others with this status.
pub(crate) fn taking_tokens_from(accepted: &Arc<AtomicUsize>, refusal: u16) -> Endpoint {
    let accepted = accepted.clone();
    Endpoint::start(move |request| {
        let number = request.header("authorization").and_then(|token| token.strip_prefix("Bearer token-"));
        let number = number.and_then(|number| number.parse::<usize>().ok());
        let taken = number.is_some_and(|number| number >= accepted.load(SeqCst));
        Answer::status(if taken { 200 } else { refusal })
    })
}

impl World {
    /// Tokens take a while to be given, and live an hour.
    pub(crate) fn start() -> Self {
        let (accepted, down) = (Arc::new(AtomicUsize::new(1)), Arc::<AtomicBool>::default());
        let (is_down, given) = (down.clone(), AtomicUsize::new(0));
        let tokens = Endpoint::start(move |_| {
            if is_down.load(SeqCst) {
                return Answer::status(503);
            }
            token(given.fetch_add(1, SeqCst) + 1, 3600).after(Duration::from_millis(50))
        });
        let endpoint = taking_tokens_from(&accepted, 401);
        Self { tokens, endpoint, accepted, down }
    }

    pub(crate) fn auth(&self) -> Value {
        auth(&self.tokens)
    }
}

/// `[auth]` with this token endpoint.
pub(crate) fn auth(tokens: &Endpoint) -> Value {
    json!({
        "type": "oauth2_client_credentials",
        "token_url": tokens.url(),
        "client_id": "client",
        "client_secret": "CANARY-of-the-client",
    })
}

/// The parameters of a token request.
pub(crate) fn form(request: &Request) -> HashMap<String, String> {
    let body = String::from_utf8(request.body.clone()).unwrap();
    reqwest::Url::parse(&format!("http://form/?{body}")).unwrap().query_pairs().into_owned().collect()
}
