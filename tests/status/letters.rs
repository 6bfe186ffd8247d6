//! Dead letters are looked at, sent again and cleared away.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use iggy_connector_sdk::Schema;
use serde_json::{Value, json};

use super::client::{Answer as Answered, TOKEN, address, ask, get, open, post, report, shown};
use crate::support::{
    config::with,
    endpoint::{Answer, Endpoint},
    plugin::{Batch, Sink, logged},
    spooled::{taken, wait_until},
};

/// An endpoint that takes nothing until it is mended.
struct Broken {
    endpoint: Endpoint,
    mended: Arc<AtomicBool>,
}

fn broken() -> Broken {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = mended.clone();
    let endpoint = Endpoint::start(move |_| {
        if is_mended.load(SeqCst) {
            Answer::status(200)
        } else {
            Answer::status(404).body("no <b>such</b> order")
        }
    });
    Broken { endpoint, mended }
}

fn sink(endpoint: &Endpoint, folder: &Path, more: Value) -> Sink {
    let keys = json!({ "include_metadata": false, "close_timeout": "1s", "dead_letter": { "path": folder } });
    open(&endpoint.url(), with(keys, more))
}

fn look(sink: &Sink, path: &str) -> Answered {
    ask(address(sink), "GET", path, &[("authorization", &format!("Bearer {TOKEN}"))])
}

fn list(sink: &Sink, query: &str) -> Value {
    let answer = look(sink, &format!("/api/connectors/{}/letters{query}", sink.id));
    serde_json::from_str(&answer.body).unwrap_or_else(|why| panic!("{why}: {answer:?}"))
}

fn act(sink: &Sink, action: &str) -> Answered {
    post(address(sink), &format!("/connectors/{}/letters/{action}", sink.id), &[])
}

#[test]
fn letters_are_listed_by_reason_and_topic_and_one_is_shown_as_text() {
    let Broken { endpoint, .. } = broken();
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(&endpoint, folder.path(), json!({}));
    let hostile = "<img src=x onerror=alert(1)>\u{202e}".repeat(1000);
    assert_eq!(sink.consume(&Batch::of(Schema::Text, [hostile.as_str()]).from_stream("letters <i>")), 0);
    assert_eq!(sink.consume(&Batch::numbered(120).from_topic("a&b")), 0);
    let all = list(&sink, "");
    assert_eq!((&all["letters"], &all["waiting"], &all["replayed"]), (&json!(121), &json!(121), &json!(0)));
    assert_eq!(all["newest"].as_array().map(Vec::len), Some(100));
    assert_eq!((&all["newest"][0]["offset"], &all["newest"][0]["topic"]), (&json!(119), &json!("a&b")));
    let some = list(&sink, "?reason=rejected&stream=letters+%3Ci%3E&topic=");
    assert_eq!((&some["meant"], some["by"].as_array().map(Vec::len)), (&json!(1), Some(2)), "{some:#}");
    assert_eq!(look(&sink, &format!("/api/connectors/{}/letters?raeson=x", sink.id)).status, 400);
    let position = some["newest"][0]["position"].as_str().unwrap().to_owned();
    let whole: Value =
        serde_json::from_str(&look(&sink, &format!("/api/connectors/{}/letters/{position}", sink.id)).body)
            .unwrap();
    assert_eq!(whole["payload"], json!(hostile));
    let page = look(&sink, &format!("/connectors/{}/letters?topic=a%26b", sink.id)).body;
    assert!(
        page.contains("120 letters match") && page.contains("no &lt;b&gt;such&lt;/b&gt; order"),
        "{page}"
    );
    assert!(page.contains("Replay 120") && page.len() < 100_000, "{}", page.len());
    let one = look(&sink, &format!("/connectors/{}/letters/{position}", sink.id)).body;
    assert!(one.contains("&lt;img src=x onerror=alert(1)&gt;\\u{202e}") && one.len() < 20_000, "{one}");
    for wrong in ["<img", "<i>", "<b>", "\u{202e}"] {
        assert!(!one.contains(wrong) && !page.contains(wrong), "{wrong}");
    }
    assert_eq!(look(&sink, &format!("/connectors/{}/letters/9:9", sink.id)).status, 404);
    let main = look(&sink, "/").body;
    assert!(main.contains(&format!("href=\"/connectors/{}/letters\"", sink.id)), "{main}");
}

