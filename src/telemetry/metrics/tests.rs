//! What documents, alerts and dashboard say of metrics is so.

use std::collections::BTreeSet;

use super::*;

/// Metrics with a sample of each: those without one are not exposed.
fn sampled() -> Metrics {
    let metrics = Metrics::default();
    let [stream, topic, endpoint, value] = ["s", "t", "e", "v"].map(str::to_owned);
    let of_message = MessageLabels { stream: stream.clone(), topic: topic.clone(), outcome: "delivered" };
    metrics.messages.get_or_create_owned(&of_message);
    let of_letter = DeadLetterLabels { stream: stream.clone(), topic: topic.clone(), reason: value.clone() };
    metrics.dead_letters.get_or_create_owned(&of_letter);
    metrics.requests.get_or_create_owned(&StatusLabels { endpoint: endpoint.clone(), status: value.clone() });
    metrics.retries.get_or_create_owned(&CauseLabels { endpoint: endpoint.clone(), cause: value.clone() });
    metrics.breaker.get_or_create_owned(&BreakerLabels { endpoint: endpoint.clone(), state: "open" });
    metrics.consume_blocked.get_or_create_owned(&BlockedLabels { cause: "spool" });
    metrics.shed.get_or_create_owned(&TopicLabels { stream: stream.clone(), topic: topic.clone() });
    metrics.reloads.get_or_create_owned(&ReloadLabels {
        endpoint: endpoint.clone(),
        what: "token",
        result: "success",
    });
    let of_lane = LaneLabels { stream, topic, partition: value };
    metrics.spool_messages.get_or_create_owned(&of_lane);
    metrics.spool_oldest.get_or_create_owned(&of_lane);
    let of_endpoint = EndpointLabels { endpoint };
    metrics.request_duration.get_or_create_owned(&of_endpoint);
    for counter in [&metrics.request_bytes, &metrics.pauses, &metrics.splits, &metrics.isolated] {
        counter.get_or_create_owned(&of_endpoint);
    }
    for gauge in [&metrics.in_flight, &metrics.waiting] {
        gauge.get_or_create_owned(&of_endpoint);
    }
    for gauge in [&metrics.paused, &metrics.failing, &metrics.last_success, &metrics.certificate] {
        gauge.get_or_create_owned(&of_endpoint);
    }
    metrics
}

/// The names of all metrics, as samples have them.
fn names() -> BTreeSet<String> {
    let text = MetricsRegistry::of(&sampled(), "1").encode();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect()
}

/// The names that a text speaks of.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("http_sink_"));
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

#[test]
fn documents_alerts_and_dashboard_speak_of_the_metrics_that_there_are() {
    let names = names();
    let (documented, shown) = (
        spoken_of(include_str!("../../../docs/operate.md")),
        spoken_of(include_str!("../../../docs/grafana-dashboard.json")),
    );
    assert!(names.len() > 20, "{names:?}");
    assert_eq!(documented, names);
    assert_eq!(shown, names);
    let alerts = include_str!("../../../docs/alerts.yml");
    let watched = spoken_of(alerts);
    assert_eq!(watched.difference(&names).collect::<Vec<_>>(), Vec::<&String>::new());
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(include_str!("../../../docs/operate.md").contains(&format!("`{alert}`")), "{alert}");
    }
    serde_json::from_str::<serde_json::Value>(include_str!("../../../docs/grafana-dashboard.json"))
        .expect("JSON");
}
