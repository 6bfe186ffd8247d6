//! Answers with a status for each message.

use std::time::Duration;

use iggy_connector_sdk::shown;
use reqwest::StatusCode;
use tokio::time::Instant;
use tracing::warn;

use super::{
    attempt::{Answer, SHOWN},
    classify::Class,
    deadline::Deadline,
    delivery::Delivery,
    fault::Fault,
    retry::{Parked, RetryState},
    sent::{Again, Apart, ItemEnd, Sent},
};
use crate::{
    encode::Body,
    failure::{Failure, Reason},
    request::{Item, ItemStatus, Verdict},
};

/// How often unreadable answers are logged.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// The outcome of each message of a body, with the class of those that are to be sent again.
#[derive(Debug)]
pub(super) struct Ends {
    ends: Vec<ItemEnd>,
    pub(super) again: Option<Class>,
}

impl Delivery {
    /// Reads the verdict in the body of a success, if `[response]` says how: it may change the class of the answer, or give
    /// each message its own class.
    pub(super) fn read_verdict(
        &self,
        class: Class,
        ended: &mut Result<Answer, Fault>,
        body: &Body,
        attempts: u32,
    ) -> (Class, Option<Ends>) {
        let (Class::Success, Some(response), Ok(answer)) = (class, &self.response, ended) else {
            return (class, None);
        };
        if body.is_tombstone() {
            // Its answer has no items, and mostly no body at all.
            return (class, None);
        }
        match response.read(answer.whole.take().as_deref(), body.len()) {
            Verdict::Taken => (class, None),
            Verdict::Refused(words) => {
                answer.excerpt = words;
                (Class::Isolate, None)
            }
            Verdict::Unreadable(why) if response.is_strict() => {
                answer.excerpt = why;
                (Class::Retry, None)
            }
            Verdict::Unreadable(why) => {
                self.warn_of_unreadable(&why);
                (class, None)
            }
            Verdict::Items(items) => self.of_items(items, answer, attempts),
        }
    }

    fn of_items(&self, items: Vec<Item>, answer: &mut Answer, attempts: u32) -> (Class, Option<Ends>) {
        let mut again: Option<Class> = None;
        let mut alone = false;
        let ends: Vec<ItemEnd> = items
            .into_iter()
            .map(|Item { status, words }| {
                let (class, code) = match status {
                    ItemStatus::Taken => (Class::Success, None),
                    ItemStatus::Refused => (Class::Permanent, None),
                    ItemStatus::Code(code) => (self.classifier.item(code), Some(code)),
                };
                let failure = Failure { reason: Reason::Rejected, status: code, detail: words, attempts };
                match class {
                    Class::Success => {
                        alone = true;
                        ItemEnd::Taken
                    }
                    Class::Throttled | Class::Retry | Class::Hold => {
                        if again.is_none() {
                            answer.status = code
                                .and_then(|code| StatusCode::from_u16(code).ok())
                                .unwrap_or(answer.status);
                            answer.excerpt.clone_from(&failure.detail);
                        }
                        // Of several classes, the most cautious one.
                        again = match (again, class) {
                            (Some(Class::Throttled), _) | (_, Class::Throttled) => Some(Class::Throttled),
                            (Some(Class::Retry), _) => Some(Class::Retry),
                            _ => Some(class),
                        };
                        ItemEnd::Again(failure)
                    }
                    _ => {
                        alone = true;
                        ItemEnd::Refused(failure)
                    }
                }
            })
            .collect();
        match again {
            // All of them: then this is an answer like any other of that class.
            Some(class) if !alone => (class, None),
            _ => (Class::Success, Some(Ends { ends, again })),
        }
    }

    /// Returns the end of a body whose messages each have their own outcome, in an answer that may have `asked` for a pause.
    pub(super) fn apart(
        &self,
        ends: Ends,
        asked: Option<Duration>,
        mut retry: RetryState,
        deadline: &Deadline,
    ) -> Sent {
        let Ends { ends, again } = ends;
        let again = match again {
            None => Again::Failed(Reason::Rejected),
            Some(class) => match retry.wait(class, asked, &self.backoff, self.max_retries) {
                None => Again::Failed(Reason::RetriesExhausted),
                Some(_) if deadline.has_passed() => Again::Failed(Reason::DeadlineExceeded),
                Some(wait) => {
                    let until = Instant::now() + wait;
                    // A pause that would end after the deadline ends with it, and then comes a last attempt.
                    let until = if asked.is_some() { until.min(deadline.at()) } else { until };
                    if deadline.is_kept() && !wait.is_zero() && until <= deadline.at() {
                        Again::Parked(Parked { apart: true, ..retry.park(until, false) })
                    } else {
                        retry.not_before = Some(until);
                        Again::Sent(retry)
                    }
                }
            },
        };
        Sent::Apart(Apart { ends, again })
    }

    fn warn_of_unreadable(&self, why: &str) {
        let mut logged = self.unreadable_logged.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if logged.is_none_or(|logged: Instant| logged.elapsed() >= LOG_INTERVAL) {
            *logged = Some(Instant::now());
            warn!(
                "{}: an answer does not say what became of each message, and counts as delivered: {}",
                self.endpoint.label,
                shown(why, SHOWN)
            );
        }
    }
}
