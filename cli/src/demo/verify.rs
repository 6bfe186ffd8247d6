//! Checks whether everything that was sent arrived: each message once, its payload byte for byte.

use std::{collections::HashMap, fmt};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mode::Mode;

/// How many faults are named.
const NAMED: usize = 5;

/// What was sent: the payloads cyclically, in batches that go to the partitions round robin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent<'a> {
    pub(crate) payloads: &'a [&'a [u8]],
    pub(crate) messages: u64,
    pub(crate) batch: u64,
    pub(crate) partitions: u64,
}

impl<'a> Sent<'a> {
    /// Partition and offset of the message with this number.
    pub(crate) fn position(&self, number: u64) -> (u64, u64) {
        let batch = number / self.batch;
        (batch % self.partitions, batch / self.partitions * self.batch + number % self.batch)
    }

    /// The inverse of [`position`](Self::position), if such a message was sent.
    fn number(&self, partition: u64, offset: u64) -> Option<u64> {
        if partition >= self.partitions {
            return None;
        }
        let batch = (offset / self.batch).checked_mul(self.partitions)?.checked_add(partition)?;
        let number = batch.checked_mul(self.batch)?.checked_add(offset % self.batch)?;
        (number < self.messages).then_some(number)
    }

    pub(crate) fn payload(&self, number: u64) -> &'a [u8] {
        // The remainder is below the length of a slice.
        #[expect(clippy::cast_possible_truncation)]
        let index = (number % self.payloads.len() as u64) as usize;
        self.payloads[index]
    }

    fn name(&self, number: u64) -> String {
        let (partition, offset) = self.position(number);
        format!("partition {partition} offset {offset} ({})", order(self.payload(number)))
    }
}

/// Names a payload for people.
fn order(payload: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Order {
        order_id: u64,
    }
    serde_json::from_slice::<Order>(payload).map_or_else(
        |_| format!("{}…", String::from_utf8_lossy(&payload[..payload.len().min(40)])),
        |order| format!("order {}", order.order_id),
    )
}

/// A count, and the first few by name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) count: u64,
    pub(crate) named: Vec<String>,
}

impl Faults {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(name());
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.count, self.named.join(", "))?;
        if self.count > self.named.len() as u64 {
            write!(f, ", …")?;
        }
        Ok(())
    }
}

/// What is wrong with the messages that arrived; nothing, if all counts are zero.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Never arrived.
    pub(crate) missing: Faults,
    /// Arrived again.
    pub(crate) duplicated: Faults,
    /// Arrived with other bytes.
    pub(crate) changed: Faults,
    /// Arrived, but was not sent, or cannot be read.
    pub(crate) unknown: Faults,
}

impl Verdict {
    pub(crate) fn exactly_once(&self) -> bool {
        self.missing.count + self.duplicated.count + self.unknown.count == 0
    }

    /// Whether everything that arrived was intact; a body that nobody sent counts as changed.
    pub(crate) fn byte_for_byte(&self) -> bool {
        self.changed.count + self.unknown.count == 0
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct Metadata {
    iggy_partition_id: u64,
    iggy_offset: u64,
}

/// Checks bodies as they arrive; keeps one byte per message, not the bodies.
#[derive(Debug)]
pub(crate) struct Verifier<'a> {
    sent: Sent<'a>,
    mode: Mode,
    /// Arrivals of each message; none in mode raw.
    arrivals: Vec<u8>,
    /// In raw mode only the bytes identify a message.
    by_payload: HashMap<&'a [u8], usize>,
    /// Arrivals of each payload in mode raw, where one can stand for many messages.
    raw_arrivals: Vec<u64>,
    verdict: Verdict,
}

impl<'a> Verifier<'a> {
    pub(crate) fn new(sent: Sent<'a>, mode: Mode) -> Self {
        let mut by_payload = HashMap::new();
        let (mut arrivals, mut raw_arrivals) = (Vec::new(), Vec::new());
        if mode == Mode::Raw {
            for (index, payload) in sent.payloads.iter().enumerate() {
                by_payload.entry(*payload).or_insert(index);
            }
            raw_arrivals = vec![0; sent.payloads.len()];
        } else {
            arrivals = vec![0; usize::try_from(sent.messages).unwrap_or(usize::MAX)];
        }
        Self { sent, mode, arrivals, by_payload, raw_arrivals, verdict: Verdict::default() }
    }

