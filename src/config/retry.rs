//! The keys of retries: which answers are retried, held or isolated, and for how long.

use std::{collections::BTreeSet, time::Duration};

use super::{Jitter, RetryConfig, reader::Reader};

/// With a spool, waiting costs the caller nothing, so longer retries are worthwhile.
pub(super) fn read(keys: &mut Reader<'_>, spooled: bool) -> RetryConfig {
    let (max_retries, max_duration) =
        if spooled { (u32::MAX, Duration::from_hours(12)) } else { (3, Duration::from_mins(5)) };
    let retry = RetryConfig {
        max_retries: keys.integer("max_retries", 0..=u32::MAX, max_retries),
        delay: keys.duration("retry_delay", Duration::from_secs(1)),
        multiplier: keys.integer("retry_backoff_multiplier", 1..=u32::MAX, 2),
        max_delay: keys.duration("max_retry_delay", Duration::from_secs(30)),
        jitter: keys.choice("retry_jitter", Jitter::Full),
        max_duration: keys.duration("max_retry_duration", max_duration),
        max_retry_after: keys.duration("max_retry_after", Duration::from_mins(5)),
        status_codes: keys.status_codes("retry_status_codes", true, &retryable_by_default()),
        hold_status_codes: keys.status_codes("hold_status_codes", true, &[]),
        isolate_status_codes: keys.status_codes("isolate_status_codes", true, &[400, 422]),
    };
    if retry.delay > retry.max_delay {
        keys.problem(
            "retry_delay",
            format!(
                "{} is above max_retry_delay, {}: lower it, or raise max_retry_delay",
                humantime::format_duration(retry.delay),
                humantime::format_duration(retry.max_delay)
            ),
        );
    }
    retry
}

/// The lists of status codes: the first that contains a code decides.
const STATUS_LISTS: [&str; 4] =
    ["success_status_codes", "hold_status_codes", "retry_status_codes", "isolate_status_codes"];

/// Which of [`STATUS_LISTS`] are given. No warning is needed for a code of a default that an earlier list decides.
pub(super) struct StatusLists([bool; 4]);

impl StatusLists {
    pub(super) fn given(keys: &Reader<'_>) -> Self {
        Self(STATUS_LISTS.map(|key| keys.gives(key)))
    }

    /// Returns warnings about codes that are in two of them.
    pub(super) fn overlaps(&self, success: &BTreeSet<u16>, retry: &RetryConfig) -> Vec<String> {
        let codes = [success, &retry.hold_status_codes, &retry.status_codes, &retry.isolate_status_codes];
        let lists: Vec<_> = STATUS_LISTS.iter().zip(codes).zip(self.0).collect();
        let mut found = Vec::new();
        for (index, ((key, codes), _)) in lists.iter().enumerate().filter(|(_, (_, given))| *given) {
            for ((first, others), given) in &lists[..index] {
                let default = if *given { "" } else { " by default" };
                for code in codes.intersection(others) {
                    found.push(format!(
                        "{key} holds {code}, and so does {first}{default}, which decides: remove it from one of them"
                    ));
                }
            }
        }
        found
    }
}

/// 408, 425, 429 and every 5xx except 501 and 505, for which a retry cannot help (RFC 9110 section 15.6).
fn retryable_by_default() -> Vec<u16> {
    [408, 425, 429].into_iter().chain((500..=599).filter(|code| ![501, 505].contains(code))).collect()
}
