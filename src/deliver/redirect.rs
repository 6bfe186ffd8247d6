//! Follows redirects, each hop with its own credentials.

use std::time::Duration;

use async_trait::async_trait;
use http::Extensions;
use reqwest::{Request, Response, StatusCode, Url, header::LOCATION};
use reqwest_middleware::{Error, Middleware, Next, Result};
use tokio::time::Instant;

/// The limit of reqwest.
const MAX_REDIRECTS: usize = 10;

/// The endpoint redirects endlessly.
#[derive(Debug, thiserror::Error)]
#[error("too many redirects")]
struct TooMany;

/// Follows redirects that keep the method and the body and stay within the configured endpoint. Any other is returned as an
/// answer, so that an empty GET to another place never counts as delivery, and no header is sent to somebody else.
///
/// The middleware that signs requests comes after it: a signature for one path is not valid for another.
#[derive(Debug)]
pub(super) struct FollowsRedirects {
    /// For all hops together.
    pub(super) timeout: Duration,
}

#[async_trait]
impl Middleware for FollowsRedirects {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let began = Instant::now();
        for _ in 0..=MAX_REDIRECTS {
            let copy = request.try_clone();
            let from = request.url().clone();
            let answer = next.clone().run(request, extensions).await?;
            let (Some(mut hop), Some(to)) = (copy, target(&answer, &from)) else { return Ok(answer) };
            *hop.url_mut() = to;
            *hop.timeout_mut() = Some(self.timeout.saturating_sub(began.elapsed()));
            request = hop;
        }
        Err(Error::middleware(TooMany))
    }
}

/// Returns the target of an answer that is a redirect to be followed.
fn target(answer: &Response, from: &Url) -> Option<Url> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let mut to = from.join(location).ok()?;
    if !may_follow(answer.status(), from, &to) {
        return None;
    }
    // A user chosen by the endpoint is not one of ours.
    to.set_username("").and_then(|()| to.set_password(None)).ok()?;
    Some(to)
}

/// Whether it stays within the origin (RFC 6454 section 4), or leads to https on the same host with both on their default
/// ports: any other port may be somebody else's, and headers with credentials would go there.
fn may_follow(status: StatusCode, from: &Url, to: &Url) -> bool {
    let keeps_the_body = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let upgrade = from.scheme() == "http"
        && to.scheme() == "https"
        && from.host() == to.host()
        && (from.port_or_known_default(), to.port_or_known_default()) == (Some(80), Some(443));
    keeps_the_body && (from.origin() == to.origin() || upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follows(status: u16, from: &str, to: &str) -> bool {
        let [from, to] = [from, to].map(|url| Url::parse(url).expect("a URL"));
        may_follow(StatusCode::from_u16(status).expect("a status"), &from, &to)
    }

    #[test]
    fn redirects_stay_within_the_origin() {
        for to in ["http://a/other", "http://a:80/", "http://A/", "http://user@a/"] {
            assert!(follows(307, "http://a/in", to) && follows(308, "http://a/in", to), "{to}");
        }
        for to in ["http://b/in", "http://sub.a/in", "http://a:81/in", "http://a:443/in", "ftp://a/in"] {
            assert!(!follows(307, "http://a/in", to), "{to}");
        }
        assert!(follows(307, "https://a:8443/in", "https://a:8443/"));
        assert!(!follows(307, "https://a:8443/in", "https://a/"));
    }

    #[test]
    fn http_may_become_https_and_never_the_reverse() {
        assert!(follows(308, "http://a/in", "https://a/in"));
        for (from, to) in [
            ("https://a/", "http://a/"),
            ("https://a:80/", "http://a/"),
            ("http://a/", "https://b/"),
            ("http://a/", "https://a:8443/"),
            ("http://a:8080/", "https://a/"),
            ("http://a:8080/", "https://a:8080/"),
        ] {
            assert!(!follows(308, from, to), "{from} {to}");
        }
    }

    #[test]
    fn redirects_that_drop_the_body_are_not_followed() {
        for status in [300, 301, 302, 303, 304] {
            assert!(!follows(status, "http://a/in", "http://a/other"), "{status}");
        }
    }
}
