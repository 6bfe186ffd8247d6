//! What a message costs on its way into a body: decoding a batch, looking whether a payload is JSON, and encoding in each
//! mode, beside a copy of the same bytes.
//!
//! ```sh
//! cargo bench --bench encode                  # times
//! cargo bench --bench encode -- kinds         # times by kind of document
//! cargo bench --bench encode -- instructions  # instructions, held to benches/instructions.toml; needs valgrind
//! cargo bench --bench encode -- update        # writes that file anew
//! ```
//!
//! Times depend on the machine and on what else it does. Instructions hardly do, so that it is they that a change is
//! held to.

mod load;

use std::{
    collections::BTreeMap,
    fmt::Write,
    hint::black_box,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{
    batch::Batch,
    config::Config,
    encode::{Bodies, Buffers, Encoded},
    payload::{Known, validate},
    plan::Lane,
};
use iggy_connector_sdk::{
    BorrowedMessage, BorrowedMessages, MessagesMetadata, Schema, TopicMetadata, host::encode_batch,
};
use serde_json::{Value, json, value::RawValue};

/// Rounds per figure, of which the best counts: noise only ever adds.
const ROUNDS: usize = 30;
/// Rounds that are counted, and then twice as many: the difference has no start-up in it.
const COUNTED_ROUNDS: u64 = 5;
/// What a count may be off by: compilers differ.
const TOLERANCE: f64 = 0.10;
/// The envelope of `nd_json` as a template.
const ENVELOPE: &str = r#"{"metadata":{"iggy_id":{id},"iggy_offset":{offset},"iggy_timestamp":{timestamp},"iggy_stream":{stream},"iggy_topic":{topic},"iggy_partition_id":{partition}},"payload":{payload}}"#;
/// Kinds of documents, by what they consist of.
const KINDS: [(&str, Schema, &str); 10] = [
    ("orders: strings, numbers, nesting", Schema::Json, ORDER),
    ("coordinates: negative decimals", Schema::Json, "[-64.7731,-0.128]"),
    (
        "ledger: flat, amounts of both signs",
        Schema::Json,
        r#"{"account":40017,"amount":-120.50,"open":true}"#,
    ),
    ("sensor: exponents", Schema::Json, r#"{"t":1.5e-7,"v":-2E3}"#),
    ("literals", Schema::Json, "null,true,false"),
    ("strings with escapes", Schema::Json, r#""a \"b\" \\ c\n""#),
    ("one long string", Schema::Json, LONG),
    ("pretty-printed", Schema::Json, "{\n  \"id\": 17,\n  \"name\": \"a\"\n}"),
    ("text: prose", Schema::Text, "It was the best of times, it was the worst of times. "),
    ("text: JSON as text", Schema::Text, r#"{"id":17,"name":"a b"}"#),
];
/// The first of `fixtures/orders.ndjson`, shortened.
const ORDER: &str = r#"{"order_id":5000001,"items":[{"sku":"KT-17922","title":"Häkelnadel-Set 2,0–6,0 mm","quantity":3,"price":43.00}],"customer":{"id":4908792426311401119,"name":"Dan Brown","phone":null,"vip":true},"total":1493.00}"#;
const LONG: &str = "\"please ring twice, and then leave it with the neighbours at number seven if nobody opens within a minute or so\"";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");

/// One thing to measure, and how many messages one round of it is.
struct Case {
    name: String,
    messages: usize,
    bytes: usize,
    round: Box<dyn FnMut()>,
}

/// All cases with payloads of `size` bytes.
fn cases(size: usize) -> Vec<Case> {
    let messages = (256 * 1024 / size).clamp(16, 1000);
    let bytes = messages * size;
    let payloads: &'static [Vec<u8>] = load::payloads(messages, size).leak();
    let borrowed: &'static [BorrowedMessage<'static>] = (0..)
        .zip(payloads)
        .map(|(offset, payload)| BorrowedMessage {
            id: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef + u128::from(offset),
            offset,
            checksum: offset,
            timestamp: 1_760_000_000_000_000,
            origin_timestamp: 1_760_000_000_000_000,
            headers: b"",
            payload,
        })
        .collect::<Vec<_>>()
        .leak();
    let case = |name: String, round: Box<dyn FnMut()>| Case {
        name: format!("{name} {size}"),
        messages,
        bytes,
        round,
    };

    let mut copied = Vec::with_capacity(bytes);
    let copy = move || {
        copied.clear();
        for payload in payloads {
            copied.extend_from_slice(black_box(payload));
        }
        black_box(&copied);
    };
    let encoded = encode_batch(Schema::Json, borrowed);
    let decode = move || {
        let batch: BorrowedMessages<'_> = postcard::from_bytes(black_box(&encoded)).expect("a batch");
        black_box(batch.messages.len());
    };
    let texts: Vec<&str> =
        payloads.iter().map(|payload| std::str::from_utf8(payload).expect("JSON is text")).collect();
    let slow = texts.clone();
    let look = move || assert!(texts.iter().all(|text| validate(black_box(text)) != Known::Nothing));
    let look_slowly = move || {
        for text in &slow {
            black_box(serde_json::from_str::<&RawValue>(black_box(text)).expect("JSON"));
        }
    };
    let mut cases = vec![
        case("copy".to_owned(), Box::new(copy)),
        case("decode".to_owned(), Box::new(decode)),
        case("validate".to_owned(), Box::new(look)),
        case("validate, RawValue".to_owned(), Box::new(look_slowly)),
    ];
    for mode in ["nd_json", "json_array", "individual", "raw"] {
        for schema in [Schema::Json, Schema::Text, Schema::Raw] {
            let config = json!({ "url": "http://localhost/", "batch_mode": mode });
            cases.push(case(format!("{mode} {schema}"), encoding(&config, schema, borrowed)));
        }
    }
    for (name, template) in [("template", ENVELOPE), ("pointer", "{payload:/note}")] {
        let config =
            json!({ "url": "http://localhost/", "batch_mode": "nd_json", "message_template": template });
        cases.push(case(name.to_owned(), encoding(&config, Schema::Json, borrowed)));
    }
    cases
}

/// Encodes a batch as a configuration says.
fn encoding(
    config: &Value,
    schema: Schema,
    messages: &'static [BorrowedMessage<'static>],
) -> Box<dyn FnMut()> {
    let (config, buffers) = (Config::from_json(config).expect("a configuration"), Buffers::default());
    let topic = TopicMetadata { stream: "orders".to_owned(), topic: "created".to_owned() };
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema };
    Box::new(move || encode(&Batch::borrowed(&topic, &metadata, messages), &config, &buffers))
}

fn encode(batch: &Batch<'_>, config: &Config, buffers: &Buffers) {
    let mut bodies = Bodies::of(batch, Lane::All(batch.messages.len()), &config.body, buffers);
    while let Some(encoded) = bodies.next_within(usize::MAX) {
        match encoded {
            Encoded::Body(body) => drop(black_box(body)),
            Encoded::Refused(message, why) => panic!("message {message}: {why}"),
        }
    }
}

fn all_cases() -> Vec<Case> {
    [64, 1024, 16 * 1024].into_iter().flat_map(cases).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => times(),
        ["kinds"] => kinds(),
        ["instructions"] => return held_to_the_file(),
        ["update"] => std::fs::write(FILE, written(&counts())).expect("the file can be written"),
        ["rounds", name, rounds] => run(name, rounds.parse().expect("a number")),
        _ => {
            eprintln!("the words are: kinds, instructions, update, or none");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn times() {
    println!("{:<24} {:>12} {:>10} {:>12}", "case", "ns/message", "GB/s", "copies");
    for size in [64, 1024, 16 * 1024] {
        let mut of_copy = Duration::MAX;
        for mut case in cases(size) {
            let time = best(&mut case.round);
            if case.name.starts_with("copy ") {
                of_copy = time;
            }
            let (nanos, copies) = (time.as_secs_f64() * 1e9, time.as_secs_f64() / of_copy.as_secs_f64());
            let (each, speed) = (nanos / case.messages as f64, case.bytes as f64 / nanos);
            println!("{:<24} {each:>12.0} {speed:>10.2} {copies:>12.1}", case.name);
        }
    }
}

/// What 1 KiB of each kind of document costs on its way into a body: validated, or escaped where it is text.
fn kinds() {
    println!("{:<42} {:>12} {:>16}", "kind", "ns/KiB", "RawValue, ns/KiB");
    for (name, schema, piece) in KINDS {
        let of_json = schema == Schema::Json;
        let (begin, mark, end) = if of_json { ("[", ",", "]") } else { ("", "", "") };
        let mut text = format!("{begin}{piece}");
        while text.len() + mark.len() + piece.len() + end.len() <= 1024 {
            text.push_str(mark);
            text.push_str(piece);
        }
        text.push_str(end);
        let text: &'static str = text.leak();
        let message = BorrowedMessage {
            id: 1,
            offset: 0,
            checksum: 0,
            timestamp: 0,
            origin_timestamp: 0,
            headers: b"",
            payload: text.as_bytes(),
        };
        // Few enough to stay in the cache of a core: what memory costs is no matter of the kind.
        let messages: Vec<_> = (0..16).map(|offset| BorrowedMessage { offset, ..message }).collect();
        let bytes = (64 * messages.len() * text.len()) as f64 / 1024.0;
        let config =
            json!({ "url": "http://localhost/", "batch_mode": "nd_json", "include_metadata": false });
        let mut encode = encoding(&config, schema, messages.leak());
        let ours = best(&mut || (0..64).for_each(|_| encode()));
        let raw_value = of_json.then(|| {
            best(&mut || {
                for _ in 0..64 * 16 {
                    black_box(serde_json::from_str::<&RawValue>(black_box(text)).expect("JSON"));
                }
            })
        });
        let each = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e9 / bytes);
        println!("{name:<42} {:>12} {:>16}", each(ours), raw_value.map(each).unwrap_or_default());
    }
}

fn best(round: &mut dyn FnMut()) -> Duration {
    round();
    let timed = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        round();
        began.elapsed()
    });
    timed.min().unwrap_or_default()
}

