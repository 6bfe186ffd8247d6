//! Answers to requests.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::Value;

use super::access::Refusal;

pub(super) type Answer = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// Only scripts and styles from this server are allowed, and no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The answer to a successful action: a browser is redirected to a page, others get a text.
pub(super) fn done(headers: &HeaderMap, page: &str, what: &Value) -> Answer {
    let is_of_page =
        headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    match HeaderValue::from_str(page) {
        Ok(page) if is_of_page => {
            let mut back = text(StatusCode::SEE_OTHER, "done\n");
            back.headers_mut().insert(header::LOCATION, page);
            back
        }
        _ => answer(StatusCode::OK, JSON, format!("{what}\n")),
    }
}

pub(super) fn refused(Refusal { status, why }: Refusal) -> Answer {
    let mut answer = text(status, format!("{why}\n"));
    if status == StatusCode::UNAUTHORIZED {
        // A browser then asks for user and password; the user may be anything.
        let challenge = HeaderValue::from_static("Basic realm=\"HTTP sink\", charset=\"UTF-8\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

pub(super) fn not_found() -> Answer {
    text(StatusCode::NOT_FOUND, "there is /, /metrics, /live, /ready and /api/status\n")
}

pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, TEXT, text)
}

pub(super) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(super) fn with_headers(mut answer: Answer) -> Answer {
    let all: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in all {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
