//! Decides who may read, and who may change something.

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, StatusCode, header};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::config::Text;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: &'static str,
}

/// Whether a request may read.
///
/// Without a token everybody on this machine may, except pages of other sites in a browser here, which could point their name
/// at this address: so the requested name must be one of this machine.
pub(super) fn may_read(headers: &HeaderMap, token: Option<&Text>) -> Result<(), Refusal> {
    match token {
        Some(token) if brings(headers, token) => Ok(()),
        Some(_) => Err(Refusal { status: StatusCode::UNAUTHORIZED, why: "the token is missing or wrong" }),
        None => match host(headers) {
            Some(host) if !is_loopback(host) => Err(Refusal {
                status: StatusCode::FORBIDDEN,
                why: "without status.token only names and addresses of this machine are answered",
            }),
            _ => Ok(()),
        },
    }
}

/// Whether a request may change something: it must carry the token, and must not come from a page of another site.
pub(super) fn may_change(headers: &HeaderMap, token: Option<&Text>) -> Result<(), Refusal> {
    let Some(token) = token else {
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            why: "nothing can be changed without status.token",
        });
    };
    may_read(headers, Some(token))?;
    let foreign =
        Refusal { status: StatusCode::FORBIDDEN, why: "the request comes from a page of another site" };
    let same_site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let same_origin = match headers.get(header::ORIGIN).map(header::HeaderValue::to_str) {
        // Not a browser: browsers send the origin of a POST.
        None => true,
        Some(Ok(origin)) => {
            let of_page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            of_page.is_some() && of_page == host(headers)
        }
        Some(Err(_)) => false,
    };
    if same_site && same_origin { Ok(()) } else { Err(foreign) }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a request carries the token: as a bearer token or, so that browsers can ask for it, as the password of Basic.
fn brings(headers: &HeaderMap, token: &Text) -> bool {
    let Ok(token) = token.resolve() else { return false };
    let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some((scheme, credentials)) = value.split_once(' ') else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return is_same(credentials.trim().as_bytes(), token.trim().as_bytes());
    }
    let decoded = STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
    let password = decoded.as_deref().and_then(|decoded| {
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(&decoded[colon + 1..])
    });
    password.is_some_and(|password| is_same(password, token.trim().as_bytes()))
}

/// Compares in constant time, wherever they differ and whatever their lengths are.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let [one, other] = [one, other].map(|text| digest(&SHA256, text));
    one.as_ref().ct_eq(other.as_ref()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().expect("a value")))
            .collect()
    }

    fn token() -> Text {
        let config =
            serde_json::json!({ "url": "http://h", "status": { "address": "127.0.0.1:1", "token": TOKEN } });
        let config = crate::config::Config::from_json(&config).expect("a configuration");
        config.status.and_then(|status| status.token).expect("a token")
    }

    #[test]
    fn the_token_is_a_bearer_token_or_the_password_of_basic() {
        let token = token();
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("me:{password}")));
        for (value, allowed) in [
            (format!("Bearer {TOKEN}"), true),
            (format!("bearer  {TOKEN} "), true),
            (basic(TOKEN), true),
            (basic("wrong"), false),
            (format!("Bearer {TOKEN}0"), false),
            (format!("Bearer {}", &TOKEN[1..]), false),
            (format!("Basic {TOKEN}"), false),
            ("Bearer".to_owned(), false),
            (String::new(), false),
        ] {
            let access = may_read(&headers(&[("authorization", &value)]), Some(&token));
            assert_eq!(access.is_ok(), allowed, "{value}");
        }
        assert!(may_read(&headers(&[]), Some(&token)).is_err());
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered_and_nothing_changes() {
        for (host, allowed) in [
            ("localhost:9464", true),
            ("LOCALHOST", true),
            ("127.0.0.1:9464", true),
            ("127.8.0.1", true),
            ("[::1]:9464", true),
            ("evil.example:9464", false),
            ("localhost.evil.example", false),
            ("10.0.0.1:9464", false),
        ] {
            assert_eq!(may_read(&headers(&[("host", host)]), None).is_ok(), allowed, "{host}");
        }
        assert!(may_change(&headers(&[("host", "localhost")]), None).is_err());
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let (token, bearer) = (token(), format!("Bearer {TOKEN}"));
        for (origin, allowed) in [
            ("http://sink:9464", true),
            ("https://sink:9464", true),
            ("http://sink", false),
            ("http://evil.example", false),
            ("null", false),
            ("sink:9464", false),
        ] {
            let all = [("host", "sink:9464"), ("authorization", bearer.as_str()), ("origin", origin)];
            assert_eq!(may_change(&headers(&all), Some(&token)).is_ok(), allowed, "{origin}");
        }
        let all =
            [("host", "sink:9464"), ("authorization", bearer.as_str()), ("sec-fetch-site", "cross-site")];
        assert!(may_change(&headers(&all), Some(&token)).is_err());
        assert!(may_change(&headers(&all[..2]), Some(&token)).is_ok());
    }
}
