//! Merges the metrics of several connectors into one text: each has its own registry, and `OpenMetrics` requires the samples
//! of a metric together.

use std::fmt::Write;

/// Its `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Merges the texts of registries, and adds the end.
pub(super) fn merged(texts: &[String]) -> String {
    let mut metrics: Vec<Metric<'_>> = Vec::new();
    for text in texts {
        let mut current = None;
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# ") {
                let name = described.split(' ').nth(1).unwrap_or_default();
                let known = metrics.iter().position(|metric| metric.name == name);
                let at = known.unwrap_or_else(|| {
                    metrics.push(Metric { name, ..Metric::default() });
                    metrics.len() - 1
                });
                if !metrics[at].description.contains(&line) {
                    metrics[at].description.push(line);
                }
                current = Some(at);
            } else if let Some(at) = current {
                metrics[at].samples.push(line);
            }
        }
    }
    let mut merged = String::new();
    for metric in metrics.iter().filter(|metric| !metric.samples.is_empty()) {
        for line in metric.description.iter().chain(&metric.samples) {
            // Writing to a string does not fail.
            let _ = writeln!(merged, "{line}");
        }
    }
    merged.push_str("# EOF\n");
    merged
}

/// A metric in the texts.
#[derive(Default)]
struct Metric<'t> {
    name: &'t str,
    description: Vec<&'t str>,
    samples: Vec<&'t str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_stand_together_below_one_description() {
        let of = |connector: u8| {
            format!(
                "# HELP a What a is.\n# TYPE a counter\na_total{{connector=\"{connector}\"}} 1\n\
                 # HELP b What b is.\n# TYPE b gauge\n# HELP c What c is.\n# TYPE c gauge\nc{{connector=\"{connector}\"}} 2\n"
            )
        };
        assert_eq!(
            merged(&[of(1), of(2)]),
            "# HELP a What a is.\n# TYPE a counter\na_total{connector=\"1\"} 1\na_total{connector=\"2\"} 1\n\
             # HELP c What c is.\n# TYPE c gauge\nc{connector=\"1\"} 2\nc{connector=\"2\"} 2\n# EOF\n"
        );
    }
}