#[test]
fn letters_that_are_meant_are_sent_again_and_what_fails_stays() {
    for spool in [false, true] {
        let Broken { endpoint, mended } = broken();
        let folder = tempfile::tempdir().unwrap();
        let keys =
            if spool { json!({ "spool": { "path": folder.path().join("spool") } }) } else { json!({}) };
        let sink = sink(&endpoint, &folder.path().join("letters"), keys);
        for topic in ["one", "other"] {
            assert_eq!(sink.consume(&Batch::numbered(3).from_topic(topic)), 0);
        }
        wait_until("all letters", || list(&sink, "")["letters"] == 6);
        let ended = || {
            wait_until("the end of the replay", || list(&sink, "")["replay"]["running"] == false);
            list(&sink, "")["replay"].clone()
        };
        assert_eq!(act(&sink, "replay?topic=one").status, 200);
        let failed = ended();
        assert_eq!((&failed["delivered"], &failed["failed"]), (&json!(0), &json!(3)), "{failed:#}");
        assert!(failed["failures"][0][1].as_str().unwrap().contains("no <b>such</b> order"), "{failed:#}");
        assert_eq!(list(&sink, "")["letters"], 6, "what fails again is no second letter");
        mended.store(true, SeqCst);
        assert_eq!(act(&sink, "replay?topic=one").status, 200);
        let delivered = ended();
        assert_eq!((&delivered["delivered"], &delivered["failed"]), (&json!(3), &json!(0)), "{delivered:#}");
        assert_eq!(taken(&endpoint), [0, 1, 2]);
        let left = list(&sink, "");
        assert_eq!((&left["waiting"], &left["replayed"]), (&json!(3), &json!(3)), "{left:#}");
        assert_eq!(report(address(&sink))["connectors"][0]["dead_letters"]["replay"]["delivered"], 3);
        let page = look(&sink, &format!("/connectors/{}/letters", sink.id)).body;
        assert!(page.contains("The last replay ended: 3 delivered, 0 failed again"), "{page}");
        // Once more: what was delivered is not sent a second time.
        assert_eq!(act(&sink, "replay").status, 200);
        assert_eq!(ended()["delivered"], 3);
        assert_eq!(taken(&endpoint), [0, 1, 2, 0, 1, 2]);
        let told = |words: &str| logged(&format!("connector {}: {words}", sink.id)).len();
        assert_eq!(told("an operator replays the dead letters of topic one"), 2);
        assert_eq!(told("the replay is over: 3 delivered, 0 failed again"), 2);
    }
}

