//! The table `[tracing]`: where spans of attempts go.

use iggy_connector_sdk::shown;
use reqwest::Url;

use super::{TracingConfig, reader::Reader};

/// Names the endpoint for spans if the configuration does not, as for every OTLP exporter.
const VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The path for spans in OTLP over HTTP, below the endpoint.
const PATH: &str = "v1/traces";

pub(super) fn read(keys: &mut Reader<'_>) -> Option<TracingConfig> {
    let mut table = keys.table("tracing")?;
    let url =
        table.required_string("otlp_endpoint", "the URL of a collector, such as \"http://localhost:4318\"");
    let url = url.and_then(|url| parse(&url).map_err(|why| table.problem("otlp_endpoint", why)).ok());
    table.finish(&[]);
    Some(TracingConfig { url: url? })
}

impl TracingConfig {
    /// Reads the endpoint from the environment; `None` if it is not set.
    ///
    /// # Errors
    /// It is not a valid endpoint.
    pub(crate) fn of_environment() -> Result<Option<Self>, String> {
        match std::env::var(VARIABLE).ok().filter(|value| !value.trim().is_empty()) {
            None => Ok(None),
            Some(text) => {
                parse(&text).map(|url| Some(Self { url })).map_err(|why| format!("{VARIABLE}: {why}"))
            }
        }
    }
}

/// Returns the URL that spans are sent to. Only the start of an invalid text is shown: it may contain a secret.
fn parse(text: &str) -> Result<Url, String> {
    let wrong = |what: &str| {
        format!(
            "{what}: write the URL of a collector, such as \"http://localhost:4318\"; /{PATH} is added to it"
        )
    };
    let mut url = Url::parse(text.trim()).map_err(|why| wrong(&format!("is no URL ({why})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&format!("\"{}\" is neither http nor https", shown(url.scheme(), 20))));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("holds a user or a password, which are not sent"));
    }
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        let path = format!("{path}/{PATH}");
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_spans_is_added_once() {
        for (endpoint, url) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://collector/otlp/", "https://collector/otlp/v1/traces"),
            ("https://collector/v1/traces", "https://collector/v1/traces"),
        ] {
            assert_eq!(parse(endpoint).expect(endpoint).as_str(), url);
        }
        for (wrong, why) in [
            ("localhost:4318", "neither http nor https"),
            ("", "is no URL"),
            ("grpc://collector", "\"grpc\" is neither"),
            ("http://user:word@collector", "holds a user"),
        ] {
            let problem = parse(wrong).expect_err(wrong);
            assert!(problem.contains(why) && !problem.contains("word@"), "{problem}");
        }
    }
}
