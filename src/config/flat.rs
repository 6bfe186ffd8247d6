//! The flat keys of bodies, retries and connections.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use super::{
    BatchMode, BodyConfig, ClientConfig, Concurrency, HealthCheckConfig, HealthCheckMethod, Jitter,
    ProxyConfig, RetryConfig, TlsConfig, reader::Reader,
};

/// The most that is read of an answer, in bytes.
const MOST_OF_AN_ANSWER: u64 = 64 << 20;

pub(super) fn read_body(keys: &mut Reader<'_>) -> BodyConfig {
    let max_bytes = keys.size("max_payload_size_bytes", 10_485_760);
    BodyConfig {
        mode: keys.choice("batch_mode", BatchMode::Individual),
        include_metadata: keys.boolean("include_metadata", true),
        include_checksum: keys.boolean("include_checksum", false),
        include_origin_timestamp: keys.boolean("include_origin_timestamp", false),
        max_bytes: match max_bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        },
        max_messages: NonZeroUsize::new(keys.integer("max_batch_messages", 0..=usize::MAX, 0)),
        target: None,
        form: None,
        compression: super::request::read_compression(keys),
        tombstone_method: keys.optional_choice("tombstone_method"),
    }
}

/// With a spool, waiting costs the caller nothing, so that more of it is worth while.
pub(super) fn read_retry(keys: &mut Reader<'_>, spooled: bool) -> RetryConfig {
    let (max_retries, max_duration) =
        if spooled { (u32::MAX, Duration::from_hours(12)) } else { (3, Duration::from_mins(5)) };
    let retry = RetryConfig {
        max_retries: keys.integer("max_retries", 0..=u32::MAX, max_retries),
        delay: keys.duration("retry_delay", Duration::from_secs(1)),
        multiplier: keys.integer("retry_backoff_multiplier", 1..=u32::MAX, 2),
        max_delay: keys.duration("max_retry_delay", Duration::from_secs(30)),
        jitter: keys.choice("retry_jitter", Jitter::Full),
        max_duration: keys.duration("max_retry_duration", max_duration),
        max_retry_after: keys.duration("max_retry_after", Duration::from_mins(5)),
        status_codes: keys.status_codes("retry_status_codes", true, &retryable_by_default()),
        hold_status_codes: keys.status_codes("hold_status_codes", true, &[]),
        isolate_status_codes: keys.status_codes("isolate_status_codes", true, &[400, 422]),
    };
    if retry.delay > retry.max_delay {
        keys.problem(
            "retry_delay",
            format!(
                "{} is above max_retry_delay, {}: lower it, or raise max_retry_delay",
                humantime::format_duration(retry.delay),
                humantime::format_duration(retry.max_delay)
            ),
        );
    }
    retry
}

/// The keys that say what becomes of a status: the first that has it decides.
const STATUS_LISTS: [&str; 4] =
    ["success_status_codes", "hold_status_codes", "retry_status_codes", "isolate_status_codes"];

/// Which of [`STATUS_LISTS`] are given. A code of a default that an earlier list decides needs no word.
pub(super) struct StatusLists([bool; 4]);

impl StatusLists {
    pub(super) fn given(keys: &Reader<'_>) -> Self {
        Self(STATUS_LISTS.map(|key| keys.gives(key)))
    }

    /// What to say of codes that stand in two of them.
    pub(super) fn overlaps(&self, success: &BTreeSet<u16>, retry: &RetryConfig) -> Vec<String> {
        let codes = [success, &retry.hold_status_codes, &retry.status_codes, &retry.isolate_status_codes];
        let lists: Vec<_> = STATUS_LISTS.iter().zip(codes).zip(self.0).collect();
        let mut found = Vec::new();
        for (index, ((key, codes), _)) in lists.iter().enumerate().filter(|(_, (_, given))| *given) {
            for ((first, others), given) in &lists[..index] {
                let default = if *given { "" } else { " by default" };
                for code in codes.intersection(others) {
                    found.push(format!(
                        "{key} holds {code}, and so does {first}{default}, which decides: remove it from one of them"
                    ));
                }
            }
        }
        found
    }
}

/// 408, 425, 429 and every 5xx but 501 and 505, which no repetition can mend (RFC 9110, 15.6).
fn retryable_by_default() -> Vec<u16> {
    [408, 425, 429].into_iter().chain((500..=599).filter(|code| ![501, 505].contains(code))).collect()
}

pub(super) fn read_client(keys: &mut Reader<'_>, concurrency: Concurrency) -> ClientConfig {
    // With fewer than there are requests under way, those in excess would connect anew each time.
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
    /// Warnings of what is allowed, but may be a mistake.
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

/// How much of an answer is read, unless given, where it has no items.
pub(super) const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// `None` where it is not given.
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