    /// Takes a body as it arrived.
    pub(crate) fn body(&mut self, body: &[u8]) {
        let read = match self.mode {
            Mode::Raw => return self.raw(body),
            Mode::Individual => serde_json::from_slice(body).map(|envelope| vec![envelope]),
            Mode::JsonArray => serde_json::from_slice(body),
            Mode::NdJson => {
                for line in body.split_inclusive(|byte| *byte == b'\n') {
                    match line.strip_suffix(b"\n").map(serde_json::from_slice) {
                        Some(Ok(envelope)) => self.envelope(&envelope),
                        _ => self.unreadable(line),
                    }
                }
                return;
            }
        };
        match read {
            Ok(envelopes) => envelopes.iter().for_each(|envelope| self.envelope(envelope)),
            Err(_) => self.unreadable(body),
        }
    }

    fn envelope(&mut self, envelope: &Envelope<'_>) {
        let Metadata { iggy_partition_id: partition, iggy_offset: offset } = envelope.metadata;
        let number = self.sent.number(partition, offset);
        let Some((number, arrivals)) =
            number.and_then(|number| Some((number, self.arrivals.get_mut(usize::try_from(number).ok()?)?)))
        else {
            return self.verdict.unknown.add(|| format!("partition {partition} offset {offset}"));
        };
        *arrivals = arrivals.saturating_add(1);
        if *arrivals > 1 {
            self.verdict.duplicated.add(|| self.sent.name(number));
        }
        if envelope.payload.get().as_bytes() != self.sent.payload(number) {
            self.verdict.changed.add(|| self.sent.name(number));
        }
    }

    fn raw(&mut self, body: &[u8]) {
        match self.by_payload.get(body) {
            Some(index) => self.raw_arrivals[*index] += 1,
            None => self.verdict.unknown.add(|| order(body)),
        }
    }

    fn unreadable(&mut self, body: &[u8]) {
        self.verdict.unknown.add(|| order(body));
    }

    /// Counts what never came.
    pub(crate) fn finish(mut self) -> Verdict {
        for (number, _) in (0..).zip(&self.arrivals).filter(|(_, arrivals)| **arrivals == 0) {
            self.verdict.missing.add(|| self.sent.name(number));
        }
        if self.mode == Mode::Raw {
            self.count_raw();
        }
        self.verdict
    }

