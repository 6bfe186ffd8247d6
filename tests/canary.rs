//! A canary in every place where a secret can stand comes out nowhere, whatever happens.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use iggy_connector_http_sink::{config::Config, dead_letter::Folder, spool};
use serde_json::{Value, json};

use crate::support::{
    again::again,
    config::with,
    config_keys::{CANARY, ConfigKey, VARIABLE, all, completed, hits, values},
    endpoint::{Answer, Door, Endpoint, Request},
    plugin::{Batch, Sink, logged},
};

/// What can become of a request.
const FAILURES: [&str; 9] = [
    "delivered",
    "echoed as 401",
    "echoed as 413",
    "echoed as 500",
    "redirected",
    "no answer",
    "no HTTP",
    "broken off",
    "refused",
];

/// Sinks that are open at the same time.
const AT_ONCE: usize = 32;

#[test]
fn a_canary_in_every_place_is_never_shown() {
    if env::var_os(VARIABLE).is_some() {
        // In a process of its own, whose log is on TRACE from the start.
        refused_and_taken();
        every_failure();
        return;
    }
    let output = again(module_path!(), "a_canary_in_every_place_is_never_shown")
        .envs([(VARIABLE, CANARY), ("RUST_LOG", "trace"), ("RUST_BACKTRACE", "1")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(hits(&said), [""; 0], "on stdout or stderr");
}

/// Nothing is shown; `what` says where the canary is.
#[track_caller]
fn assert_hidden(what: &str, text: &str) {
    let hits = hits(text);
    assert!(
        hits.is_empty(),
        "{what}:\n{}",
        hits[..hits.len().min(20)].join("\n").replace(CANARY, "<CANARY>")
    );
}

fn base(url: &str) -> Value {
    json!({
        "url": url,
        "verbose_logging": true,
        "follow_redirects": true,
        "timeout": "250ms",
        "connect_timeout": "200ms",
        "max_retries": 1,
        "retry_delay": "1ms",
        "max_retry_delay": "2ms",
        // Each attempt is to fail in its own way, and not for a breaker that opened.
        "circuit_breaker": { "failure_threshold": 0 },
        "close_timeout": "1s",
        // A token that cannot be had, and a proxy that refuses, are waited for.
        "max_retry_duration": "300ms",
    })
}

/// A value in a key, without the canary in its name.
fn named(key: &ConfigKey, value: &Value) -> String {
    format!("{key:?} = {value}").replace(CANARY, "<CANARY>")
}

/// Every value in every place, looked at, and opened where it is refused.
fn refused_and_taken() {
    let endpoint = Endpoint::answering(200);
    let keys = all();
    assert!(keys.iter().any(|key| key.can_be_secret), "{keys:?}");
    let mut looked = 0;
    for key in &keys {
        for value in values(key, &endpoint.url()) {
            let config = key.with(&base(&endpoint.url()), value.clone());
            let what = named(key, &value);
            match Config::from_json(&config) {
                // What is taken in another place is the name of a header or of a folder.
                Ok(_) if !key.can_be_secret => {}
                Ok(config) => {
                    assert_hidden(&what, &format!("{config:?} {}", config.warnings.join("\n")));
                }
                Err(problems) => {
                    assert_hidden(&what, &format!("{problems:?}\n{problems}"));
                    assert_eq!(Sink::try_open(&config).map(drop), Err(1), "{what}");
                }
            }
            looked += 1;
        }
    }
    assert!(looked > 500, "{looked}");
    assert_hidden("refused configurations", &logged("").join("\n"));
}

/// A configuration with the canary in it, for the endpoint at [`HERE`] and a spool in [`FOLDER`].
struct Taken {
    key: String,
    what: String,
    config: String,
}

/// Where the endpoint is, and the folder, until they are known.
const HERE: &str = "127.0.0.1:1/here";
const FOLDER: &str = "/canary/folder";

/// Every value that is taken.
fn taken() -> Vec<Taken> {
    let url = format!("http://{HERE}");
    let mut taken = Vec::new();
    for key in all().iter().filter(|key| key.can_be_secret) {
        for value in values(key, &url) {
            let config = completed(key.with(&base(&url), value.clone()), &url, FOLDER);
            let text = config.to_string();
            let is_there = text.contains(VARIABLE) || !hits(&text).is_empty();
            if is_there && Config::from_json(&config).is_ok() {
                let (key, what) = (key.name().to_owned(), named(key, &value));
                taken.push(Taken { key, what, config: text });
            }
        }
    }
    let all =
        ["url", "headers", "username", "password", "token", "value", "client_secret", "secrets", "secret"];
    for name in all {
        assert!(taken.iter().any(|taken| taken.key == name), "nothing is taken in {name}");
    }
    taken
}

/// They are on the way to an endpoint that does its worst: each key meets every failure, and each value a third of them.
fn every_failure() {
    let taken = taken();
    let mut values = BTreeMap::<&str, usize>::new();
    let numbered: Vec<(usize, &Taken)> = taken
        .iter()
        .map(|taken| {
            let value = values.entry(&taken.key).or_default();
            *value += 1;
            (*value, taken)
        })
        .collect();
    for (number, failure) in FAILURES.into_iter().enumerate() {
        let meets = |(value, taken): &&(usize, &Taken)| value % 3 == number % 3 || values[&*taken.key] < 3;
        let meet: Vec<&Taken> = numbered.iter().filter(meets).map(|(_, taken)| *taken).collect();
        let endpoint = Endpoint::behind(
            move |_| if failure == "refused" { Door::Reset } else { Door::Open },
            move |request| answer(failure, request),
        );
        let url = endpoint.url();
        let authority = url.trim_start_matches("http://").trim_end_matches('/');
        let folder = tempfile::tempdir().unwrap();
        let before = logged("").len();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        let Some(Taken { what, config, .. }) = meet.get(number) else { break };
                        let folder = folder.path().join(number.to_string());
                        let spool = folder.join("spool");
                        let config = config.replace(HERE, authority).replace(FOLDER, spool.to_str().unwrap());
                        let config = serde_json::from_str(&config).unwrap();
                        run(&config, &folder, &format!("{failure}: {what}"));
                    }
                });
            }
        });
        assert_hidden(failure, &logged("")[before..].join("\n"));
        let arrived = endpoint.requests().iter().any(|request| format!("{request:?}").contains(CANARY));
        assert!(arrived || failure == "refused", "{failure}: no canary was sent");
    }
    println!("\n{} values of {} keys", taken.len(), values.len());
    // Otherwise nothing would be proved.
    assert!(logged("TRACE").len() > 100, "the log is on TRACE, of all crates");
}

