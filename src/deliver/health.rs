//! The health check at open: whether the endpoint answers with success.

use reqwest::StatusCode;
use tokio::time::Instant;
use tracing::warn;

use super::{
    attempt::{Attempt, How, Keep, SHOWN, answered, attempt},
    classify::Class,
    deadline::Deadline,
    delivery::Delivery,
    retry::RetryState,
};
use crate::config::HealthCheckMethod;

/// The retries of the check if those of requests are unlimited: somebody waits for open to return.
const RETRIES: u32 = 3;

impl Delivery {
    /// Sends a request until the endpoint answers with success, with the retries, waits and deadline of other requests.
    ///
    /// # Errors
    /// The last answer, or why there was none, and the number of attempts.
    pub(crate) async fn health_check(
        &self,
        method: HealthCheckMethod,
        mut deadline: Deadline,
    ) -> Result<StatusCode, String> {
        let max_retries = if self.max_retries == u32::MAX { RETRIES } else { self.max_retries };
        let mut retry = RetryState::default();
        let (mut asked_times, mut how) = (0, How::default());
        loop {
            self.template.refresh(&self.endpoint.meter);
            let request = || self.template.probe(method.into());
            let keep = Keep { of_success: 0, of_others: SHOWN, whole: None };
            let attempt = attempt(&self.client, &self.classifier, request, how, keep, deadline.clone()).await;
            let Some(Attempt { class, ended }) = attempt else {
                return Err(format!("{}: the connector was closed", self.endpoint.label));
            };
            let ended = self.template.masked(ended);
            asked_times += 1;
            self.watch_trust(&ended);
            let (why, retry_after) = match &ended {
                Ok(answer) if class == Class::Success => return Ok(answer.status),
                Ok(answer) => {
                    if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                        self.template.refused();
                    }
                    let answered = answered(answer.status, &answer.excerpt);
                    let why = format!(
                        "{} {answered} to {method}, which is not in success_status_codes",
                        self.endpoint.label
                    );
                    (why, answer.retry_after)
                }
                Err(fault) => (format!("{} did not answer {method}: {fault}", self.endpoint.label), None),
            };
            let times = if asked_times == 1 { "once".to_owned() } else { format!("{asked_times} times") };
            let failed = format!("{why} (asked {times})");
            let asked = retry_after.map(|asked| self.backoff.asked(asked));
            let Some(wait) = retry.wait(class, asked, &self.backoff, max_retries) else { return Err(failed) };
            if deadline.has_passed() {
                return Err(failed);
            }
            if asked_times == 1 {
                warn!("health check: {why}: retrying until no retries or time are left");
            }
            let mut until = Instant::now() + wait;
            if asked.is_some() {
                // As for other requests, a pause ends at the deadline, and a last attempt follows.
                until = until.min(deadline.at());
            }
            if deadline.wait_until(until).await.is_err() {
                return Err(failed);
            }
            how =
                How { fresh: class == Class::Stale, renewed: how.renewed || class == Class::Reauthenticate };
        }
    }
}
