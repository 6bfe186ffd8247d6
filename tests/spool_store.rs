//! The spool on a real disk, in a process that is killed.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use iggy_connector_http_sink::spool::{
    LaneKey, LanesBy, Options, Spool, SyncMode, WhenFull, holds_messages, status,
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use tokio::runtime::Builder;

use crate::support::again::again;

const KILLS: u64 = 12;
const TOPICS: [&str; 3] = ["a", "b", "c"];
const FOLDER: &str = "SPOOL_STORE_FOLDER";

fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        max_bytes: 256 << 20,
        when_full: WhenFull::Block,
        sync: SyncMode::Batch,
        lanes: LanesBy::Label,
    }
}

fn accept(spool: &Spool, topic: &str, first: u64, count: u64) -> usize {
    let payload = vec![b'.'; 1000];
    let message = |offset| BorrowedMessage {
        id: u128::from(offset) + 1,
        offset,
        checksum: offset,
        timestamp: offset,
        origin_timestamp: 0,
        headers: b"",
        payload: &payload,
    };
    let messages: Vec<_> = (first..first + count).map(message).collect();
    let topic = TopicMetadata { stream: "s".to_owned(), topic: topic.to_owned() };
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Raw };
    let executor = Builder::new_current_thread().build().unwrap();
    executor.block_on(spool.accept(&topic, &metadata, &messages, SystemTime::now())).unwrap().stored
}

fn offsets(spool: &Spool, topic: &str) -> Vec<u64> {
    let (mut offsets, mut after) = (Vec::new(), 0);
    while let Some(record) = spool.next(&LaneKey::new("s", topic, 1), after).unwrap() {
        after = record.sequence;
        let stored = record.decode().unwrap();
        let open = (0..).zip(&stored.messages).filter(|(index, _)| !record.is_settled(*index));
        offsets.extend(open.map(|(_, message)| message.offset));
    }
    offsets
}

/// Says what it knows after it is so: `accepted topic offset` and `settled topic offset`, each the next one.
/// Runs until it is killed.
#[test]
#[ignore = "is started by the other test"]
fn streams_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let spool = Spool::open(&options(Path::new(&folder))).unwrap().0;
    let say = |what: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(what.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    std::thread::scope(|scope| {
        for topic in TOPICS {
            let (spool, say) = (&spool, &say);
            scope.spawn(move || {
                let from: u64 = std::env::var(format!("FROM_{topic}")).unwrap().parse().unwrap();
                for first in (from..).step_by(5) {
                    accept(spool, topic, first, 5);
                    say(format!("\naccepted {topic} {}\n", first + 5));
                }
            });
            scope.spawn(move || {
                let lane = LaneKey::new("s", topic, 1);
                let mut after = 0;
                loop {
                    // The last topic has an endpoint that is away.
                    let record = if topic == "c" { None } else { spool.next(&lane, after).unwrap() };
                    let Some(record) = record else {
                        std::thread::sleep(Duration::from_micros(200));
                        continue;
                    };
                    let last = record.decode().unwrap().messages.last().unwrap().offset;
                    after = record.sequence;
                    spool.settle_all(&lane, after).unwrap();
                    say(format!("\nsettled {topic} {}\n", last + 1));
                }
            });
        }
    });
}

#[test]
fn a_process_that_is_killed_leaves_what_it_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut accepted: BTreeMap<String, u64> = BTreeMap::new();
    for kill in 0..KILLS {
        let mut command = again(module_path!(), "streams_until_it_is_killed");
        command.env(FOLDER, folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        for topic in TOPICS {
            // What was being stored comes again.
            let from = accepted.get(topic).copied().unwrap_or_default();
            command.env(format!("FROM_{topic}"), from.to_string());
        }
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let waiting = Duration::from_millis(100 + random % 150);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(waiting);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let mut settled: BTreeMap<String, u64> = BTreeMap::new();
        let mut looked = false;
        for line in out.lines() {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let [what @ ("accepted" | "settled"), topic, offset] = words[..] else { continue };
            let Ok(offset) = offset.parse::<u64>() else { continue };
            let known = if what == "accepted" { &mut accepted } else { &mut settled };
            let known = known.entry(topic.to_owned()).or_default();
            *known = offset.max(*known);
            if !looked && kill % 3 == 0 {
                looked = true;
                status(folder.path()).unwrap();
            }
        }
        killer.join().unwrap();
        let status = status(folder.path()).unwrap();
        assert!(!status.in_use && status.messages > 0, "{status:?}");
        assert!(holds_messages(folder.path()).unwrap());

        let spool = Spool::open(&options(folder.path())).unwrap().0;
        for topic in TOPICS {
            let held = offsets(&spool, topic);
            let accepted = accepted.get(topic).copied().unwrap_or_default();
            assert!(
                held.windows(2).all(|pair| pair[0] + 1 == pair[1]),
                "kill {kill}, {topic}: a hole or a repeat"
            );
            let (first, end) = (held.first().copied(), held.last().map(|last| last + 1));
            if topic == "c" {
                assert!(first == Some(0) || accepted == 0, "kill {kill}: {first:?}");
            } else {
                let settled = settled.get(topic).copied().unwrap_or_default();
                // Where nothing is held, nothing came again, whatever there was no time left to tell.
                let first = first.unwrap_or(u64::MAX);
                assert!(first >= settled, "kill {kill}, {topic}: {first} came again, {settled} was settled");
            }
            // A batch of which nobody was told can be there as well.
            let Some(end) = end else { continue };
            assert!(end >= accepted, "kill {kill}, {topic}: {end}, and {accepted} were accepted");
            // The last one, of which the host may not have heard, is known. Where nothing is held, nobody can say which it is.
            assert_eq!(accept(&spool, topic, end - 1, 1), 0, "kill {kill}, {topic}");
        }
    }
    assert!(accepted.len() == TOPICS.len() && accepted.values().all(|count| *count > 100), "{accepted:?}");
}
