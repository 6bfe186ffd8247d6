use arbtest::{
    arbitrary::{self, Unstructured},
    arbtest,
};
use iggy_connector_sdk::{BorrowedMessage, MessagesMetadata, Schema, TopicMetadata};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::*;
use crate::{
    batch::Batch,
    encode::{Bodies, Buffers, Encoded},
    payload::Refusal,
    plan::Lane,
};

/// The request for a message with these payload and topic.
fn request(config: serde_json::Value, topic: &str, payload: &[u8]) -> Result<Request, Refusal> {
    let config = Config::from_json(&config).expect("a configuration");
    let topic = TopicMetadata { stream: "s".to_owned(), topic: topic.to_owned() };
    let metadata = MessagesMetadata { partition_id: 1, current_offset: 0, schema: Schema::Json };
    let message = BorrowedMessage {
        id: 1,
        offset: 0,
        checksum: 0,
        timestamp: 0,
        origin_timestamp: 0,
        headers: b"",
        payload,
    };
    let batch = Batch::borrowed(&topic, &metadata, std::slice::from_ref(&message));
    let buffers = Buffers::default();
    match Bodies::of(&batch, Lane::All(1), &config.body, &buffers).next_within(usize::MAX) {
        Some(Encoded::Body(body)) => {
            let template = RequestTemplate::new(&config).expect("no secret is missing");
            Ok(template.request(&body, template.idempotency_key(&body).as_ref(), 0))
        }
        Some(Encoded::Refused(_, refusal)) => Err(refusal),
        None => panic!("there is a message"),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().expect("text").into_owned()
}

/// Any text, or one of the characters that a url means something by.
fn text(u: &mut Unstructured<'_>) -> arbitrary::Result<String> {
    if u.arbitrary()? {
        return u.arbitrary();
    }
    let length = u.int_in_range(0..=6)?;
    (0..length).map(|_| Ok(char::from(*u.choose(b"./%\\?#@:2eE")?))).collect()
}

#[test]
fn whatever_a_message_holds_goes_to_the_configured_authority_as_it_is() {
    arbtest(|u| {
        let (topic, field) = (text(u)?, text(u)?);
        let config = json!({
            "url": "http://user:secret@example.com:81/a/{topic}/b?x={payload:/f}&y",
            "headers": { "x-topic": "<{topic}>", "x-field": "{payload:/f}" },
        });
        let payload = json!({ "f": field }).to_string();
        match request(config, &topic, payload.as_bytes()) {
            Err(refusal) => {
                assert!([".", ".."].contains(&&*topic), "{}", refusal);
                assert!(matches!(refusal, Refusal::Unrenderable(_)));
            }
            Ok(request) => {
                let url = request.url();
                assert_eq!(
                    (url.scheme(), url.host_str(), url.port()),
                    ("http", Some("example.com"), Some(81))
                );
                let segments: Vec<String> = url.path_segments().expect("a path").map(decoded).collect();
                assert_eq!(segments, ["a", &*topic, "b"]);
                let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
                assert_eq!(query, [("x".to_owned(), field.clone()), ("y".to_owned(), String::new())]);
                let header = |name: &str| decoded(request.headers()[name].to_str().expect("ASCII"));
                assert_eq!(header("x-topic"), format!("<{topic}>"));
                assert_eq!(header("x-field"), field);
            }
        }
        Ok(())
    })
    .budget_ms(300);
}
