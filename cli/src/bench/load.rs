//! Messages for measurements: distinct orders of one size, the same in every run.

use std::{
    io::Write,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use iggy_connector_sdk::{BorrowedMessage, Schema, host::encode_batch};

/// Text that occurs exactly once in each payload.
pub(crate) const MARK: &[u8] = b"\"order_id\":";
/// The minimum size of a payload.
pub(crate) const LEAST_SIZE: usize = 64;

const NAMES: [&str; 6] =
    ["Ana García", "Zoë Bakker", "Dan Brown", "Þóra Jónsdóttir", "陳 美玲", "Mary O'Neil"];
const CURRENCIES: [&str; 4] = ["EUR", "USD", "JPY", "GBP"];
const TITLES: [&str; 5] =
    ["Tent for 3", "Mug \\\"Nº 5\\\"", "Häkelnadel-Set", "Ski wax −10 °C", "Desk lamp, 40 W"];
const WORDS: &[u8] =
    b"please leave the parcel with the neighbours if nobody opens and ring twice before you go ";
/// An arbitrary time, the same in each run: 1 March 2026.
const MOMENT: u64 = 1_772_323_200_000_000;

/// A thread that makes each batch on request and none ahead: it does not run while something is measured.
#[derive(Debug)]
pub(crate) struct Load {
    ask: SyncSender<Vec<u8>>,
    batches: Receiver<Vec<u8>>,
    thread: Option<PathBuf>,
}

impl Load {
    /// Starts batches of messages from number 0 on, `batch` messages each and `messages` in all.
    pub(crate) fn start(schema: Schema, messages: u64, batch: u64, size: usize) -> Self {
        let (ask, asked) = sync_channel::<Vec<u8>>(0);
        let (give, batches) = sync_channel(0);
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || {
            let _ = sender.send(std::fs::read_link("/proc/thread-self").ok());
            let mut payloads = Vec::new();
            let mut first = 0;
            while let Ok(used) = asked.recv() {
                drop(used);
                let end = messages.min(first + batch);
                payloads.clear();
                (first..end).for_each(|number| payload(number, size, &mut payloads));
                if give.send(encode(schema, first, &payloads, size)).is_err() {
                    return;
                }
                first = end;
            }
        });
        let thread = receiver.recv().ok().flatten().map(|link| PathBuf::from("/proc").join(link));
        Self { ask, batches, thread }
    }

    /// The next batch in its wire form, in exchange for the last.
    pub(crate) fn next(&self, last: Vec<u8>) -> Option<Vec<u8>> {
        self.ask.send(last).ok()?;
        self.batches.recv().ok()
    }

    /// The folder of the thread in `/proc`, if there is one.
    pub(crate) fn thread(&self) -> Option<PathBuf> {
        self.thread.clone()
    }
}

fn encode(schema: Schema, first: u64, payloads: &[u8], size: usize) -> Vec<u8> {
    let messages: Vec<BorrowedMessage<'_>> = (first..)
        .zip(payloads.chunks(size))
        .map(|(offset, payload)| BorrowedMessage {
            id: u128::from(random(offset)) << 64 | u128::from(offset),
            offset,
            checksum: random(offset),
            timestamp: MOMENT + offset,
            origin_timestamp: MOMENT + offset,
            headers: &[],
            payload,
        })
        .collect();
    encode_batch(schema, &messages)
}

/// Appends the order of this number: a JSON object of exactly `size` bytes, of which there are [`LEAST_SIZE`].
pub(crate) fn payload(number: u64, size: usize, out: &mut Vec<u8>) {
    let end = out.len() + size;
    let mut state = number;
    let mut pick = |below: u64| {
        state = random(state);
        state % below
    };
    // Each part is complete or missing, and there is always room for the note, which fills the rest.
    let mut part = Vec::with_capacity(160);
    let add = |out: &mut Vec<u8>, part: &mut Vec<u8>| {
        let fits = out.len() + part.len() + br#","note":""}"#.len() <= end;
        if fits {
            out.append(part);
        }
        part.clear();
        fits
    };
    let form = |part: &mut Vec<u8>, text: std::fmt::Arguments<'_>| {
        // Writing to memory does not fail.
        let _ = part.write_fmt(text);
    };
    form(&mut part, format_args!(r#"{{"order_id":{number}"#));
    add(out, &mut part);
    let (id, name) = (pick(1 << 53), NAMES[below(&mut pick, NAMES.len())]);
    form(&mut part, format_args!(r#","customer":{{"id":{id},"name":"{name}","vip":{}}}"#, id % 7 == 0));
    add(out, &mut part);
    let (currency, total) = (CURRENCIES[below(&mut pick, CURRENCIES.len())], pick(1_000_000));
    form(
        &mut part,
        format_args!(
            r#","currency":"{currency}","total":{}.{:02},"placed_at":"2026-03-{:02}T{:02}:{:02}:{:02}Z""#,
            total / 100,
            total % 100,
            pick(28) + 1,
            pick(24),
            pick(60),
            pick(60)
        ),
    );
    add(out, &mut part);
    let mut items = 0;
    loop {
        let title = TITLES[below(&mut pick, TITLES.len())];
        // Two bytes are reserved for the bracket.
        form(
            &mut part,
            format_args!(
                r#"{}{{"sku":"KT-{:05}","title":"{title}","quantity":{},"price":{}.50}}]"#,
                if items == 0 { r#","items":["# } else { "," },
                pick(100_000),
                pick(12) + 1,
                pick(900)
            ),
        );
        if items > 0 {
            out.pop();
        }
        if !add(out, &mut part) {
            if items > 0 {
                out.push(b']');
            }
            break;
        }
        items += 1;
    }
    out.extend_from_slice(br#","note":""#);
    let start = below(&mut pick, WORDS.len());
    let room = end.saturating_sub(out.len() + br#""}"#.len());
    out.extend(WORDS.iter().cycle().skip(start).take(room));
    out.extend_from_slice(br#""}"#);
}

fn below(pick: &mut impl FnMut(u64) -> u64, length: usize) -> usize {
    usize::try_from(pick(length as u64)).unwrap_or_default()
}

/// `SplitMix64`: a different number for each, without a visible pattern.
fn random(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn payloads_are_objects_of_the_size_asked_for_and_differ() {
        for size in [LEAST_SIZE, 65, 200, 331, 1024, 5000] {
            let mut seen = HashSet::new();
            for number in (0..300).chain([u64::from(u32::MAX)]) {
                let mut made = Vec::new();
                payload(number, size, &mut made);
                assert_eq!(made.len(), size, "{}", String::from_utf8_lossy(&made));
                let value: Value = serde_json::from_slice(&made).unwrap();
                assert_eq!(value["order_id"], number);
                assert!(seen.insert(made));
            }
        }
    }

    #[test]
    fn batches_are_the_same_in_every_run() {
        let run = || {
            let load = Load::start(Schema::Json, 25, 10, 128);
            [(); 3].map(|()| load.next(Vec::new()).unwrap())
        };
        let [first, second, third] = run();
        assert_eq!([first.clone(), second.clone(), third.clone()], run());
        assert_ne!(first, second);
        assert!(third.len() < second.len());
    }
}
