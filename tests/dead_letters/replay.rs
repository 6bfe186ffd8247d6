//! What is sent again, and what is removed.

use super::*;

#[test]
fn a_replay_delivers_what_failed_and_a_second_one_sends_nothing() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let away = Arc::new(AtomicBool::new(true));
        let endpoint = Endpoint::start({
            let away = away.clone();
            move |_| Answer::status(if away.load(SeqCst) { 404 } else { 200 })
        });
        let config = config(
            &endpoint.url(),
            folder.path(),
            json!({ "batch_mode": mode, "include_metadata": mode != "raw" }),
        );
        let sink = Sink::open(&config);
        let batch = Batch::numbered(20);
        assert_eq!(sink.consume(&batch), 0, "{mode}");
        let failed_requests = endpoint.requests().len();
        assert_eq!(replay(folder.path(), &config), Replay { failed: 20, ..Replay::default() }, "{mode}");

        away.store(false, SeqCst);
        let before = endpoint.requests().len();
        // While the connector runs, as it would.
        assert_eq!(replay(folder.path(), &config), Replay { delivered: 20, ..Replay::default() }, "{mode}");
        let again: Vec<Request> = endpoint.requests().split_off(before);
        let first: Vec<Request> = endpoint.requests().into_iter().take(failed_requests).collect();
        assert_eq!(
            again.iter().map(|request| &request.body).collect::<Vec<_>>(),
            first.iter().map(|request| &request.body).collect::<Vec<_>>(),
            "{mode}: the same bodies, metadata and all"
        );
        assert_eq!(
            again.iter().map(|request| request.header("idempotency-key")).collect::<Vec<_>>(),
            first.iter().map(|request| request.header("idempotency-key")).collect::<Vec<_>>(),
            "{mode}: with the same keys"
        );
        assert_eq!(
            replay(folder.path(), &config),
            Replay { replayed_before: 20, ..Replay::default() },
            "{mode}"
        );
        assert_eq!(endpoint.requests().len(), before + again.len(), "{mode}");
        drop(sink);
    }
}

#[test]
fn a_replay_marks_what_was_delivered_and_leaves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mended = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::start({
        let mended = mended.clone();
        move |request| Answer::status(if mended.load(SeqCst) && !holds(request, 3) { 200 } else { 422 })
    });
    let config = config(&endpoint.url(), folder.path(), json!({}));
    assert_eq!(Sink::open(&config).consume(&Batch::numbered(5)), 0);
    mended.store(true, SeqCst);
    assert_eq!(replay(folder.path(), &config), Replay { delivered: 4, failed: 1, ..Replay::default() });
    assert_eq!(replay(folder.path(), &config), Replay { failed: 1, replayed_before: 4, ..Replay::default() });
    let folder = Folder::open(folder.path()).unwrap();
    let mut left = Vec::new();
    folder
        .for_each(|entry| {
            if !entry.replayed {
                left.push(entry.record.unwrap().offset);
            }
            true
        })
        .unwrap();
    assert_eq!(left, [3]);
    assert_eq!(folder.purge(false).unwrap().records, 0, "a letter is left in the segment");
    assert_eq!(folder.purge(true).unwrap().records, 5);
}

#[test]
fn purge_leaves_the_file_that_a_running_connector_appends_to() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::answering(404);
    let mut config = config(&endpoint.url(), folder.path(), json!({}));
    config["dead_letter"]["segment_bytes"] = json!(1000);
    let sink = Sink::open(&config);
    for _ in 0..10 {
        assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    }
    let opened = Folder::open(folder.path()).unwrap();
    let purged = opened.purge(true).unwrap();
    assert!(purged.records > 0 && purged.records < 10, "{purged:?}");
    assert_eq!(sink.consume(&Batch::numbered(1)), 0);
    assert_eq!(records(folder.path()).len(), 10 - purged.records + 1);
    assert_eq!(sink.close(), 0);
    assert_eq!(opened.purge(true).unwrap().records, 11 - purged.records);
}
