//! What goes on whatever becomes of the rest, and how often it is tried.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;

use super::{
    super::{
        history::Call,
        model::{Batch, Message, Nature},
    },
    Checks,
};

impl Checks<'_> {
    pub(super) fn requests_are_bounded(&mut self) {
        let mut of_key: HashMap<(usize, &str), Vec<Duration>> = HashMap::new();
        for arrival in &self.history.arrivals {
            of_key.entry((arrival.life, &arrival.key)).or_default().push(arrival.at);
        }
        let mut wrong = Vec::new();
        for ((_, key), times) in of_key {
            // Full jitter may draw short waits in a row, and HTTP/2 servers make requests go again at once.
            let mut pairs = times.iter().zip(times.iter().skip(39));
            if let Some((first, _)) =
                pairs.find(|(first, last)| last.saturating_sub(**first) < Duration::from_secs(2))
            {
                wrong.push(format!("40 requests with the key {key} within 2 s of {first:?}"));
            }
        }
        self.wrong.extend(wrong);
    }

    /// How long a lane that the endpoint takes may wait for others; `None` where something else may hold it up.
    fn fair_wait(&self) -> Option<Duration> {
        let scenario = self.scenario;
        let lonely = |message: &Message| message.nature == Nature::Unanswered;
        if !scenario.weather.is_empty()
            || scenario.accidents > 0
            || scenario.faults()
            || scenario.body_limit.is_some()
            || scenario.has("rate_limit")
            || !scenario.letters_take.is_zero()
            || scenario.has("max_payload_size_bytes")
            || scenario.config.pointer("/spool/max_bytes").is_some()
            || scenario.max_retry_duration() < Duration::from_mins(2)
            || scenario.messages().any(lonely)
        {
            return None;
        }
        let cool_down = scenario.config.pointer("/circuit_breaker/cool_down").and_then(Value::as_str);
        let cool_down = humantime::parse_duration(cool_down.unwrap_or("30s")).unwrap();
        let latency = Duration::from_millis(scenario.latency.1);
        let lanes: u32 = match scenario.ordered_by_key() {
            Some(false) => 16,
            _ => u32::try_from(scenario.messages().count()).unwrap(),
        };
        let linger = scenario.duration("linger", Duration::ZERO);
        Some(cool_down + Duration::from_secs(3) + latency * lanes * 2 + linger * 2)
    }

    pub(super) fn healthy_lanes_go_on(&mut self) {
        let Some(bound) = self.fair_wait() else { return };
        let last = self.history.life;
        for (topic, batches) in self.scenario.batches.iter().enumerate() {
            let healthy = |message: &Message| message.nature == Nature::Good;
            // With a spool, a batch that mixes partitions waits for what is before it in all of them.
            let mixes = self.scenario.has("spool") && batches.iter().any(Batch::mixes);
            let is_routed = self.scenario.has_route(u8::try_from(topic).unwrap());
            if mixes || !is_routed || !batches.iter().flat_map(|batch| &batch.messages).all(healthy) {
                continue;
            }
            let calls: Vec<&Call> =
                self.history.calls.iter().filter(|call| call.life == last && call.topic == topic).collect();
            // What was stored in a life before goes first.
            let first = calls.first().map_or(0, |call| call.batch);
            let earlier = batches[..first].iter().flat_map(|batch| &batch.messages);
            let ended = earlier.filter_map(|message| Some(self.ends[&message.id].acknowledged.first()?.1));
            let mut before = ended.max().unwrap_or_default();
            for call in calls {
                for message in &batches[call.batch].messages {
                    let ends = &self.ends[&message.id];
                    // Without a spool a call after a crash sends all of it again.
                    let in_this_call = ends.acknowledged.iter().find(|(_, at)| *at >= call.begun);
                    let Some((_, at)) = in_this_call.or(ends.acknowledged.first()) else {
                        self.wrong.push(format!(
                            "{} was not delivered, and nothing but others stood against it: {ends:?}",
                            message.id
                        ));
                        return;
                    };
                    let waited = at.saturating_sub(before.max(call.begun));
                    if waited > bound {
                        self.wrong.push(format!(
                            "{} waited {waited:?} beside others, from {:?} on, and may wait {bound:?}",
                            message.id,
                            before.max(call.begun)
                        ));
                        return;
                    }
                    before = before.max(*at);
                }
            }
        }
    }
}
