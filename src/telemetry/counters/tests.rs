use super::*;
use crate::telemetry::MetricsRegistry;

fn batch(topic: &str) -> Batch<'_> {
    Batch { stream: "s", topic, partition_id: 0, schema: iggy_connector_sdk::Schema::Json, messages: &[] }
}

#[test]
fn messages_are_counted_by_topic_and_outcome_and_topics_are_bounded() {
    let counters = Counters::observed();
    let ended =
        Ended { delivered: 3, dead_lettered: 2, reasons: &[(Reason::Rejected, 2)], ..Ended::default() };
    for topic in 0..TOPICS + 5 {
        counters.settled(&batch(&format!("t{topic}")), ended);
    }
    let metrics = counters.metrics().expect("they are observed");
    let text = MetricsRegistry::of(metrics, "7").encode();
    for line in [
        r#"http_sink_messages_total{connector="7",stream="s",topic="t0",outcome="delivered"} 3"#,
        r#"http_sink_messages_total{connector="7",stream="other",topic="other",outcome="dead_lettered"} 10"#,
        r#"http_sink_dead_letters_total{connector="7",stream="s",topic="t0",reason="rejected"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert_eq!(text.matches("outcome=\"delivered\"").count(), TOPICS + 1);
}

#[test]
fn who_is_not_observed_has_no_metrics() {
    let counters = Counters::default();
    counters.settled(&batch("t"), Ended { delivered: 1, ..Ended::default() });
    assert!(counters.metrics().is_none() && counters.blocked("delivery", &batch("t")).is_none());
    assert!(counters.to_string().starts_with("1 messages delivered"), "{counters}");
}
