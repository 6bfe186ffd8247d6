//! What a terminal shows while a run goes on.

use std::{
    io::Read,
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use super::{TOO_LONG, folder, numbers};
use crate::{
    shared::endpoint::{Answer, Endpoint},
    support::plugin,
};

/// A terminal as it was written to, without what moves its cursor and colours it: what was drawn one after the other is in lines.
fn drawn(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\r', "\n");
    let mut plain = String::new();
    let mut parts = text.split("\u{1b}[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |end| end + 1);
        plain.push_str(&part[end..]);
    }
    plain
}

#[test]
fn a_terminal_shows_what_is_delivered_what_waits_and_why_it_is_retried() {
    let is_away = Arc::new(AtomicBool::new(true));
    let asked = is_away.clone();
    let endpoint = Endpoint::start(move |request| {
        Answer::status(if request.index >= 2 && asked.load(SeqCst) { 503 } else { 200 })
    });
    let keys = "max_retry_duration = \"1h\"\nhold_status_codes = [503]\n";
    let (folder, _input) = folder(&endpoint.url(), keys, numbers(40).as_bytes());
    let run = format!(
        "stty rows 24 columns 80 && exec '{}' run connector.toml --input 'in put.ndjson' --plugin '{}'",
        env!("CARGO_BIN_EXE_iggy-http-sink"),
        plugin().display()
    );
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &run, "/dev/null"]);
    script.current_dir(folder.path()).env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped());
    let Ok(mut terminal) = script.spawn() else {
        eprintln!("SKIPPED: there is no `script` (util-linux) to make a terminal");
        return;
    };
    let written = Arc::<(Mutex<Vec<u8>>, Condvar)>::default();
    let mut output = terminal.stdout.take().unwrap();
    let reading = {
        let written = written.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                written.0.lock().unwrap().extend_from_slice(&bytes[..length]);
                written.1.notify_all();
            }
        })
    };
    // In 80 columns.
    let why = format!("retrying: answered 503 Service Unavailable ({}, ", endpoint.origin());
    let shows = |bytes: &[u8]| {
        let drawn = drawn(bytes);
        let shows = |words: &str| drawn.lines().any(|line| line.contains(words));
        shows("; 20 delivered, 10 waiting") && shows(&why)
    };
    let bytes = written.0.lock().unwrap();
    let (bytes, late) = written.1.wait_timeout_while(bytes, TOO_LONG, |bytes| !shows(bytes)).unwrap();
    assert!(!late.timed_out(), "{}", drawn(&bytes));
    drop(bytes);
    is_away.store(false, SeqCst);
    let code = terminal.wait().unwrap().code();
    reading.join().unwrap();
    let bytes = written.0.lock().unwrap();
    let (all, last) = (drawn(&bytes), String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(code, Some(0), "{all}");
    let result = all.rsplit_once("delivered").map_or("", |(_, behind)| behind);
    assert!(result.lines().next().unwrap_or_default().contains("40"), "{all}");
    // The display is gone before the result is written.
    assert!(last.rfind("\u{1b}[2K") < last.rfind('┌'), "{last:?}");
}
