//! The keys that a user of a preset has to give, with examples, for a starter file.

use super::Preset;

/// Tables with the keys that have to be given.
type Tables = &'static [(&'static str, &'static [(&'static str, &'static str)])];

/// The keys of a starter file with a preset.
#[derive(Debug, Clone, Copy)]
pub struct Starter {
    /// An example of `url`.
    pub url: &'static str,
    /// What `url` must contain, in a sentence.
    pub about: &'static str,
    /// Tables with keys that the endpoint usually requires.
    pub tables: Tables,
}

impl Preset {
    /// Returns the keys of a starter file with this preset.
    pub fn starter(self) -> Starter {
        let (url, about, tables): (_, _, Tables) = match self {
            Self::Elasticsearch => (
                "https://localhost:9200/{topic}/_bulk",
                "The bulk API, with the index in it.",
                &[("headers", &[("Authorization", "ApiKey ${env:ELASTICSEARCH_API_KEY}")])],
            ),
            Self::Opensearch => (
                "https://localhost:9200/{topic}/_bulk",
                "The bulk API, with the index in it.",
                &[(
                    "auth",
                    &[
                        ("type", "basic"),
                        ("username", "${env:OPENSEARCH_USER}"),
                        ("password", "${env:OPENSEARCH_PASSWORD}"),
                    ],
                )],
            ),
            Self::ClickHouse => (
                "http://localhost:8123/?query=INSERT INTO orders FORMAT JSONEachRow",
                "The HTTP interface, with what is inserted where.",
                &[],
            ),
            Self::SplunkHec => (
                "https://localhost:8088/services/collector/event",
                "The HTTP event collector.",
                &[("headers", &[("Authorization", "Splunk ${env:HEC_TOKEN}")])],
            ),
            Self::Loki => ("http://localhost:3100/loki/api/v1/push", "The push API.", &[]),
            Self::Datadog => (
                "https://http-intake.logs.datadoghq.com/api/v2/logs",
                "The logs intake of your site.",
                &[("headers", &[("DD-API-KEY", "${env:DD_API_KEY}")])],
            ),
            Self::InfluxDb => (
                "http://localhost:8086/api/v2/write?org=my-org&bucket=my-bucket&precision=ns",
                "The write API, with organisation and bucket.",
                &[("headers", &[("Authorization", "Token ${env:INFLUX_TOKEN}")])],
            ),
            Self::VictoriaMetrics => ("http://localhost:8428/write", "The API for line protocol.", &[]),
            Self::OtlpLogs => ("http://localhost:4318/v1/logs", "The receiver of OTLP over HTTP.", &[]),
            Self::Slack => ("${env:SLACK_WEBHOOK_URL}", "An incoming webhook, which is a secret.", &[]),
            Self::StandardWebhooks => (
                "https://example.com/webhooks",
                "The receiver of the webhooks.",
                &[("auth", &[("secrets", "${env:WEBHOOK_SECRET}")])],
            ),
            Self::CloudEvents | Self::CloudEventsBinary | Self::CloudEventsBatch => {
                ("http://localhost:8080/", "The receiver of the events.", &[])
            }
        };
        Starter { url, about, tables }
    }
}
