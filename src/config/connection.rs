//! How requests reach an endpoint, once it is checked: connections, trust, proxies, the health check.

use std::{fmt, path::PathBuf, time::Duration};

use strum::{Display, EnumString, IntoStaticStr, VariantNames};

use super::{Text, shown_url};

/// How connections are made and kept.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The time one attempt may take, from connecting to the end of the answer.
    pub timeout: Duration,
    /// The time connecting may take.
    pub connect_timeout: Duration,
    /// Idle connections kept for each host; unless given, as many as there can be requests under way, at least 10.
    pub max_connections: usize,
    /// How long a connection is kept without use.
    pub pool_idle_timeout: Duration,
    /// The interval of TCP keepalive probes; zero turns them off.
    pub tcp_keepalive: Duration,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether certificates go unchecked.
    pub accept_invalid_certs: bool,
    /// The time from a request sent to the head of its answer; zero: no limit but [`timeout`](Self::timeout).
    pub response_header_timeout: Duration,
    /// How old a connection may be that a request goes over; zero: no limit.
    pub max_connection_age: Duration,
    /// Whether the endpoint speaks HTTP/2 without being asked.
    pub http2_prior_knowledge: bool,
    /// Whom connections trust, and who they are.
    pub tls: TlsConfig,
    /// Which way connections take.
    pub proxy: ProxyConfig,
}

/// Whom connections trust, and who they are. Its files are PEM, and read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Authorities that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether those of the system are not.
    pub only_ca_file: bool,
    /// The client's certificate, followed by those that lead to its authority.
    pub client_cert_file: Option<PathBuf>,
    /// The key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, VariantNames, Display)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[strum(serialize = "1.2")]
    Tls12,
    /// RFC 8446.
    #[strum(serialize = "1.3")]
    Tls13,
}

/// Which way connections take.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The proxy: `http` or `https`, host and port.
    pub url: Option<Text>,
    /// Hosts, domains with their subdomains, addresses and networks that are reached without it.
    pub no_proxy: Vec<String>,
    /// Sent to the proxy with the password, as Basic (RFC 7617).
    pub username: Option<Text>,
    /// See [`username`](Self::username).
    pub password: Option<Text>,
    /// Whether the usual variables (`HTTPS_PROXY`, `NO_PROXY` and so on) count where there is no `url`.
    pub from_environment: bool,
}

impl fmt::Debug for ProxyConfig {
    /// Without user and password, which may stand here as they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyConfig")
            .field("url", &self.url.as_ref().map(shown_url))
            .field("no_proxy", &self.no_proxy)
            .field("from_environment", &self.from_environment)
            .finish_non_exhaustive()
    }
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self { url: None, no_proxy: Vec::new(), username: None, password: None, from_environment: true }
    }
}

/// How `open` asks the endpoint whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheckConfig {
    /// The method of the request.
    pub method: HealthCheckMethod,
    /// Whether `open` fails without a success.
    pub required: bool,
}

/// The method of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display)]
#[strum(serialize_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of RFC 9110")]
pub enum HealthCheckMethod {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

impl From<HealthCheckMethod> for reqwest::Method {
    fn from(method: HealthCheckMethod) -> Self {
        match method {
            HealthCheckMethod::Get => Self::GET,
            HealthCheckMethod::Head => Self::HEAD,
            HealthCheckMethod::Options => Self::OPTIONS,
            HealthCheckMethod::Post => Self::POST,
            HealthCheckMethod::Put => Self::PUT,
            HealthCheckMethod::Patch => Self::PATCH,
            HealthCheckMethod::Delete => Self::DELETE,
        }
    }
}

/// A request method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames, Display, IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of RFC 9110")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}