/// Sends a message; looks at all that is left of it.
fn run(config: &Value, folder: &Path, what: &str) {
    let letters = folder.join("letters");
    let keeps = config.get("dead_letter").is_none();
    let config = if keeps {
        with(config.clone(), json!({ "dead_letter": { "path": letters } }))
    } else {
        config.clone()
    };
    let Ok(sink) = Sink::try_open(&config) else { return };
    let code = sink.consume(&Batch::numbered(2));
    assert!(code == 0 || code == 1, "{what}: {code}");
    if config.get("spool").is_some() {
        let path = folder.join("spool");
        let began = Instant::now();
        while spool::status(&path).is_ok_and(|status| status.messages > 0)
            && began.elapsed() < Duration::from_secs(5)
        {
            thread::sleep(Duration::from_millis(5));
        }
        assert_hidden(what, &serde_json::to_string(&spool::status(&path).unwrap()).unwrap());
    }
    sink.close();
    if keeps {
        let mut records = String::new();
        let folder = Folder::open(&letters).unwrap();
        folder
            .for_each(|entry| {
                // Writing to a string does not fail.
                let _ = writeln!(records, "{entry:?}");
                true
            })
            .unwrap();
        for file in fs::read_dir(&letters).unwrap() {
            records += &fs::read_to_string(file.unwrap().path()).unwrap();
        }
        assert_hidden(what, &records);
    }
}

/// Everything about the request stands in what comes back.
fn answer(failure: &str, request: &Request) -> Answer {
    let echo = format!("{} {} {:?}", request.method, request.path, request.headers);
    let as_json = serde_json::to_string(&request.headers).unwrap();
    let both = format!("{echo} {as_json}");
    match failure {
        "echoed as 401" => Answer::status(401).body(both),
        "echoed as 413" => Answer::status(413).body(both),
        "echoed as 500" => Answer::status(500).body(both),
        "redirected" => Answer::status(if request.path.ends_with("elsewhere") { 404 } else { 307 })
            .header("Location", &format!("{}/elsewhere", request.path))
            .body(both),
        "no answer" => Answer::stall(),
        "no HTTP" => Answer::raw(format!("HTTP/1.1 nonsense {echo}\r\n{echo}\r\n\r\n")),
        "broken off" => Answer::status(500).body(both).cut_after(300),
        _ => Answer::status(200).body(both),
    }
}
