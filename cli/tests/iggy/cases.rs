//! The cases that Iggy's own HTTP sink is tested with, from a real server: through the real runtime, and through the
//! host.

use serde_json::Value;

use crate::{
    iggy::support::{
        Connector,
        admin::Admin,
        receiver::{Received, Receiver},
        runtime::Runtime,
        server::Server,
    },
    support::{plugin, program, start},
};

/// A connector of its own, its messages, and what must come of them.
struct Case {
    key: &'static str,
    keys: &'static str,
    schema: &'static str,
    payloads: [&'static str; 3],
    requests: usize,
    check: fn(&[Received]),
}

fn body(received: &Received) -> Value {
    serde_json::from_str(&received.body).unwrap_or_else(|why| panic!("{why}: {received:?}"))
}

fn assert_content_type(received: &[Received], expected: &str) {
    for request in received {
        assert_eq!(request.method, "POST");
        assert_eq!(request.headers["content-type"], expected);
    }
}

fn assert_enveloped(items: &[Value], key: &str) {
    assert_eq!(items.len(), 3);
    for (offset, item) in (0..).zip(items) {
        let metadata = &item["metadata"];
        assert_eq!((&metadata["iggy_stream"], &metadata["iggy_topic"]), (&key.into(), &"t".into()));
        assert_eq!((&metadata["iggy_offset"], &metadata["iggy_partition_id"]), (&offset.into(), &0.into()));
        assert!(item["payload"].is_object(), "{item}");
    }
}

const CASES: [Case; 6] = [
    Case {
        key: "individual",
        keys: "batch_mode = \"individual\"",
        schema: "json",
        payloads: [
            r#"{"name":"Ada","age":36}"#,
            r#"{"name":"Bo","score":9.50}"#,
            r#"{"name":"Cy","on":true}"#,
        ],
        requests: 3,
        check: |received| {
            assert_content_type(received, "application/json");
            assert_enveloped(&received.iter().map(body).collect::<Vec<_>>(), "individual");
        },
    },
    Case {
        key: "ndjson",
        keys: "batch_mode = \"ndjson\"",
        schema: "json",
        payloads: [
            r#"{"event":"in","user":1}"#,
            r#"{"event":"click","user":2}"#,
            r#"{"event":"out","user":3}"#,
        ],
        requests: 1,
        check: |received| {
            assert_content_type(received, "application/x-ndjson");
            let items: Vec<Value> =
                received[0].body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_enveloped(&items, "ndjson");
        },
    },
    Case {
        key: "array",
        keys: "batch_mode = \"json_array\"",
        schema: "json",
        payloads: [r#"{"id":1}"#, r#"{"id":2}"#, r#"{"id":3}"#],
        requests: 1,
        check: |received| {
            assert_content_type(received, "application/json");
            assert_enveloped(body(&received[0]).as_array().unwrap(), "array");
        },
    },
    Case {
        key: "raw",
        keys: "batch_mode = \"raw\"",
        schema: "raw",
        payloads: ["plain text", "another one", "the third"],
        requests: 3,
        check: |received| {
            assert_content_type(received, "application/octet-stream");
            let bodies: Vec<&str> = received.iter().map(|request| request.body.as_str()).collect();
            assert_eq!(bodies, ["plain text", "another one", "the third"]);
        },
    },
    Case {
        key: "bare",
        keys: "include_metadata = false",
        schema: "json",
        payloads: [r#"{"key":"value1"}"#, r#"{"key":"value2"}"#, r#"{"key":"value3"}"#],
        requests: 3,
        check: |received| {
            let keys: Vec<Value> = received.iter().map(|request| body(request)["key"].take()).collect();
            assert_eq!(keys, ["value1", "value2", "value3"]);
        },
    },
    Case {
        key: "offsets",
        keys: "include_checksum = true\ninclude_origin_timestamp = true",
        schema: "json",
        payloads: [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#],
        requests: 3,
        check: |received| {
            for (offset, item) in (0_u64..).zip(received.iter().map(body)) {
                let metadata = &item["metadata"];
                assert_eq!(metadata["iggy_offset"], offset);
                assert_eq!(metadata["iggy_id"], format!("{:032x}", offset + 1));
                assert!(metadata["iggy_timestamp"].as_u64().is_some_and(|micros| micros > 0), "{metadata}");
                assert!(metadata["iggy_checksum"].is_u64(), "{metadata}");
                assert!(metadata["iggy_origin_timestamp"].is_u64(), "{metadata}");
            }
        },
    },
];

/// Makes the topics of the cases and of the seventh, and fills them; the connectors for them.
fn prepare(admin: &Admin, receiver: &Receiver) -> Vec<Connector> {
    let mut connectors: Vec<Connector> = CASES
        .iter()
        .map(|case| {
            admin.create(case.key, "t", 1);
            admin.send(case.key, "t", 0, case.payloads);
            let url = receiver.url(&format!("/{}", case.key));
            Connector { schema: case.schema, ..Connector::new(case.key, &url, &plugin()).with(case.keys) }
        })
        .collect();
    for topic in ["one", "two"] {
        admin.create("topics", topic, 1);
        admin.send("topics", topic, 0, [format!("{{\"from\":\"{topic}\"}}")]);
    }
    let topics = vec!["one".to_owned(), "two".to_owned()];
    connectors.push(Connector { topics, ..Connector::new("topics", &receiver.url("/topics"), &plugin()) });
    connectors
}

fn check_all(receiver: &Receiver) {
    for case in &CASES {
        let requests = receiver.wait(&format!("/{}", case.key), case.requests);
        assert_eq!(requests.len(), case.requests, "{}: {requests:?}", case.key);
        (case.check)(&requests);
    }
    let mut topics: Vec<Value> = receiver.wait("/topics", 2).iter().map(body).collect();
    topics.sort_by_key(|item| item["payload"]["from"].to_string());
    for (topic, item) in ["one", "two"].into_iter().zip(&topics) {
        assert_eq!(
            (&item["payload"]["from"], &item["metadata"]["iggy_topic"]),
            (&topic.into(), &topic.into())
        );
    }
    assert_eq!(topics.len(), 2);
}

#[test]
fn all_cases_through_the_runtime() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    let connectors = prepare(&server.admin(), &receiver);
    let Some(runtime) = Runtime::start(&server, &connectors) else { return };
    check_all(&receiver);
    for connector in &connectors {
        assert_eq!(runtime.sink(&connector.key)["status"], "running");
    }
}

#[test]
fn all_cases_through_the_host() {
    let Some(server) = Server::start() else { return };
    let receiver = Receiver::start();
    let admin = server.admin();
    let connectors = prepare(&admin, &receiver);
    let folder = tempfile::tempdir().unwrap();
    for connector in &connectors {
        let mut command = program(&["run", "--once", "--json", "--server", &server.address()]);
        let finished = start(command.arg(connector.write(folder.path()))).finish();
        assert_eq!(finished.code, Some(0), "{finished:?}");
        let result: Value = serde_json::from_str(&finished.stdout).unwrap();
        let messages = if connector.topics.len() == 1 { 3 } else { 2 };
        assert_eq!(result["messages"], messages, "{result}");
        let group = format!("iggy-connect-sink-{}", connector.key);
        for topic in &connector.topics {
            let last = Some(messages / connector.topics.len() as u64 - 1);
            assert_eq!(admin.stored(&connector.stream, topic, &group, 0), last, "{result}");
        }
    }
    check_all(&receiver);
}
