//! Learns from answers with 413 how large a body the endpoint accepts.

use std::time::Duration;

use tokio::time::Instant;

/// How long a refused size is remembered.
const HOLDS: Duration = Duration::from_mins(10);

/// The search ends when the largest accepted size and the smallest refused size differ by less than one part in this many.
const PRECISION: usize = 16;

/// The largest body worth sending.
///
/// It searches between the largest accepted and the smallest refused size by bisection, so that after a few requests bodies
/// are nearly as large as they can be. A refused size is forgotten after ten minutes; then bodies grow again, by doubling.
#[derive(Debug, Default)]
pub(super) struct LearnedSize {
    taken: usize,
    refused: Option<(usize, Instant)>,
}

impl LearnedSize {
    /// Returns the maximum size that a body of several messages should have now, in bytes.
    pub(super) fn limit(&mut self, now: Instant) -> usize {
        let Some((refused, at)) = self.refused else { return usize::MAX };
        if now.saturating_duration_since(at) >= HOLDS {
            // The limit may be twice as high by now, or there may be none any more.
            let probe = refused.saturating_mul(2);
            self.refused = Some((probe, now));
            self.taken = self.taken.max(refused / 2);
            return refused;
        }
        if refused - self.taken <= refused / PRECISION {
            self.taken
        } else {
            self.taken + (refused - self.taken) / 2
        }
    }

    /// Records that a body of this size was accepted.
    pub(super) fn taken(&mut self, bytes: usize) {
        if let Some((refused, at)) = self.refused {
            self.taken = self.taken.max(bytes);
            if bytes >= refused {
                // The endpoint accepts more than before: search further up.
                self.refused = Some((bytes.saturating_mul(2), at));
            }
        }
    }

    /// Records that a body of several messages and of this size was answered with 413.
    pub(super) fn refused(&mut self, bytes: usize, now: Instant) {
        let smallest = self.refused.map_or(bytes, |(refused, _)| refused.min(bytes));
        self.refused = Some((smallest, now));
        // It accepts less than before: earlier acceptances no longer count.
        if self.taken >= smallest {
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as much as is allowed each time, to an endpoint with this limit; the sizes that were sent.
    fn send(size: &mut LearnedSize, limit: usize, offered: usize, now: Instant, times: usize) -> Vec<usize> {
        (0..times)
            .map(|_| {
                let bytes = size.limit(now).min(offered);
                if bytes <= limit {
                    size.taken(bytes);
                } else {
                    size.refused(bytes, now);
                }
                bytes
            })
            .collect()
    }

    #[test]
    fn nothing_is_limited_before_a_refusal() {
        assert_eq!(LearnedSize::default().limit(Instant::now()), usize::MAX);
    }

    #[test]
    fn the_size_settles_just_below_the_limit_after_a_few_requests() {
        let now = Instant::now();
        for limit in [1_000, 100_000, 102_400, 499_999, 5_000_000] {
            let mut size = LearnedSize::default();
            send(&mut size, limit, 10_000_000, now, 20);
            let settled = send(&mut size, limit, 10_000_000, now, 100);
            assert!(settled.iter().all(|bytes| *bytes <= limit), "limit {limit}: {settled:?}");
            assert!(settled.iter().all(|bytes| bytes * 10 > limit * 9), "limit {limit}: {settled:?}");
        }
    }

    #[test]
    fn a_learned_size_is_probed_upward_after_a_while_also_in_quiet_times() {
        let start = Instant::now();
        let mut size = LearnedSize::default();
        send(&mut size, 100_000, 1_000_000, start, 30);
        let mut later = start;
        for _ in 0..8 {
            later += HOLDS;
            send(&mut size, usize::MAX, 1_000_000, later, 20);
        }
        assert!(size.limit(later) >= 1_000_000, "{size:?}");
    }

    #[test]
    fn a_probe_that_is_refused_costs_few_requests() {
        let start = Instant::now();
        let mut size = LearnedSize::default();
        send(&mut size, 100_000, 1_000_000, start, 30);
        let sent = send(&mut size, 100_000, 1_000_000, start + HOLDS, 100);
        assert!(sent.iter().filter(|bytes| **bytes > 100_000).count() <= 8, "{sent:?}");
    }

    #[test]
    fn a_limit_that_sinks_is_followed() {
        let now = Instant::now();
        let mut size = LearnedSize::default();
        send(&mut size, 100_000, 1_000_000, now, 30);
        send(&mut size, 10_000, 1_000_000, now, 40);
        let settled = send(&mut size, 10_000, 1_000_000, now, 50);
        assert!(settled.iter().all(|bytes| (9_000..=10_000).contains(bytes)), "{settled:?}");
    }
}
