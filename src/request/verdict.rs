//! Reads from the body of an answer which messages were accepted.

use iggy_connector_sdk::shown;
use serde_json::Value;

use super::{Pointer, elements, unquoted};
use crate::payload::{Json, checked_json};

/// How much of an endpoint's reason for one message is kept, in bytes.
const WORDS: usize = 1000;

/// Where answers say whether messages were accepted: the table `[response]`.
#[derive(Debug, Clone, PartialEq)]
pub struct VerdictOf {
    /// A pointer, and the value there that means that all were accepted.
    pub(crate) expect: Option<(Pointer, Value)>,
    /// Where answers have an item for each message.
    pub(crate) items: Option<Items>,
}

/// Where answers have an item for each message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Items {
    /// An array with an item for each message of the request, in their order.
    pub(crate) list: Pointer,
    /// In an item: a status code, or whether the message was accepted.
    pub(crate) status: Option<Pointer>,
    /// In an item: why it was refused.
    pub(crate) reason: Option<Pointer>,
}

/// What an answer with a success status says about the messages of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All were accepted.
    Taken,
    /// Some were refused, with this reason.
    Refused(String),
    /// It has an item for each.
    Items(Vec<Item>),
    /// It does not say.
    Unreadable(String),
}

/// What an answer says about one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) status: ItemStatus,
    /// Why it was refused, in the endpoint's words.
    pub(crate) words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemStatus {
    Taken,
    Refused,
    /// A status code, which has the same meaning as for a whole request.
    Code(u16),
}

impl VerdictOf {
    /// Whether an answer that cannot be read is a failure.
    pub(crate) fn is_strict(&self) -> bool {
        self.expect.is_some()
    }

    /// Reads an answer to a request with this many messages; `None` stands for one that was not received in full.
    pub(crate) fn read(&self, answer: Option<&str>, messages: usize) -> Verdict {
        let Some(answer) = answer else {
            return Verdict::Unreadable(
                "the answer is longer than max_response_bytes, or broke off".to_owned(),
            );
        };
        let Ok(Json { text, .. }) = checked_json(answer.as_bytes()) else {
            return Verdict::Unreadable(format!("the answer is not JSON: {}", shown(answer, WORDS)));
        };
        if let Some((pointer, expected)) = &self.expect {
            let found = pointer.find(text).and_then(|found| serde_json::from_str::<Value>(found).ok());
            match (found, &self.items) {
                (Some(found), _) if found == *expected => return Verdict::Taken,
                (_, Some(_)) => {}
                (Some(_), None) => return Verdict::Refused(cut(text)),
                (None, None) => {
                    return Verdict::Unreadable(format!(
                        "the answer has nothing at expect_pointer: {}",
                        cut(text)
                    ));
                }
            }
        }
        let Some(items) = &self.items else { return Verdict::Taken };
        match items.read(text, messages) {
            Ok(items) if items.iter().all(|item| item.status == ItemStatus::Taken) => Verdict::Taken,
            Ok(items) => Verdict::Items(items),
            Err(why) => Verdict::Unreadable(format!("the answer {why}: {}", cut(text))),
        }
    }
}

impl Items {
    fn read(&self, answer: &str, messages: usize) -> Result<Vec<Item>, String> {
        let list = self.list.find(answer).and_then(elements).ok_or("has no list at items")?;
        let items = list.map(|item| self.item(item)).collect::<Result<Vec<_>, _>>()?;
        if items.len() == messages {
            Ok(items)
        } else {
            Err(format!("has {} items for {messages} messages", items.len()))
        }
    }

    fn item(&self, item: &str) -> Result<Item, String> {
        let reason =
            self.reason.as_ref().and_then(|reason| reason.find(item)).filter(|reason| *reason != "null");
        let status = match &self.status {
            None if reason.is_some() => ItemStatus::Refused,
            None => ItemStatus::Taken,
            Some(status) => match status.find(item).map(|status| status.trim_matches('"')) {
                Some("true") => ItemStatus::Taken,
                Some("false") => ItemStatus::Refused,
                Some(code) => {
                    ItemStatus::Code(code.parse().map_err(|_| "has an item without a status code")?)
                }
                None => return Err("has an item without a status".to_owned()),
            },
        };
        let words = match reason {
            Some(reason) => cut(&unquoted(reason).unwrap_or(reason.into())),
            None => cut(item),
        };
        Ok(Item { status, words })
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(WORDS)].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bulk() -> VerdictOf {
        let pointer = |text| Some(Pointer::parse_wild(text).expect("a pointer"));
        VerdictOf {
            expect: Some((Pointer::parse("/errors").expect("a pointer"), json!(false))),
            items: Some(Items {
                list: Pointer::parse("/items").expect("a pointer"),
                status: pointer("/*/status"),
                reason: pointer("/*/error/reason"),
            }),
        }
    }

    #[test]
    fn each_item_has_its_own_verdict() {
        let answer = r#"{"took": 3, "errors": true, "items": [ {"create":{"status":201}},
            {"create":{"status":400,"error":{"type":"x","reason":"failed to \"parse\""}}}, {"create":{"status":429}} ]}"#;
        let Verdict::Items(items) = bulk().read(Some(answer), 3) else { panic!("items") };
        let statuses: Vec<ItemStatus> = items.iter().map(|item| item.status).collect();
        assert_eq!(statuses, [ItemStatus::Code(201), ItemStatus::Code(400), ItemStatus::Code(429)]);
        assert_eq!(items[1].words, "failed to \"parse\"");
        assert!(
            matches!(bulk().read(Some(answer), 4), Verdict::Unreadable(why) if why.contains("3 items for 4"))
        );
        assert_eq!(bulk().read(Some(r#"{"errors":false,"items":[]}"#), 2), Verdict::Taken);
    }

    #[test]
    fn what_is_expected_decides_where_there_are_no_items() {
        let ok =
            VerdictOf { items: None, expect: Some((Pointer::parse("/ok").expect("a pointer"), json!(true))) };
        assert_eq!(ok.read(Some(r#"{"ok":true}"#), 1), Verdict::Taken);
        assert!(
            matches!(ok.read(Some(r#"{"ok":false,"error":"no_channel"}"#), 1), Verdict::Refused(why) if why.contains("no_channel"))
        );
        for unreadable in [Some("{}"), Some("<html>"), Some(""), None] {
            assert!(matches!(ok.read(unreadable, 1), Verdict::Unreadable(_)), "{unreadable:?}");
        }
    }

    #[test]
    fn items_without_a_status_are_refused_with_a_reason() {
        let list = Pointer::parse("").expect("a pointer");
        let reason = Some(Pointer::parse("/error").expect("a pointer"));
        let of = VerdictOf { expect: None, items: Some(Items { list, status: None, reason }) };
        let Verdict::Items(items) = of.read(Some(r#"[{"error":null},{"error":"bad"}]"#), 2) else {
            panic!("items")
        };
        assert_eq!((items[0].status, items[1].status), (ItemStatus::Taken, ItemStatus::Refused));
        assert_eq!(of.read(Some("[{},{}]"), 2), Verdict::Taken);
    }
}
