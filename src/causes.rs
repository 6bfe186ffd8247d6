//! An error and what caused it.

use std::{error::Error as StdError, io};

use iggy_connector_sdk::shown;

/// The maximum length of a chain of causes, in bytes.
const LONGEST: usize = 1000;

/// Formats an error and its causes in one line, each once. URLs are omitted: they can contain secrets.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        let mut words = cause.to_string();
        // reqwest ends its message with the URL; its causes say what happened.
        if let Some(end) = words.find(" for url (") {
            words.truncate(end);
        }
        if !words.is_empty() && !line.contains(&words) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&words);
        }
    }
    // Names in certificates and reasons of servers are text from outside.
    shown(&line, LONGEST).to_string()
}

/// Iterates over an error and its causes. For the standard library the error inside an [`io::Error`] is not a cause, but it
/// is here.
pub(crate) fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(carrier) => carrier.get_ref().map(|carried| carried as &(dyn StdError + 'static)),
        None => error.source(),
    })
}
