//! An error and what caused it.

use std::{error::Error as StdError, io};

use iggy_connector_sdk::shown;

/// The most bytes of a chain of causes.
const LONGEST: usize = 1000;

/// An error and what caused it, in one line, each said once. URLs are left out: they can hold secrets.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut line = String::new();
    for cause in causes(error) {
        let mut words = cause.to_string();
        // reqwest ends its own words with the URL; what lies below says what happened.
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
    // A certificate names itself as it likes, and a server gives its own reasons.
    shown(&line, LONGEST).to_string()
}

/// An error and what caused it. What an [`io::Error`] carries is none of its causes to the standard library, but is here.
pub(crate) fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(carrier) => carrier.get_ref().map(|carried| carried as &(dyn StdError + 'static)),
        None => error.source(),
    })
}
