//! Exponential backoff while something outside fails: logged once, then summed up.

use std::time::{Duration, Instant};

use iggy_connector_sdk::shown;
use tokio::sync::watch;

use crate::terminal::log::{self, Level};

const SHORTEST: Duration = Duration::from_millis(100);
/// How often the same trouble is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What is being waited for, and since when.
#[derive(Debug)]
pub(super) struct Backoff {
    what: String,
    longest: Duration,
    next: Duration,
    trouble: Option<Since>,
}

#[derive(Debug)]
struct Since {
    start: Instant,
    logged: Instant,
    times: u64,
}

impl Backoff {
    /// `what` begins the lines; pauses double up to `longest`.
    pub(super) fn new(what: String, longest: Duration) -> Self {
        Self { what, longest, next: SHORTEST, trouble: None }
    }

    /// Records a failure; returns how long to pause before the next attempt.
    pub(super) fn failed(&mut self, why: &str) -> Duration {
        let now = Instant::now();
        // The text may come from a server.
        let why = shown(why, 500);
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        if let Some(since) = &mut self.trouble {
            since.times += 1;
            if now - since.logged >= LOG_INTERVAL {
                since.logged = now;
                let lasted = whole_seconds(now - since.start);
                log::line(
                    Level::Warn,
                    &format!("{}: {why}: {} attempts in {lasted}", self.what, since.times),
                );
            }
        } else {
            self.trouble = Some(Since { start: now, logged: now, times: 1 });
            log::line(Level::Warn, &format!("{}: {why}: trying again", self.what));
        }
        pause
    }

    /// Records a success: sums up the failures before it.
    pub(super) fn worked(&mut self) {
        self.next = SHORTEST;
        if let Some(since) = self.trouble.take() {
            let lasted = whole_seconds(since.start.elapsed());
            let plural = if since.times == 1 { "" } else { "s" };
            let times = since.times;
            log::line(
                Level::Info,
                &format!("{}: works again after {times} failed attempt{plural} in {lasted}", self.what),
            );
        }
    }
}

fn whole_seconds(time: Duration) -> impl std::fmt::Display {
    humantime::format_duration(Duration::from_secs(time.as_secs()))
}

/// Sleeps until the time is over or `over` is true. Returns whether it slept to the end.
pub(super) async fn pause(time: Duration, over: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = asked(over) => false,
    }
}

/// Returns once `over` is true, or its sender is gone.
pub(super) async fn asked(over: &mut watch::Receiver<bool>) {
    let _ = over.wait_for(|over| *over).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_start_anew() {
        let mut backoff = Backoff::new("the server".to_owned(), Duration::from_millis(350));
        let pauses: Vec<u128> = (0..4).map(|_| backoff.failed("away").as_millis()).collect();
        assert_eq!(pauses, [100, 200, 350, 350]);
        backoff.worked();
        assert_eq!(backoff.failed("away").as_millis(), 100);
    }

    #[tokio::test]
    async fn a_pause_ends_when_it_is_over() {
        let (sender, mut over) = watch::channel(false);
        assert!(pause(Duration::from_millis(1), &mut over).await);
        sender.send_replace(true);
        assert!(!pause(Duration::from_secs(60), &mut over).await);
    }
}
