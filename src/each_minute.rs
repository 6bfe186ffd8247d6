//! Limits the logging of a repeated event to once a minute.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const EVERY: Duration = Duration::from_mins(1);

/// An event that may repeat often.
#[derive(Debug, Default)]
pub(crate) struct EachMinute(Mutex<Option<Logged>>);

#[derive(Debug, Clone, Copy)]
struct Logged {
    at: Instant,
    /// How often it happened since.
    times: u64,
}

/// How often it happened since the last line: shown as nothing if once, else as ` (12 times since the last such line)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times(u64);

impl EachMinute {
    /// Records that it happened; `None` if it was logged less than a minute ago.
    pub(crate) fn happened(&self, now: Instant) -> Option<Times> {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *logged {
            Some(logged) if now < logged.at + EVERY => {
                logged.times += 1;
                None
            }
            _ => {
                let before = logged.replace(Logged { at: now, times: 0 });
                Some(Times(before.map_or(0, |logged| logged.times) + 1))
            }
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 { write!(f, " ({} times since the last such line)", self.0) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_logged_once_a_minute_with_how_often_it_was() {
        let (repeats, now) = (EachMinute::default(), Instant::now());
        assert_eq!(repeats.happened(now).expect("it is the first").to_string(), "");
        for _ in 0..10 {
            assert_eq!(repeats.happened(now + EVERY / 2), None);
        }
        let times = repeats.happened(now + EVERY).expect("a minute has passed").to_string();
        assert_eq!(times, " (11 times since the last such line)");
    }
}
