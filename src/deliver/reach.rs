//! Tries each step of connecting to an endpoint, for people who want to know why it does not work.

use std::{
    fmt,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{StatusCode, Url};
use rustls::{ClientConnection, pki_types::ServerName};
use tokio::sync::watch;

use super::{
    attempt::{Attempt, How, Keep, SHOWN, answered, attempt},
    client::Client,
    deadline::Deadline,
    delivery::Delivery,
    fault::Fault,
    tls, tls_remedy,
};
use crate::{
    auth::{self, AuthError},
    config::{AuthConfig, ClientConfig, Config, HealthCheckMethod, OAuth2Config, ProxyConfig, is_loopback},
    world::World,
};

/// A step and its outcome.
#[derive(Debug)]
pub struct Step {
    /// What it is for.
    pub name: &'static str,
    /// What was found, or why it failed.
    pub outcome: Result<String, Obstacle>,
}

/// Why a step failed.
#[derive(Debug, Clone)]
pub struct Obstacle {
    /// What happened.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

impl Obstacle {
    /// Creates one from a reason and what to do about it.
    pub fn new(reason: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { reason: reason.to_string(), remedy: remedy.into() }
    }
}

/// Tries the steps one by one, up to the first that fails, and shows each. Returns whether all succeeded.
///
/// # Errors
/// That of `show`.
pub fn endpoint<E>(config: &Config, mut show: impl FnMut(&Step) -> Result<(), E>) -> Result<bool, E> {
    let mut step = |name, outcome| {
        let step = Step { name, outcome };
        show(&step).map(|()| step.outcome.is_ok())
    };
    let delivery = match Delivery::new(config, Arc::default(), &World::real()) {
        Ok(delivery) => delivery,
        Err(why) => return step("client", Err(Obstacle::new(why, "mend the configuration"))),
    };
    let url = delivery.template.url();
    let proxy = proxy(&config.client, &url);
    let (host, port) = match &proxy {
        Some(proxy) => (proxy.host().unwrap_or_default().to_owned(), proxy_port(proxy)),
        None => {
            (url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default().unwrap_or_default())
        }
    };
    let to = if proxy.is_some() { "proxy" } else { "endpoint" };
    let addresses = match look_up(&host, port, to) {
        Ok(addresses) => addresses,
        Err(obstacle) => return step("name", Err(obstacle)),
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    if !step("name", Ok(format!("{to} {host} is {}", shown.join(", "))))? {
        return Ok(false);
    }
    let (tcp, connected) = match connect(&addresses, config.client.connect_timeout) {
        Ok(connected) => connected,
        Err(why) => {
            let remedy = format!(
                "check that the {to} listens at {host}:{port}, and that no firewall stands before it"
            );
            return step("connection", Err(Obstacle::new(why, remedy)));
        }
    };
    step("connection", Ok(connected))?;
    // Behind a proxy, the tunnel and the handshake in it are part of the request.
    if proxy.is_none() && url.scheme() == "https" {
        let handshake = handshake(&config.client, tcp, &host);
        if !step("tls", handshake)? {
            return Ok(false);
        }
    }
    if let Some(AuthConfig::OAuth2ClientCredentials(oauth2)) = &config.endpoint.auth
        && !step("token", token(&config.client, oauth2))?
    {
        return Ok(false);
    }
    let method = config.health_check.map_or(HealthCheckMethod::Head, |check| check.method);
    step("answer", answer(&delivery, method, config.health_check.is_some()))
}

/// The proxy that requests to `url` go through.
fn proxy(config: &ClientConfig, url: &Url) -> Option<Uri> {
    let ProxyConfig { url: configured, no_proxy, from_environment, .. } = &config.proxy;
    let matcher = match configured {
        Some(_) if no_proxy.iter().any(|entry| entry == "*") => return None,
        Some(proxy) => Matcher::builder().all(proxy.resolve().ok()?).no(no_proxy.join(",")).build(),
        None if *from_environment && !is_loopback(url) => Matcher::from_system(),
        None => return None,
    };
    let uri =
        Uri::builder().scheme(url.scheme()).authority(url.host_str()?).path_and_query("/").build().ok()?;
    Some(matcher.intercept(&uri)?.uri().clone())
}

fn proxy_port(proxy: &Uri) -> u16 {
    proxy.port_u16().unwrap_or(if proxy.scheme_str() == Some("https") { 443 } else { 80 })
}

fn look_up(host: &str, port: u16, to: &str) -> Result<Vec<SocketAddr>, Obstacle> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let remedy =
        || format!("check the name of the {to} in the configuration, and the resolver of this machine");
    match found {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(Obstacle::new(format!("{host} has no address"), remedy())),
        Err(why) => Err(Obstacle::new(format!("{host} cannot be looked up: {why}"), remedy())),
    }
}

/// Connects to the first address that accepts.
fn connect(addresses: &[SocketAddr], timeout: Duration) -> Result<(TcpStream, String), String> {
    let mut failures = Vec::new();
    for address in addresses {
        let began = Instant::now();
        match TcpStream::connect_timeout(address, timeout) {
            Ok(tcp) => {
                let took = humantime::format_duration(Duration::from_micros(
                    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
                ));
                return Ok((tcp, format!("to {address} in {took}")));
            }
            Err(why) => failures.push(format!("{address}: {why}")),
        }
    }
    Err(failures.join("; "))
}

fn handshake(config: &ClientConfig, mut tcp: TcpStream, host: &str) -> Result<String, Obstacle> {
    let setup = |why: String| Obstacle::new(why, "mend [tls]");
    let files = config.tls.read_files().map_err(|problems| setup(problems[0].1.clone()))?;
    let tls = tls::tls(config, files, true).map_err(setup)?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|why| setup(why.to_string()))?;
    let mut connection = ClientConnection::new(Arc::new(tls), name).map_err(|why| setup(why.to_string()))?;
    let remedy = "check that the port is one for TLS";
    let limit = Some(config.connect_timeout);
    tcp.set_read_timeout(limit)
        .and_then(|()| tcp.set_write_timeout(limit))
        .map_err(|why| Obstacle::new(why, remedy))?;
    while connection.is_handshaking() {
        if let Err(why) = connection.complete_io(&mut tcp) {
            let error = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let remedy = error.and_then(tls_remedy::of).unwrap_or(remedy);
            return Err(Obstacle::new(why, remedy));
        }
    }
    let version = connection.protocol_version().map_or("TLS", |version| version.as_str().unwrap_or("TLS"));
    let protocol = connection.alpn_protocol().map_or("http/1.1".into(), String::from_utf8_lossy);
    let trusted = if config.accept_invalid_certs { "certificate not checked" } else { "certificate trusted" };
    Ok(format!("{version}, {protocol}, {trusted}"))
}

/// Asks the token endpoint of `[auth]` for a token. It is reached like the endpoint, in one step.
fn token(config: &ClientConfig, oauth2: &OAuth2Config) -> Result<String, Obstacle> {
    let transport = |url: &Url| Client::of_token_endpoint(config, url);
    match runtime()?.block_on(auth::try_token(oauth2, &World::real(), transport)) {
        Ok((who, lifetime)) => Ok(format!("{who} gave one for {}", humantime::format_duration(lifetime))),
        Err(why) => {
            let remedy = match &why {
                AuthError::Unreachable { .. } => {
                    "check token_url in [auth], and that this machine reaches it"
                }
                AuthError::NoToken { .. } => "check token_url in [auth], and the log of who answers there",
                AuthError::Refused { .. } => "[auth] must have the client_id, secret and scope that it knows",
                AuthError::Secret(_) => "mend [auth]",
            };
            let fault = Fault::of(&reqwest_middleware::Error::middleware(why));
            Err(Obstacle::new(&fault, fault.remedy().unwrap_or(remedy)))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Obstacle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|why| Obstacle::new(why, "this machine is short of threads or descriptors"))
}

/// Sends a request without a body. If no health check is configured, any answer is good that does not mean that messages
/// would be refused as well.
fn answer(delivery: &Delivery, method: HealthCheckMethod, checked: bool) -> Result<String, Obstacle> {
    let (_open, closing) = watch::channel(None);
    let deadline = Deadline::from_now(Duration::MAX, closing);
    let request = || delivery.template.probe(method.into());
    let keep = Keep { of_success: 0, of_others: SHOWN, whole: None };
    let attempt = attempt(&delivery.client, &delivery.classifier, request, How::default(), keep, deadline);
    let Some(Attempt { class, ended }) = runtime()?.block_on(attempt) else {
        return Err(Obstacle::new("closed", "try again"));
    };
    let answer = ended.map_err(|fault| {
        let remedy = fault.remedy().unwrap_or("see what the endpoint's log says, and docs/transport.md");
        Obstacle::new(&fault, remedy)
    })?;
    let said = format!("{} to {method}", answered(answer.status, &answer.excerpt));
    if class == super::classify::Class::Success {
        return Ok(said);
    }
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Obstacle::new(said, "the endpoint does not accept the credentials in url, headers or [auth]"))
        }
        _ if checked => Err(Obstacle::new(
            said,
            "the health check would fail: see health_check_method and success_status_codes",
        )),
        status if status.is_server_error() => {
            Err(Obstacle::new(said, "the endpoint is there and fails: see its log"))
        }
        _ => Ok(format!("{said}: it is there, and may take a message all the same")),
    }
}