    fn count_raw(&mut self) {
        let circle = self.sent.payloads.len() as u64;
        let mut expected = vec![0; self.sent.payloads.len()];
        for (payload, index) in self.sent.payloads.iter().zip(0..) {
            let times = self.sent.messages / circle + u64::from(index < self.sent.messages % circle);
            expected[self.by_payload[payload]] += times;
        }
        for ((payload, expected), arrived) in self.sent.payloads.iter().zip(expected).zip(&self.raw_arrivals)
        {
            for _ in *arrived..expected {
                self.verdict.missing.add(|| order(payload));
            }
            for _ in expected..*arrived {
                self.verdict.duplicated.add(|| order(payload));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOADS: [&[u8]; 3] = [br#"{"order_id":7, "n":1.50}"#, br#"{"order_id":8}"#, br#"{"order_id":9}"#];
    const SENT: Sent<'static> = Sent { payloads: &PAYLOADS, messages: 7, batch: 2, partitions: 2 };

    fn envelope(number: u64) -> String {
        let (partition, offset) = SENT.position(number);
        let payload = std::str::from_utf8(SENT.payload(number)).unwrap();
        format!(
            r#"{{"metadata":{{"iggy_offset":{offset},"iggy_partition_id":{partition}}},"payload":{payload}}}"#
        )
    }

    fn verdict(mode: Mode, bodies: &[String]) -> Verdict {
        let mut verifier = Verifier::new(SENT, mode);
        for body in bodies {
            verifier.body(body.as_bytes());
        }
        verifier.finish()
    }

    fn raw(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
        numbers.into_iter().map(|n| String::from_utf8(SENT.payload(n).to_vec()).unwrap()).collect()
    }

    #[test]
    fn places_and_numbers_belong_together() {
        assert_eq!(
            [0, 1, 2, 3, 4, 6].map(|n| SENT.position(n)),
            [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (1, 2)]
        );
        for number in 0..7 {
            let (partition, offset) = SENT.position(number);
            assert_eq!(SENT.number(partition, offset), Some(number));
        }
        assert_eq!(SENT.number(1, 3), None);
        assert_eq!(SENT.number(2, 0), None);
        assert_eq!(SENT.number(0, u64::MAX), None);
    }

    #[test]
    fn all_there_is_all_well() {
        let envelopes: Vec<String> = (0..7).map(envelope).collect();
        assert_eq!(verdict(Mode::Individual, &envelopes), Verdict::default());
        assert_eq!(verdict(Mode::JsonArray, &[format!("[{}]", envelopes.join(","))]), Verdict::default());
        assert_eq!(verdict(Mode::NdJson, &[format!("{}\n", envelopes.join("\n"))]), Verdict::default());
        assert_eq!(verdict(Mode::Raw, &raw(0..7)), Verdict::default());
    }

    #[test]
    fn missing_duplicate_and_changed_are_found_and_named() {
        let mut envelopes: Vec<String> = (0..7).map(envelope).collect();
        envelopes[0] = envelopes[0].replace("1.50", "1.5");
        envelopes[2] = envelopes[1].clone();
        let verdict = verdict(Mode::Individual, &envelopes);
        assert_eq!(verdict.changed.to_string(), "1: partition 0 offset 0 (order 7)");
        assert_eq!(verdict.duplicated.to_string(), "1: partition 0 offset 1 (order 8)");
        assert_eq!(verdict.missing.to_string(), "1: partition 1 offset 0 (order 9)");
        assert!(!verdict.exactly_once() && !verdict.byte_for_byte());
    }

    #[test]
    fn a_changed_message_arrived_all_the_same() {
        let mut envelopes: Vec<String> = (0..7).map(envelope).collect();
        envelopes[0] = envelopes[0].replace("7, ", "7,");
        let verdict = verdict(Mode::Individual, &envelopes);
        assert!(verdict.exactly_once() && !verdict.byte_for_byte());
    }

    #[test]
    fn raw_payloads_are_counted() {
        let verdict = verdict(Mode::Raw, &raw([0, 0, 0, 0, 1, 1]));
        assert_eq!(verdict.duplicated.to_string(), "1: order 7");
        assert_eq!(verdict.missing.to_string(), "2: order 9, order 9");
    }

    #[test]
    fn what_was_not_sent_or_cannot_be_read_is_unknown() {
        for (mode, body) in [
            (Mode::Raw, "other"),
            (Mode::JsonArray, "[{"),
            (Mode::NdJson, "{}\n"),
            (Mode::Individual, r#"{"metadata":{"iggy_offset":9,"iggy_partition_id":9},"payload":1}"#),
        ] {
            let verdict = verdict(mode, &[body.to_owned()]);
            assert_eq!((verdict.unknown.count, verdict.missing.count), (1, 7), "{mode:?}");
        }
        // A line without its end is cut off.
        assert_eq!(verdict(Mode::NdJson, &[envelope(0)]).unknown.count, 1);
    }

    #[test]
    fn only_the_first_few_are_named() {
        let verdict = verdict(Mode::Individual, &[]);
        assert_eq!((verdict.missing.count, verdict.missing.named.len()), (7, NAMED));
        assert!(verdict.missing.to_string().ends_with(", …"));
    }
}