/// What valgrind counts.
fn run(name: &str, rounds: u64) {
    let mut case = all_cases().into_iter().find(|case| case.name == name).expect("a case of this name");
    (0..rounds).for_each(|_| (case.round)());
}

/// Instructions a message, by case.
fn counts() -> BTreeMap<String, u64> {
    let count = |case: &Case| {
        let [some, more] =
            [COUNTED_ROUNDS, 2 * COUNTED_ROUNDS].map(|rounds| instructions(&case.name, rounds));
        (case.name.clone(), (more - some) / (COUNTED_ROUNDS * case.messages as u64))
    };
    all_cases().iter().map(count).collect()
}

fn instructions(name: &str, rounds: u64) -> u64 {
    let this = std::env::current_exe().expect("a program knows where it lies");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["rounds", name, &rounds.to_string()])
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).expect("callgrind says how many there were")
}

fn held_to_the_file() -> ExitCode {
    let file = std::fs::read_to_string(Path::new(FILE)).expect("the file is there");
    let before: BTreeMap<String, u64> = toml::from_str(&file).expect("the file has a count for each case");
    let now = counts();
    let mut slower = 0;
    println!("{:<24} {:>12} {:>12} {:>8}", "instructions a message", "in the file", "now", "ratio");
    for (name, &count) in &now {
        let Some(&old) = before.get(name) else {
            println!("{name:<24} {:>12} {count:>12}", "none");
            slower += 1;
            continue;
        };
        let ratio = count as f64 / old as f64;
        // A few instructions more or less are nobody's doing.
        let verdict = if count > old + 8 && ratio > 1.0 + TOLERANCE {
            slower += 1;
            "  slower"
        } else if old > count + 8 && ratio < 1.0 - TOLERANCE {
            "  faster: write it down with `cargo bench --bench encode -- update`"
        } else {
            ""
        };
        println!("{name:<24} {old:>12} {count:>12} {ratio:>8.2}{verdict}");
    }
    if slower > 0 {
        println!("{slower} cases are slower than in {FILE}, or not in it");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn written(counts: &BTreeMap<String, u64>) -> String {
    let mut text = "# Instructions a message, by mode, schema and bytes of payload: `cargo bench --bench encode -- update`\n".to_owned();
    for (name, count) in counts {
        let _ = writeln!(text, "\"{name}\" = {count}");
    }
    text
}
