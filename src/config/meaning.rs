//! What each key means, in a sentence or two, for the reference (`docs/configuration.md`) and for editors.

use super::{Declared, problem::TABLE};

impl Declared {
    /// What the key means; nothing where that is not written down.
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
        "Where requests go: http or https. User and password in it are sent as Basic. Path and query take placeholders. Required, unless there are `routes`.",
    ),
    ("method", "The method of requests."),
    (
        "headers",
        "Headers of every request; their values take placeholders. One of the same name replaces what the sink would send.",
    ),
    ("timeout", "The time of one attempt, to the end of its answer."),
    ("connect_timeout", "The time of connecting alone; never more than `timeout`."),
    (
        "response_header_timeout",
        "From the request sent to the head of its answer; `0s`: no limit but `timeout`.",
    ),
    (
        "batch_mode",
        "How messages become bodies: an envelope a request, an envelope a line (also `ndjson`), an array of envelopes, or one payload a request as it is.",
    ),
    (
        "include_metadata",
        "Wraps each payload as `{\"metadata\":{...},\"payload\":...}`. Off: the payload alone. Without effect in mode `raw`.",
    ),
    ("include_checksum", "Adds the checksum to the metadata."),
    ("include_origin_timestamp", "Adds the time of origin to the metadata."),
    (
        "max_payload_size_bytes",
        "The most bytes of one body, before compression; 0: no limit. A message over it alone cannot be delivered.",
    ),
    ("max_batch_messages", "The most messages in one body; 0: no limit."),
    ("success_status_codes", "What counts as delivered."),
    (
        "max_retries",
        "Retries of one request beyond its first attempt. With `[spool]` without limit, unless given.",
    ),
    ("retry_delay", "The first wait between attempts, and until the first probe of the circuit breaker."),
    ("retry_backoff_multiplier", "The factor from each wait to the next."),
    ("max_retry_delay", "The longest wait between attempts."),
    (
        "retry_jitter",
        "How waits are spread: from zero to the whole wait, from half of `retry_delay` to it, or not at all.",
    ),
    (
        "max_retry_duration",
        "How long after consume took a message it may be sent again; then it settles as it stands. With `[spool]` 12h, unless given.",
    ),
    (
        "max_retry_after",
        "The most that an endpoint may ask for with `Retry-After`; such a pause holds all requests to it.",
    ),
    (
        "retry_status_codes",
        "Answers that are worth another attempt; a list replaces the usual one: 408, 425, 429 and every 5xx but 501 and 505.",
    ),
    (
        "hold_status_codes",
        "Answers that are waited out without counting against `max_retries`, such as 401 during a deployment.",
    ),
    (
        "isolate_status_codes",
        "Answers that say that some message of a body is bad: the body is halved until the bad ones stand alone.",
    ),
    ("linger", "With `[spool]`: how long a body of `nd_json` or `json_array` waits for more messages."),
    (
        "concurrency",
        "Requests in flight: a whole number, or `\"adaptive\"`, up to `max_concurrency`. 1, unless given.",
    ),
    ("max_concurrency", "The most requests in flight where `concurrency` is adaptive."),
    ("ordering", "What stays in order: each partition, each `ordering_key`, or nothing."),
    ("ordering_key", "The key, as text with placeholders such as `{header:name}`."),
    ("compression", "Of bodies."),
    ("compression_level", "gzip 1 to 9 (6), zstd 1 to 22 (3)."),
    (
        "idempotency_header",
        "A header with the same key whenever the same messages are sent again; `\"\"`: none.",
    ),
    (
        "retry_count_header",
        "A header that says from the first retry on how often the request was sent before; `\"\"`: none.",
    ),
    ("follow_redirects", "Follows 307 and 308 within the origin, or from http to https of the same host."),
    ("max_response_bytes", "How much of an answer is read; 16 MiB with `response.items`, at most 64 MiB."),
    ("health_check_enabled", "Asks the endpoint at open."),
    ("health_check_method", "The method of that request."),
    ("health_check_required", "Whether the connector does not open without a success; else it warns."),
    (
        "max_connections",
        "Idle connections kept for each host; as many as there can be requests in flight, where that is more.",
    ),
    ("pool_idle_timeout", "How long an idle connection is kept."),
    ("tcp_keepalive", "How often TCP probes connections; `0s`: never."),
    (
        "max_connection_age",
        "New requests go over new connections once the old ones are that old; `0s`: no limit.",
    ),
    (
        "http2_prior_knowledge",
        "Speaks HTTP/2 without being asked, also without TLS. Else it is used where the endpoint offers it.",
    ),
    ("tls_danger_accept_invalid_certs", "Takes any certificate. For development alone: every open warns."),
    ("verbose_logging", "Logs each request and answer at debug, without secrets."),
    (
        "close_timeout",
        "How long close may take. What is not sent by then stays in the spool, or is settled as failed.",
    ),
    ("preset", "Defaults for a well-known endpoint ([presets.md](presets.md)); any key that is given wins."),
    ("allow_insecure_credentials", "Lets `[auth]` send credentials over plain http to another machine."),
    (
        "message_template",
        "What a message is in a body, instead of the envelope: text with placeholders ([requests.md](requests.md)).",
    ),
    ("template_format", "What templates of bodies are, which says how fields are escaped in them."),
    (
        "body_prefix",
        "What stands before the messages of a body; `[` in `json_array`, else nothing, unless given.",
    ),
    (
        "body_separator",
        "What stands between messages; `,` in `json_array`, a line break in `nd_json`, unless given.",
    ),
    ("body_suffix", "What stands behind them; `]` in `json_array`, a line break in `nd_json`, unless given."),
    ("forward_headers", "Headers of messages that are sent as headers of requests, under the same names."),
    (
        "tombstone_method",
        "The method for a message with an empty payload, which is a request of its own without a body then.",
    ),
    (
        "routes",
        "`[[plugin_config.routes]]`: other endpoints or requests for topics that match `stream` and `topic` (patterns with `*` and `?`). The first that matches is taken. A route takes any key but `spool`, `dead_letter`, `status` and `tracing`.",
    ),
    ("auth", "How requests prove who sends them ([auth.md](auth.md))."),
    ("auth.type", "The scheme; each has keys of its own."),
    ("auth.username", "`basic`: the user."),
    ("auth.password", "`basic`: the password."),
    ("auth.token", "`bearer`: the token."),
    ("auth.name", "`api_key`: the name of the header or of the parameter."),
    ("auth.value", "`api_key`: the key."),
    ("auth.in", "`api_key`: where it goes."),
    ("auth.token_url", "`oauth2_client_credentials`: the token endpoint."),
    ("auth.client_id", "`oauth2_client_credentials`: who asks for a token."),
    ("auth.client_secret", "`oauth2_client_credentials`: the secret of the client."),
    ("auth.scope", "`oauth2_client_credentials`: what the token is to be good for."),
    ("auth.audience", "`oauth2_client_credentials`: whom the token is for."),
    ("auth.extra", "`oauth2_client_credentials`: more parameters of the token request."),
    ("auth.client_auth", "`oauth2_client_credentials`: how the client proves itself to the token endpoint."),
    ("auth.private_key_file", "`oauth2_client_credentials` with `private_key_jwt`: the private key, PEM."),
    ("auth.refresh_ahead", "`oauth2_client_credentials`: how long before its end a token is renewed."),
    ("auth.region", "`aws_sigv4`: the region."),
    ("auth.service", "`aws_sigv4`: the service."),
    ("auth.access_key_id", "`aws_sigv4`: else `AWS_ACCESS_KEY_ID`."),
    ("auth.secret_access_key", "`aws_sigv4`: else `AWS_SECRET_ACCESS_KEY`."),
    ("auth.session_token", "`aws_sigv4`: else `AWS_SESSION_TOKEN`."),
    ("auth.secrets", "`webhook_signature`: secrets `whsec_...`; several while they rotate."),
    ("auth.header", "`hmac`: the header of the signature."),
    ("auth.secret", "`hmac`: the key."),
    ("auth.algorithm", "`hmac`: the hash."),
    ("auth.encoding", "`hmac`: how the signature is written."),
    ("auth.prefix", "`hmac`: text before the signature."),
    ("auth.signed", "`hmac`: what is signed, with `{body}` and `{now}`; the body, unless given."),
    ("tls", "Certificates ([transport.md](transport.md)). Files are read again when they change."),
    ("tls.ca_file", "Authorities to trust, PEM, beside those of the system."),
    ("tls.only_ca_file", "Trusts those of `ca_file` alone."),
    ("tls.client_cert_file", "The certificate of this client, PEM."),
    ("tls.client_key_file", "Its key, PEM."),
    ("tls.min_version", "The oldest version of TLS that is spoken."),
    ("proxy", "A proxy for requests ([transport.md](transport.md))."),
    ("proxy.url", "The proxy."),
    ("proxy.no_proxy", "Hosts that are reached without it; `*`: all."),
    ("proxy.username", "Who asks the proxy."),
    ("proxy.password", "The password for that."),
    (
        "proxy.from_environment",
        "Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` count where there is no `url`.",
    ),
    ("circuit_breaker", "Holds requests back while the endpoint keeps failing."),
    ("circuit_breaker.failure_threshold", "How many transient failures in a row open it; 0: never."),
    ("circuit_breaker.cool_down", "The longest wait between two probes of an open one."),
    ("rate_limit", "Limits of what is sent; without a key there is no such limit."),
    ("rate_limit.requests_per_second", "Requests a second, above zero."),
    ("rate_limit.messages_per_second", "Messages a second, above zero."),
    ("rate_limit.bytes_per_second", "Bytes of bodies a second; also as a size, such as `\"1 MiB\"`."),
    ("response", "What answers say beyond their status ([requests.md](requests.md))."),
    ("response.expect_pointer", "A JSON pointer to what must be `expect_value` in a success."),
    ("response.expect_value", "Any JSON value."),
    ("response.items", "A JSON pointer to an array with an item for each message."),
    ("response.item_status", "A pointer into an item, to its status; `*` is its only member."),
    ("response.item_reason", "A pointer into an item, to the words of a refusal."),
    ("dead_letter", "Where messages go that cannot be delivered; without it they fail."),
    ("dead_letter.path", "A folder of this connector's own, for NDJSON files. Or `url`."),
    ("dead_letter.max_bytes", "The most bytes in it; 0: no limit."),
    ("dead_letter.segment_bytes", "The size at which a new file begins."),
    ("dead_letter.url", "Another endpoint for dead letters, instead of `path`."),
    ("dead_letter.headers", "Headers of requests to it."),
    ("spool", "Keeps what consume took on disk until it is settled ([spool.md](spool.md))."),
    ("spool.path", "A folder of this connector's own. Required."),
    ("spool.max_bytes", "The most bytes in it."),
    ("spool.when_full", "Whether consume waits for room, or messages become dead letters."),
    (
        "spool.sync",
        "`\"batch\"`: on disk before consume returns; or a duration, within which a power cut can lose what came. `\"batch\"`, unless given.",
    ),
    ("status", "A page, metrics, probes and JSON ([operate.md](operate.md))."),
    (
        "status.address",
        "The address and port to listen on; of this machine alone where there is no `token`. Required.",
    ),
    ("status.token", "What requests must bring, 16 characters or more; without it nothing can be changed."),
    ("tracing", "Attempts as spans ([operate.md](operate.md#traces))."),
    (
        "tracing.otlp_endpoint",
        "A collector that takes OTLP over HTTP; `/v1/traces` is added. Without the table `OTEL_EXPORTER_OTLP_ENDPOINT` counts. Required.",
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
