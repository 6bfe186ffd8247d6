//! Outages of an endpoint in the log: a line when one begins, each minute, and when it ends.
//!
//! [`Outage`] is the policy: it has no clock, and is told how and when attempts end. An outage that begins within a minute of
//! the last warning is not logged before that minute is over, so that an endpoint that comes and goes cannot fill the log.

mod outages;
mod watch;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

pub(super) use self::outages::Outages;
use crate::telemetry::Outcomes;

/// How often an outage that goes on is logged.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// This many failures in a row over at least [`AT_LEAST`] are an outage, unless the breaker opens earlier. Requests in flight
/// together may fail at the same moment, which is not yet an outage.
const FAILURES: u64 = 5;
const AT_LEAST: Duration = Duration::from_secs(1);
/// A single failure is an outage if messages have to wait this long after it.
const LONG_WAIT: Duration = Duration::from_secs(10);

/// What is known about the failures of an endpoint since its last success.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failing: Option<Failing>,
    /// When the last warning was.
    warned: Option<Instant>,
    /// Outages since then that ended before they were logged.
    unlogged: u32,
}

#[derive(Debug)]
struct Failing {
    since: SystemTime,
    began: Instant,
    attempts: u64,
    /// How the last attempt ended.
    cause: String,
    /// When the next attempt is due, as far as the last one knew.
    next: Option<Instant>,
    /// Whether it is an outage.
    lasts: bool,
    logged: bool,
    /// What the connector had settled when it began.
    before: Outcomes,
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) at: SystemTime,
    /// How it ended, for people.
    pub(super) cause: String,
    /// When messages are sent again; `None`: the next ones are sent at once.
    pub(super) next: Option<Instant>,
    /// Whether the breaker is open.
    pub(super) is_open: bool,
    /// What the connector has settled so far.
    pub(super) outcomes: Outcomes,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// It began, or goes on.
    Warn {
        /// Whether it was logged before.
        again: bool,
        since: SystemTime,
        lasted: Duration,
        attempts: u64,
        cause: String,
        next: Option<Instant>,
        /// Outages before it that were not logged.
        unlogged: u32,
    },
    /// It is over.
    Info { lasted: Duration, attempts: u64, before: Outcomes },
    /// The connector is closed before it is over.
    Closed { since: SystemTime, lasted: Duration, attempts: u64, cause: String, before: Outcomes },
}

impl Outage {
    /// Records that an attempt failed in a transient way.
    pub(super) fn failed(&mut self, now: Instant, failed: Failed) -> Option<Line> {
        let Failed { at, cause, next, is_open, outcomes } = failed;
        let failing = self.failing.get_or_insert_with(|| Failing {
            since: at,
            began: now,
            attempts: 0,
            cause: String::new(),
            next: None,
            lasts: false,
            logged: false,
            before: outcomes,
        });
        failing.attempts += 1;
        failing.cause = cause;
        failing.next = next;
        failing.lasts |= is_open
            || failing.attempts >= FAILURES && now.saturating_duration_since(failing.began) >= AT_LEAST
            || next.is_some_and(|next| next.saturating_duration_since(now) >= LONG_WAIT);
        let silent = failing.logged || self.warned.is_some_and(|warned| now < warned + LOG_INTERVAL);
        if failing.lasts && !silent { self.warn(now) } else { None }
    }

    /// Records that the endpoint accepted a request, or refused it for good.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Line> {
        let failing = self.failing.take()?;
        if !failing.logged {
            self.unlogged += u32::from(failing.lasts);
            return None;
        }
        Some(Line::Info {
            lasted: now.saturating_duration_since(failing.began),
            attempts: failing.attempts,
            before: failing.before,
        })
    }

    /// Records that the connector is closed. The line is returned once.
    pub(super) fn closed(&mut self, now: Instant) -> Option<Line> {
        let failing = self.failing.take().filter(|failing| failing.lasts)?;
        Some(Line::Closed {
            since: failing.since,
            lasted: now.saturating_duration_since(failing.began),
            attempts: failing.attempts,
            cause: failing.cause,
            before: failing.before,
        })
    }

    /// When [`Self::minute`] is due; `None` where there is nothing to log.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let lasts = self.failing.as_ref().is_some_and(|failing| failing.lasts);
        lasts.then(|| self.warned.map_or(now, |warned| warned + LOG_INTERVAL))
    }

    /// A minute has passed since the last warning.
    pub(super) fn minute(&mut self, now: Instant) -> Option<Line> {
        self.due(now).filter(|due| *due <= now).and_then(|_| self.warn(now))
    }

    fn warn(&mut self, now: Instant) -> Option<Line> {
        let failing = self.failing.as_mut()?;
        let line = Line::Warn {
            again: failing.logged,
            since: failing.since,
            lasted: now.saturating_duration_since(failing.began),
            attempts: failing.attempts,
            cause: failing.cause.clone(),
            next: failing.next,
            unlogged: self.unlogged,
        };
        (failing.logged, self.warned, self.unlogged) = (true, Some(now), 0);
        Some(line)
    }

    fn is_failing(&self) -> bool {
        self.failing.is_some()
    }
}

