//! What each key means, in a sentence or two, for the reference (`docs/configuration.md`) and for editors.

use super::{Declared, problem::TABLE};

impl Declared {
    /// Returns what the key means; empty if that is not documented.
    pub fn meaning(&self) -> &'static str {
        let name =
            self.path.strip_prefix(TABLE).and_then(|path| path.strip_prefix('.')).unwrap_or(&self.path);
        let of_auth = name.strip_prefix("dead_letter.").filter(|name| name.starts_with("auth"));
        let name = of_auth.unwrap_or(name);
        MEANINGS.iter().find(|(key, _)| *key == name).map_or("", |(_, meaning)| *meaning)
    }
}

/// By path, without `plugin_config`. Keys of `auth` are those of `dead_letter.auth`, too.
const MEANINGS: &[(&str, &str)] = &[
    (
        "url",
        "Where requests go: http or https. User and password in it are sent as Basic. Path and query can contain placeholders. Required, unless there are `routes`.",
    ),
    ("method", "The method of requests."),
    (
        "headers",
        "Headers of every request; their values can contain placeholders. A header given here replaces the one that the sink would send.",
    ),
    ("timeout", "The time for one attempt, to the end of its answer."),
    ("connect_timeout", "The time for connecting alone; never more than `timeout`."),
    (
        "response_header_timeout",
        "The time from the end of the request to the head of its answer; `0s`: only `timeout` limits it.",
    ),
    (
        "batch_mode",
        "How messages become bodies: one envelope per request, one envelope per line (also `ndjson`), one array of envelopes, or one unchanged payload per request.",
    ),
    (
        "include_metadata",
        "Wraps each payload as `{\"metadata\":{...},\"payload\":...}`. Off: only the payload. No effect in mode `raw`.",
    ),
    ("include_checksum", "Adds the checksum to the metadata."),
    ("include_origin_timestamp", "Adds the origin timestamp to the metadata."),
    (
        "max_payload_size_bytes",
        "The maximum size of one body, before compression; 0: no limit. A single message above it cannot be delivered.",
    ),
    ("max_batch_messages", "The maximum number of messages in one body; 0: no limit."),
    ("success_status_codes", "What counts as delivered."),
    ("max_retries", "Retries of one request beyond its first attempt. With `[spool]`, unlimited by default."),
    ("retry_delay", "The first wait between attempts, also before the first probe of the circuit breaker."),
    ("retry_backoff_multiplier", "The factor from each wait to the next."),
    ("max_retry_delay", "The longest wait between attempts."),
    (
        "retry_jitter",
        "How waits are randomized: from zero to the full wait, from half of `retry_delay` to the full wait, or not at all.",
    ),
    (
        "max_retry_duration",
        "How long after consume accepted a message it may be retried; then it is settled as it is. With `[spool]`, 12h by default.",
    ),
    (
        "max_retry_after",
        "The longest pause that an endpoint may ask for with `Retry-After`; such a pause holds all requests to it.",
    ),
    (
        "retry_status_codes",
        "Answers that are retried; a list replaces the default: 408, 425, 429 and every 5xx except 501 and 505.",
    ),
    (
        "hold_status_codes",
        "Answers that are retried until `max_retry_duration` is over, not counted in `max_retries`, such as 401 during a deployment.",
    ),
    (
        "isolate_status_codes",
        "Answers that say that some message of a body is bad: the body is halved until the bad messages are alone.",
    ),
    ("linger", "With `[spool]`: how long a body of `nd_json` or `json_array` waits for more messages."),
    (
        "concurrency",
        "Requests in flight: a whole number, or `\"adaptive\"`: up to `max_concurrency`. Default 1.",
    ),
    ("max_concurrency", "The maximum of requests in flight if `concurrency` is adaptive."),
    ("ordering", "What is kept in order: each partition, each `ordering_key`, or nothing."),
    ("ordering_key", "The key, as text with placeholders such as `{header:name}`."),
    ("compression", "How bodies are compressed."),
    ("compression_level", "gzip: 1 to 9, default 6; zstd: 1 to 22, default 3."),
    (
        "idempotency_header",
        "A header with the same key whenever the same messages are sent again; `\"\"`: none.",
    ),
    (
        "retry_count_header",
        "A header that says, from the first retry on, how often the request was sent before; `\"\"`: none.",
    ),
    ("follow_redirects", "Follows 307 and 308 within the origin, or from http to https of the same host."),
    (
        "max_response_bytes",
        "How much of an answer is read into memory, at most 64 MiB; the default is 16 MiB with `response.items`.",
    ),
    ("health_check_enabled", "Sends a request to the endpoint at open."),
    ("health_check_method", "The method of that request."),
    (
        "health_check_required",
        "Whether the connector opens only if the check succeeds; otherwise a failure is only a warning.",
    ),
    (
        "max_connections",
        "Idle connections kept per host; by default 10, or as many as there can be requests in flight, if that is more.",
    ),
    ("pool_idle_timeout", "How long an idle connection is kept."),
    ("tcp_keepalive", "How often TCP probes connections; `0s`: never."),
    (
        "max_connection_age",
        "New requests use new connections once the old ones have this age; `0s`: no limit.",
    ),
    (
        "http2_prior_knowledge",
        "Uses HTTP/2 from the start, also without TLS. Otherwise it is used if the endpoint offers it.",
    ),
    (
        "tls_danger_accept_invalid_certs",
        "Accepts any certificate. For development only: every open logs a warning.",
    ),
    ("verbose_logging", "Logs each request and answer at debug, without secrets."),
    (
        "close_timeout",
        "How long close may take. What is not sent by then stays in the spool, or is settled as failed.",
    ),
    (
        "preset",
        "Defaults for a well-known endpoint ([presets.md](presets.md)); any key that is given takes precedence.",
    ),
    ("allow_insecure_credentials", "Lets `[auth]` send credentials over plain http to another machine."),
    (
        "message_template",
        "How a message is written in a body, instead of the envelope: text with placeholders ([requests.md](requests.md)).",
    ),
    ("template_format", "The format of body templates, which decides how fields are escaped in them."),
    (
        "body_prefix",
        "The text before the messages of a body; by default `[` in `json_array`, otherwise nothing.",
    ),
    (
        "body_separator",
        "The text between messages; by default `,` in `json_array`, a line break in `nd_json`.",
    ),
    (
        "body_suffix",
        "The text after the messages; by default `]` in `json_array`, a line break in `nd_json`.",
    ),
    ("forward_headers", "Message headers to send as HTTP headers, under the same names."),
    (
        "tombstone_method",
        "The method for a message with an empty payload, which is then a request of its own, without a body.",
    ),
    (
        "routes",
        "`[[plugin_config.routes]]`: other endpoints or requests for topics that match `stream` and `topic` (patterns with `*` and `?`). The first match is used. A route takes any key except `spool`, `dead_letter`, `status` and `tracing`.",
    ),
    ("auth", "How requests authenticate ([auth.md](auth.md))."),
    ("auth.type", "The scheme; each has its own keys."),
    ("auth.username", "`basic`: the user."),
    ("auth.password", "`basic`: the password."),
    ("auth.token", "`bearer`: the token."),
    ("auth.name", "`api_key`: the name of the header or query parameter."),
    ("auth.value", "`api_key`: the key."),
    ("auth.in", "`api_key`: where it is sent."),
    ("auth.token_url", "`oauth2_client_credentials`: the token endpoint."),
    ("auth.client_id", "`oauth2_client_credentials`: the id of the client."),
    ("auth.client_secret", "`oauth2_client_credentials`: the secret of the client."),
    ("auth.scope", "`oauth2_client_credentials`: the scope of the token."),
    ("auth.audience", "`oauth2_client_credentials`: the audience of the token."),
    ("auth.extra", "`oauth2_client_credentials`: further parameters of the token request."),
    ("auth.client_auth", "`oauth2_client_credentials`: how the client authenticates to the token endpoint."),
    ("auth.private_key_file", "`oauth2_client_credentials` with `private_key_jwt`: the private key, PEM."),
    ("auth.refresh_ahead", "`oauth2_client_credentials`: how long before it expires a token is renewed."),
    ("auth.region", "`aws_sigv4`: the region."),
    ("auth.service", "`aws_sigv4`: the service."),
    ("auth.access_key_id", "`aws_sigv4`: else `AWS_ACCESS_KEY_ID`."),
    ("auth.secret_access_key", "`aws_sigv4`: else `AWS_SECRET_ACCESS_KEY`."),
    ("auth.session_token", "`aws_sigv4`: else `AWS_SESSION_TOKEN`."),
    ("auth.secrets", "`webhook_signature`: secrets `whsec_...`; several during a rotation."),
    ("auth.header", "`hmac`: the header for the signature."),
    ("auth.secret", "`hmac`: the key."),
    ("auth.algorithm", "`hmac`: the hash function."),
    ("auth.encoding", "`hmac`: the encoding of the signature."),
    ("auth.prefix", "`hmac`: text before the signature."),
    ("auth.signed", "`hmac`: what is signed, with `{body}` and `{now}`; by default the body."),
    ("tls", "Certificates ([transport.md](transport.md)). Files are read again when they change."),
    ("tls.ca_file", "Authorities to trust, PEM, in addition to those of the system."),
    ("tls.only_ca_file", "Trusts only those of `ca_file`."),
    ("tls.client_cert_file", "The certificate of this client, PEM."),
    ("tls.client_key_file", "The key of that certificate, PEM."),
    ("tls.min_version", "The oldest TLS version to accept."),
    ("proxy", "A proxy for requests ([transport.md](transport.md))."),
    ("proxy.url", "The proxy: http or https, host and port."),
    ("proxy.no_proxy", "Hosts that are reached without the proxy; `*`: all."),
    ("proxy.username", "The user for the proxy."),
    ("proxy.password", "The password of that user."),
    (
        "proxy.from_environment",
        "Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are used if there is no `url`.",
    ),
    ("circuit_breaker", "Holds requests back while the endpoint keeps failing."),
    ("circuit_breaker.failure_threshold", "How many transient failures in a row open it; 0: never."),
    ("circuit_breaker.cool_down", "The longest wait between two probes of an open breaker."),
    ("rate_limit", "Limits what is sent per second; without a key there is no such limit."),
    ("rate_limit.requests_per_second", "Requests per second, above zero."),
    ("rate_limit.messages_per_second", "Messages per second, above zero."),
    ("rate_limit.bytes_per_second", "Bytes of bodies per second; also as a size, such as `\"1 MiB\"`."),
    ("response", "What the bodies of answers say about messages ([requests.md](requests.md))."),
    ("response.expect_pointer", "A JSON pointer to the value that must be `expect_value` in a success."),
    ("response.expect_value", "Any JSON value."),
    ("response.items", "A JSON pointer to an array with an item for each message."),
    ("response.item_status", "A pointer into an item, to its status; `*` stands for the only member."),
    ("response.item_reason", "A pointer into an item, to the reason of a refusal."),
    ("dead_letter", "Where messages that cannot be delivered are kept; without it they fail."),
    ("dead_letter.path", "A folder for NDJSON files, used by this connector alone. Or give `url`."),
    ("dead_letter.max_bytes", "The maximum size of the folder; 0: no limit."),
    ("dead_letter.segment_bytes", "The size at which a new file begins."),
    ("dead_letter.url", "Another endpoint for dead letters, instead of `path`."),
    ("dead_letter.headers", "Headers of requests to that endpoint."),
    ("spool", "Keeps what consume accepted on disk until it is settled ([spool.md](spool.md))."),
    ("spool.path", "A folder used by this connector alone. Required."),
    ("spool.max_bytes", "The maximum size of the folder."),
    ("spool.when_full", "Whether consume waits for space, or messages become dead letters."),
    (
        "spool.sync",
        "`\"batch\"`, the default: on disk before consume returns; or a duration: a power cut can lose the messages of that time.",
    ),
    ("status", "A page, metrics, probes and JSON ([operate.md](operate.md))."),
    (
        "status.address",
        "The address and port to listen on; a loopback address if there is no `token`. Required.",
    ),
    (
        "status.token",
        "The token that requests must carry, 16 characters or more; without one, nothing can be changed.",
    ),
    ("tracing", "Exports attempts as spans ([operate.md](operate.md#traces))."),
    (
        "tracing.otlp_endpoint",
        "A collector for OTLP over HTTP; `/v1/traces` is appended. Without this table, `OTEL_EXPORTER_OTLP_ENDPOINT` is used. Required.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_key_has_a_meaning_and_each_meaning_a_key() {
        let declared = Config::all_declared();
        let without: Vec<&str> =
            declared.iter().filter(|key| key.meaning().is_empty()).map(|key| key.path.as_str()).collect();
        assert_eq!(without, [""; 0]);
        let is_declared = |name: &str| declared.iter().any(|key| key.path == format!("{TABLE}.{name}"));
        let stray: Vec<&str> =
            MEANINGS.iter().map(|(name, _)| *name).filter(|name| !is_declared(name)).collect();
        assert_eq!(stray, [""; 0]);
    }
}
