//! The checked configuration of connections: TLS, proxies, timeouts, the health check.

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
    /// Idle connections kept per host; by default as many as there can be requests in flight, at least 10.
    pub max_connections: usize,
    /// How long a connection is kept without use.
    pub pool_idle_timeout: Duration,
    /// The interval of TCP keepalive probes; zero turns them off.
    pub tcp_keepalive: Duration,
    /// Whether redirects are followed.
    pub follow_redirects: bool,
    /// Whether certificates are not checked.
    pub accept_invalid_certs: bool,
    /// The time from the end of a request to the head of its answer; zero: only [`timeout`](Self::timeout) limits it.
    pub response_header_timeout: Duration,
    /// The maximum age of a connection for new requests; zero: no limit.
    pub max_connection_age: Duration,
    /// Whether HTTP/2 is used without negotiation.
    pub http2_prior_knowledge: bool,
    /// The authorities to trust, and the client certificate.
    pub tls: TlsConfig,
    /// The proxy that connections use.
    pub proxy: ProxyConfig,
}

/// The authorities to trust, and the client certificate. The files are PEM, and read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Authorities that are trusted in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether those of the system are not trusted.
    pub only_ca_file: bool,
    /// The client's certificate, followed by its chain.
    pub client_cert_file: Option<PathBuf>,
    /// The key of the client's certificate.
    pub client_key_file: Option<PathBuf>,
    /// The oldest version that is accepted.
    pub min_version: TlsVersion,
}

/// The oldest version of TLS that is accepted.
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

/// The proxy that connections use.
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
    /// Whether the usual variables (`HTTPS_PROXY`, `NO_PROXY` and so on) are used if there is no `url`.
    pub from_environment: bool,
}

impl fmt::Debug for ProxyConfig {
    /// Without user and password, which may be literal.
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

/// The health check that `open` makes.
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
