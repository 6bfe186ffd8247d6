//! Checks that `[auth]`, `headers` and the url neither contradict each other nor expose credentials.

use reqwest::{
    Url,
    header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION},
};

use super::{ApiKeyLocation, AuthConfig, SignedPart, WEBHOOK_ID, is_readable_on_the_way};
use crate::config::{
    Text, header,
    reader::Reader,
    url::{endpoint_url, has_userinfo},
};

/// The destination of requests, with its keys.
#[derive(Clone, Copy)]
pub(in crate::config) struct Destination<'c> {
    /// The prefix of the keys: nothing, or a table and a dot.
    pub(in crate::config) table: &'static str,
    pub(in crate::config) url: &'c Text,
    pub(in crate::config) headers: &'c [(HeaderName, Text)],
    pub(in crate::config) auth: Option<&'c AuthConfig>,
    /// Headers that the sink itself sets, with their keys.
    pub(in crate::config) own_headers: [(&'static str, Option<&'c HeaderName>); 2],
    pub(in crate::config) allow_insecure_credentials: bool,
}

/// Reports every contradiction, and returns the warnings.
pub(in crate::config) fn check(keys: &Reader<'_>, destination: &Destination<'_>) -> Vec<String> {
    // Problems of the url itself were reported before.
    if keys.has_problem(&format!("{}url", destination.table)) {
        return Vec::new();
    }
    let Some(url) = resolved(destination.url) else { return Vec::new() };
    if let Some(auth) = destination.auth {
        check_headers(keys, destination, auth);
        check_url(keys, destination, auth, &url);
        if !destination.allow_insecure_credentials {
            check_transport(keys, destination, auth, &url);
        }
    }
    warnings(destination, &url)
}

fn check_headers(keys: &Reader<'_>, destination: &Destination<'_>, auth: &AuthConfig) {
    let table = destination.table;
    for name in auth.headers() {
        if destination.headers.iter().any(|(other, _)| *other == name) {
            keys.problem(
                &format!("{table}headers.{name}"),
                "is set by [auth] for each request: remove it here, or remove [auth]",
            );
        }
        for (key, other) in destination.own_headers {
            // It has this value anyway.
            let same = name == WEBHOOK_ID && key == "idempotency_header";
            if other == Some(&name) && !same {
                keys.problem(
                    key,
                    format!("{name} is set by [auth]: write another name, or \"\" to turn it off"),
                );
            }
        }
    }
}

fn check_url(keys: &Reader<'_>, destination: &Destination<'_>, auth: &AuthConfig, url: &Url) {
    let key = format!("{}url", destination.table);
    if has_userinfo(url) {
        keys.problem(&key, "holds a user or a password beside [auth]: remove one of them");
    }
    if let AuthConfig::ApiKey { location: ApiKeyLocation::Query(name), .. } = auth
        && url.query_pairs().any(|(other, _)| other == *name)
    {
        keys.problem(&key, format!("holds the parameter {name}, which [auth] sets: remove it"));
    }
}

fn check_transport(keys: &Reader<'_>, destination: &Destination<'_>, auth: &AuthConfig, url: &Url) {
    let remedy =
        "write an https url, or allow_insecure_credentials = true where the network between is trusted";
    let key = format!("{}auth", destination.table);
    if is_readable_on_the_way(url) {
        keys.problem(
            &key,
            format!("would send its credentials over plain http to another machine: {remedy}"),
        );
    }
    if let AuthConfig::OAuth2ClientCredentials(oauth2) = auth
        && resolved(&oauth2.token_url).is_some_and(|url| is_readable_on_the_way(&url))
    {
        let message = format!("would get credentials over plain http on another machine: {remedy}");
        keys.problem(&format!("{key}.token_url"), message);
    }
}

fn warnings(destination: &Destination<'_>, url: &Url) -> Vec<String> {
    let mut warnings = Vec::new();
    let table = destination.table;
    let has_authorization = destination.headers.iter().any(|(name, _)| *name == AUTHORIZATION);
    if has_userinfo(url) && has_authorization {
        warnings.push(format!(
            "{table}url holds a user or a password, and {table}headers an Authorization: the header is sent, and they are not"
        ));
    }
    if let Some(AuthConfig::Hmac(hmac)) = destination.auth
        && hmac.signed.holds(&SignedPart::Now)
        && !hmac.prefix.holds(&SignedPart::Now)
    {
        warnings.push(format!(
            "{table}auth.signed holds {{now}}, and {table}auth.prefix does not: no receiver can tell which time was signed"
        ));
    }
    if is_readable_on_the_way(url) {
        let headers = destination.headers.iter().filter(|(name, value)| is_credential(name, value));
        let mut places: Vec<String> = headers.map(|(name, _)| format!("{table}headers.{name}")).collect();
        if has_userinfo(url) || url.query_pairs().any(|(name, _)| header::is_credential(&name)) {
            places.push(format!("{table}url"));
        }
        if !places.is_empty() {
            warnings.push(format!(
                "credentials in {} go over plain http to another machine: anyone on the way can read them",
                places.join(", ")
            ));
        }
    }
    warnings
}

fn is_credential(name: &HeaderName, value: &Text) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name)
        || value.is_secret()
        || header::is_credential(name.as_str())
}

fn resolved(url: &Text) -> Option<Url> {
    endpoint_url(&url.resolve().ok()?).ok()
}