#[test]
fn letters_are_cleared_away_those_that_were_replayed_or_all() {
    let Broken { endpoint, mended } = broken();
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(&endpoint, folder.path(), json!({}));
    assert_eq!(sink.consume(&Batch::numbered(2)), 0);
    let purged = |query: &str| -> Value { serde_json::from_str(&act(&sink, query).body).unwrap() };
    assert_eq!(purged("purge")["letters"], 0, "none was replayed");
    mended.store(true, SeqCst);
    assert_eq!(act(&sink, "replay").status, 200);
    wait_until("the replay", || list(&sink, "")["replayed"] == 2);
    mended.store(false, SeqCst);
    assert_eq!(sink.consume(&Batch::numbered(3).from_offset(2)), 0);
    assert_eq!(purged("purge")["letters"], 2);
    assert_eq!((&list(&sink, "")["letters"], &list(&sink, "")["waiting"]), (&json!(3), &json!(3)));
    assert_eq!(purged("purge?all=true")["letters"], 3);
    assert_eq!(list(&sink, "")["letters"], 0);
    // And new ones are written as before.
    assert_eq!(sink.consume(&Batch::numbered(1).from_offset(5)), 0);
    assert_eq!(list(&sink, "")["letters"], 1);
    let told = logged(&format!(
        "WARN connector {}: an operator removed all dead letters, replayed or not: 3 letters, 1 files",
        sink.id
    ));
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn letters_that_are_meant_are_removed_alone_and_for_good() {
    let Broken { endpoint, mended } = broken();
    let folder = tempfile::tempdir().unwrap();
    let first = sink(&endpoint, folder.path(), json!({}));
    for topic in ["one", "other"] {
        assert_eq!(first.consume(&Batch::numbered(2).from_topic(topic)), 0);
    }
    let page = look(&first, &format!("/connectors/{}/letters?topic=one", first.id)).body;
    assert!(page.contains("Remove these 2 letters? 2 of them were never replayed"), "{page}");
    let purged: Value = serde_json::from_str(&act(&first, "purge?topic=one").body).unwrap();
    assert_eq!((&purged["letters"], &purged["files"]), (&json!(2), &json!(0)));
    assert_eq!(act(&first, "purge?topc=other").status, 400);
    assert_eq!(first.close(), 0);
    // Also after a restart, where a replay does not send them.
    let second = sink(&endpoint, folder.path(), json!({}));
    let left = list(&second, "");
    assert_eq!((&left["letters"], &left["by"][0]["topic"]), (&json!(2), &json!("other")), "{left:#}");
    mended.store(true, SeqCst);
    assert_eq!(act(&second, "replay").status, 200);
    wait_until("the replay", || list(&second, "")["replayed"] == 2);
    assert_eq!(taken(&endpoint), [0, 1]);
    // With the last of its letters the file goes; not while the replay ends.
    let mut purged = Value::Null;
    wait_until("a purge after the replay", || {
        let answer = act(&second, "purge?topic=other");
        purged = serde_json::from_str(&answer.body).unwrap_or_default();
        answer.status == 200
    });
    assert_eq!((&purged["letters"], &purged["files"]), (&json!(2), &json!(1)));
    assert_eq!(list(&second, "")["letters"], 0);
}

#[test]
fn close_ends_a_replay_and_a_second_one_has_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let silent = Arc::new(AtomicBool::new(false));
    let is_silent = silent.clone();
    let endpoint =
        Endpoint::start(move |_| if is_silent.load(SeqCst) { Answer::stall() } else { Answer::status(404) });
    let sink = sink(&endpoint, folder.path(), json!({}));
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    silent.store(true, SeqCst);
    assert_eq!(act(&sink, "replay").status, 200);
    assert_eq!(act(&sink, "replay").status, 409);
    assert_eq!(act(&sink, "purge").status, 409);
    endpoint.wait_for_requests(2, crate::support::spooled::SOON);
    assert_eq!(sink.close(), 0);
}

#[test]
fn letters_are_shown_to_who_may_look_and_changed_by_who_has_the_token() {
    let Broken { endpoint, .. } = broken();
    let folder = tempfile::tempdir().unwrap();
    let without =
        Sink::open(&shown(&endpoint.url(), json!({ "dead_letter": { "path": folder.path().join("a") } })));
    assert_eq!(without.consume(&Batch::numbered(1)), 0);
    let path = format!("/connectors/{}/letters", without.id);
    let page = get(address(&without), &path);
    assert!(page.status == 200 && !page.body.contains("method=\"post\""), "{page:?}");
    assert_eq!(ask(address(&without), "POST", &format!("{path}/replay"), &[]).status, 403);
    let with = sink(&endpoint, &folder.path().join("b"), json!({}));
    let path = format!("/connectors/{}/letters", with.id);
    for path in [path.clone(), format!("/api{path}"), format!("{path}/1:0")] {
        assert_eq!(get(address(&with), &path).status, 401, "{path}");
    }
    for action in ["replay", "purge"] {
        let path = format!("{path}/{action}");
        assert_eq!(ask(address(&with), "POST", &path, &[("authorization", "Bearer wrong")]).status, 401);
        assert_eq!(post(address(&with), &path, &[("origin", "http://evil.example")]).status, 403);
    }
    // There is no folder: they go elsewhere, or nowhere.
    let nowhere = open(&endpoint.url(), json!({}));
    assert_eq!(look(&nowhere, &format!("/connectors/{}/letters", nowhere.id)).status, 404);
}