/// Rounds a duration for people: to seconds, or to milliseconds below one second.
fn rounded(duration: Duration) -> humantime::FormattedDuration {
    let rounded = if duration < Duration::from_secs(1) {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(duration.as_secs())
    };
    humantime::format_duration(rounded)
}

impl fmt::Display for Line {
    /// Writes the text after the name of the endpoint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warn { again, since, lasted, attempts, cause, unlogged, .. } => {
                let verb = if *again { "still fails" } else { "keeps failing" };
                write!(
                    f,
                    "{verb}: {cause} (attempt {attempts} since {}, {} ago)",
                    humantime::format_rfc3339_seconds(*since),
                    rounded(*lasted)
                )?;
                if *unlogged > 0 {
                    write!(f, "; it was away {unlogged} times more since the last warning")?;
                }
                Ok(())
            }
            Self::Info { lasted, attempts, .. } => {
                write!(f, "is back after {}: {attempts} attempts failed", rounded(*lasted))
            }
            Self::Closed { since, lasted, attempts, cause, .. } => write!(
                f,
                "is still away at close: {cause} ({attempts} attempts failed since {}, {} ago)",
                humantime::format_rfc3339_seconds(*since),
                rounded(*lasted)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed(next: Option<Instant>) -> Failed {
        let cause = "answered 503 Service Unavailable: busy".to_owned();
        Failed { at: SystemTime::UNIX_EPOCH, cause, next, is_open: false, outcomes: Outcomes::default() }
    }

    fn fail(outage: &mut Outage, now: Instant) -> Option<String> {
        outage.failed(now, failed(Some(now + SECOND))).map(|line| line.to_string())
    }

    /// Fails until it is an outage; returns when that was logged.
    fn begun(outage: &mut Outage, now: Instant) -> Instant {
        for _ in 1..FAILURES {
            assert_eq!(fail(outage, now), None);
        }
        let now = now + SECOND * 7;
        let line = fail(outage, now).expect("it is logged");
        assert_eq!(
            line,
            "keeps failing: answered 503 Service Unavailable: busy (attempt 5 since 1970-01-01T00:00:00Z, 7s ago)"
        );
        now
    }

    #[test]
    fn an_outage_is_logged_when_it_begins_each_minute_and_when_it_is_over() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let logged = begun(&mut outage, start);
        assert_eq!(fail(&mut outage, logged + SECOND), None, "it was logged");
        assert_eq!(outage.due(logged), Some(logged + LOG_INTERVAL));
        assert_eq!(outage.minute(logged + LOG_INTERVAL - SECOND), None);
        let line = outage.minute(logged + LOG_INTERVAL).expect("a minute has passed").to_string();
        assert!(
            line.starts_with("still fails: ") && line.contains("attempt 6 ") && line.contains("1m 7s ago")
        );
        assert_eq!(outage.minute(logged + LOG_INTERVAL), None);
        let line = outage.answered(logged + SECOND * 193).expect("it is over");
        assert_eq!(line.to_string(), "is back after 3m 20s: 6 attempts failed");
        assert_eq!((outage.due(logged), outage.answered(logged)), (None, None));
    }

    #[test]
    fn one_that_goes_on_at_close_is_logged_once() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        fail(&mut outage, start);
        assert_eq!(outage.closed(start), None, "a single failure is none");
        let told = begun(&mut outage, start);
        let line = outage.closed(told + SECOND).expect("it goes on").to_string();
        let cause = "answered 503 Service Unavailable: busy";
        assert_eq!(
            line,
            format!("is still away at close: {cause} (5 attempts failed since 1970-01-01T00:00:00Z, 8s ago)")
        );
        assert_eq!((outage.closed(told), outage.due(told)), (None, None));
    }

    #[test]
    fn failures_between_successes_are_none() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        for _ in 0..100 {
            for _ in 0..FAILURES * 2 {
                assert_eq!(fail(&mut outage, now), None, "they were under way together");
            }
            assert_eq!(outage.answered(now), None);
        }
        assert_eq!((outage.due(now), outage.unlogged), (None, 0));
    }

    #[test]
    fn a_breaker_that_opens_and_a_long_pause_are_logged_at_once() {
        let now = Instant::now();
        let open = Failed { is_open: true, ..failed(None) };
        assert!(Outage::default().failed(now, open).is_some());
        assert!(Outage::default().failed(now, failed(Some(now + LONG_WAIT))).is_some());
        assert!(Outage::default().failed(now, failed(Some(now + SECOND))).is_none());
    }

    #[test]
    fn an_endpoint_that_comes_and_goes_is_logged_once_a_minute() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let logged = begun(&mut outage, start);
        assert!(outage.answered(logged).is_some());
        let mut lines = Vec::new();
        for second in 0..150 {
            let now = logged + SECOND * second;
            let open = Failed { is_open: true, ..failed(None) };
            lines.extend(outage.failed(now, open).map(|line| line.to_string()));
            lines.extend(outage.minute(now).map(|line| line.to_string()));
            lines.extend(outage.answered(now).map(|line| line.to_string()));
        }
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].contains("it was away 60 times more"), "{lines:?}");
        assert!(lines[1].starts_with("is back"), "{lines:?}");
    }
}
