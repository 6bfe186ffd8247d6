//! The page in a browser, where Chromium and the libraries for Node are installed (.ci/counterparts): what an operator sees and does.

use std::{
    env,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use iggy_connector_sdk::Schema;
use serde_json::json;

use super::client::{TOKEN, address, open};
use crate::support::{
    endpoint::{Answer, Endpoint, Request},
    plugin::{Batch, Sink},
    spooled::wait_until,
};

/// Of the messages, what the endpoint does not take.
const STUCK: &str = "stuck";
const REFUSED: &str = "<img src=x onerror=window.pwned=1>";

/// The world that the script has its way with.
#[derive(Default)]
struct World {
    away: AtomicBool,
    /// Whether what is refused is taken by now.
    mended: AtomicBool,
    taken: Mutex<Vec<String>>,
    sink: Mutex<Option<Sink>>,
    /// The offset of the next message.
    next: Mutex<u64>,
}

impl World {
    fn answer(&self, request: &Request) -> Answer {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if self.away.load(SeqCst) {
            Answer::reset()
        } else if body.contains(STUCK) {
            Answer::status(503).body("the table orders is locked")
        } else if body.contains(REFUSED) && !self.mended.load(SeqCst) {
            Answer::status(404).body("no <b>such</b> order")
        } else {
            self.taken.lock().unwrap().push(body);
            Answer::status(200)
        }
    }

    fn consume(&self, stream: &str, texts: &[&str]) {
        let mut next = self.next.lock().unwrap();
        let batch = Batch::of(Schema::Text, texts.iter().copied()).from_offset(*next);
        *next += texts.len() as u64;
        let batch = batch.from_stream(stream).from_topic("orders");
        assert_eq!(self.sink.lock().unwrap().as_ref().expect("it is open").consume(&batch), 0);
    }

    /// Does what the script asks for, and returns once it is done.
    fn act(&self, what: &str) {
        let taken = |text: &str| self.taken.lock().unwrap().iter().any(|body| body.contains(text));
        match what {
            "away" => self.away.store(true, SeqCst),
            "back" => {
                self.away.store(false, SeqCst);
                self.mended.store(true, SeqCst);
            }
            "consume/1" => self.consume("shop", &["order 1"]),
            "stuck" => self.consume("shop", &[STUCK, "behind it"]),
            "expect-others" => wait_until("what was behind the head", || taken("behind it")),
            "refused" => {
                self.mended.store(false, SeqCst);
                self.consume("<script>window.pwned=1</script>", &[REFUSED]);
            }
            "expect-replayed" => wait_until("the replayed letter", || taken(REFUSED)),
            other => panic!("{other} is nothing to do"),
        }
    }
}

/// What the script needs, where it is there.
fn installed() -> Option<String> {
    let chromium = env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let runs = |program: &str, arguments: &[&str]| {
        let quiet =
            Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    for (what, there) in [
        ("chromium", runs(&chromium, &["--version"])),
        (
            "playwright-core or axe-core for Node",
            runs("node", &["-e", "require('playwright-core'); require('axe-core')"]),
        ),
    ] {
        if !there {
            println!("skipped: {what} is not installed");
            return None;
        }
    }
    let path = Command::new("sh").args(["-c", &format!("command -v {chromium}")]).output().ok()?;
    String::from_utf8(path.stdout).ok().map(|path| path.trim().to_owned())
}

#[test]
fn an_operator_sees_and_mends_in_a_browser() {
    let Some(chromium) = installed() else { return };
    let world = Arc::<World>::default();
    let (of_sink, of_script) = (world.clone(), world.clone());
    let endpoint = Endpoint::start(move |request| of_sink.answer(request));
    let control = Endpoint::start(move |request| {
        of_script.act(request.path.trim_start_matches("/in/"));
        Answer::status(200)
    });
    let folder = tempfile::tempdir().unwrap();
    let sink = open(
        &endpoint.url(),
        json!({
            "include_metadata": false,
            "batch_mode": "raw",
            "close_timeout": "1s",
            "spool": { "path": folder.path().join("spool") },
            "dead_letter": { "path": folder.path().join("dead-letters") },
        }),
    );
    let (page, connector) = (format!("http://{}/", address(&sink)), sink.id.to_string());
    *world.sink.lock().unwrap() = Some(sink);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/status/browser.cjs");
    let mut node = Command::new("node");
    node.arg(script).envs([
        ("PAGE", page.as_str()),
        ("TOKEN", TOKEN),
        ("CONTROL", &control.url()),
        ("CONNECTOR", &connector),
        ("CHROMIUM", &chromium),
    ]);
    let seen = node.output().unwrap();
    let words = [seen.stdout, seen.stderr].map(|words| String::from_utf8_lossy(&words).into_owned()).concat();
    assert!(seen.status.success() && words.contains("all seen"), "{words}");
    drop(world.sink.lock().unwrap().take());
}
