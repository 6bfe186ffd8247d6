//! The keys of the HTTP client: timeouts, connections, how much of an answer is read, the health check.

use std::time::Duration;

use super::{
    ClientConfig, Concurrency, HealthCheckConfig, HealthCheckMethod, ProxyConfig, TlsConfig, reader::Reader,
};

/// The maximum that is read of an answer, in bytes.
const MOST_OF_AN_ANSWER: u64 = 64 << 20;

pub(super) fn read(keys: &mut Reader<'_>, concurrency: Concurrency) -> ClientConfig {
    // With fewer connections than requests in flight, the excess requests would reconnect each time.
    let max_connections = concurrency.max().get().max(10);
    let timeout = keys.positive_duration("timeout", Duration::from_secs(30));
    ClientConfig {
        timeout,
        connect_timeout: keys.positive_duration("connect_timeout", timeout.min(Duration::from_secs(10))),
        max_connections: keys.integer("max_connections", 0..=usize::MAX, max_connections),
        pool_idle_timeout: keys.duration("pool_idle_timeout", Duration::from_secs(90)),
        tcp_keepalive: keys.duration("tcp_keepalive", Duration::from_secs(30)),
        follow_redirects: keys.boolean("follow_redirects", false),
        accept_invalid_certs: keys.boolean("tls_danger_accept_invalid_certs", false),
        response_header_timeout: keys.duration("response_header_timeout", Duration::ZERO),
        max_connection_age: keys.duration("max_connection_age", Duration::ZERO),
        http2_prior_knowledge: keys.boolean("http2_prior_knowledge", false),
        tls: TlsConfig::default(),
        proxy: ProxyConfig::default(),
    }
}

impl ClientConfig {
    /// Returns warnings about values that are allowed, but may be a mistake.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.accept_invalid_certs {
            warnings.push(
                "tls_danger_accept_invalid_certs is on: anyone on the way can read and change what is sent"
                    .to_owned(),
            );
        }
        for (key, within) in [
            ("connect_timeout", self.connect_timeout),
            ("response_header_timeout", self.response_header_timeout),
        ] {
            if within > self.timeout {
                warnings.push(format!(
                    "{key}, {}, is above timeout, {}, which ends first: lower it, or raise timeout",
                    humantime::format_duration(within),
                    humantime::format_duration(self.timeout)
                ));
            }
        }
        warnings
    }
}

/// How much of an answer without items is read by default.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// `None` if it is not given.
pub(super) fn read_max_response_bytes(keys: &mut Reader<'_>) -> Option<usize> {
    let bytes = keys.size("max_response_bytes", u64::MAX);
    keys.default(MAX_RESPONSE_BYTES);
    if bytes == u64::MAX {
        return None;
    }
    if bytes > MOST_OF_AN_ANSWER {
        keys.problem(
            "max_response_bytes",
            format!("{bytes} is above 64 MiB: an answer is read into memory, one for each request in flight"),
        );
    }
    Some(usize::try_from(bytes.min(MOST_OF_AN_ANSWER)).unwrap_or(usize::MAX))
}

pub(super) fn read_health_check(keys: &mut Reader<'_>) -> Option<HealthCheckConfig> {
    let enabled = keys.boolean("health_check_enabled", false);
    let config = HealthCheckConfig {
        method: keys.choice("health_check_method", HealthCheckMethod::Head),
        required: keys.boolean("health_check_required", true),
    };
    enabled.then_some(config)
}
