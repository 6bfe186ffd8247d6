//! The one loop around attempts, with the one wait between them.

use reqwest::StatusCode;
use reqwest_middleware::ClientWithMiddleware;
use tracing::debug;

use super::{
    attempt::{Answer, Fault, FaultKind, attempt},
    backoff::Backoff,
    classify::{Class, Classifier},
    client,
    patience::Patience,
    request::RequestTemplate,
};
use crate::{
    config::{Config, Method},
    encode::Body,
    settle::{Failure, Outcome, Reason, excerpt},
    telemetry::Counters,
};

/// How much of an answer a line of the log shows, in bytes.
const SHOWN: usize = 200;

/// Everything one connector needs to bring bodies to its endpoint.
#[derive(Debug)]
pub(crate) struct Delivery {
    client: ClientWithMiddleware,
    template: RequestTemplate,
    classifier: Classifier,
    backoff: Backoff,
    max_response_bytes: usize,
    verbose: bool,
}

impl Delivery {
    /// # Errors
    /// The client cannot be built, or a secret went missing since the configuration was checked.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        Ok(Self {
            client: client::build(&config.client)?,
            template: RequestTemplate::new(config)?,
            classifier: Classifier::new(config),
            backoff: Backoff::new(&config.retry),
            max_response_bytes: config.max_response_bytes,
            verbose: config.verbose_logging,
        })
    }

    /// The endpoint, as it may be shown.
    pub(crate) fn label(&self) -> String {
        self.template.label()
    }

    /// Reads secrets again whose files changed.
    pub(crate) fn refresh(&self) {
        self.template.refresh();
    }

    /// Asks once whether the endpoint is there and content.
    ///
    /// # Errors
    /// What it answered, or why it did not.
    pub(crate) async fn health_check(&self, method: Method) -> Result<StatusCode, String> {
        let request = self.template.probe(method.into());
        match attempt(&self.client, request, |status| self.keep(status)).await {
            Ok(answer) if self.class(&answer) == Class::Success => Ok(answer.status),
            Ok(answer) => Err(format!(
                "{} answered {method} with {}, which is not in success_status_codes: {}",
                self.label(),
                answer.status,
                excerpt(&answer.excerpt, SHOWN)
            )),
            Err(fault) => Err(format!("{} did not answer {method}: {fault}", self.label())),
        }
    }

    /// Sends a body until it is delivered or there is no use in going on.
    pub(crate) async fn deliver(&self, body: &Body, mut patience: Patience, counters: &Counters) -> Outcome {
        let mut attempts = 0;
        let mut spent = 0;
        loop {
            let request = self.template.request(&body.bytes);
            let mut closing = patience.clone();
            attempts += 1;
            counters.request(body.bytes.len());
            if self.verbose {
                let (bytes, messages) = (body.bytes.len(), body.len());
                debug!(
                    "sending {bytes} bytes with {messages} messages to {}, attempt {attempts}",
                    self.label()
                );
            }
            let ended = tokio::select! {
                // Once closed, an attempt is not even begun.
                biased;
                () = closing.closed() => return failed(Reason::Closed, attempts, None),
                ended = attempt(&self.client, request, |status| self.keep(status)) => ended,
            };
            if self.verbose {
                debug!("{}: {}", self.label(), ended_as(&ended));
            }
            let wait = match &ended {
                Ok(answer) => match self.class(answer) {
                    Class::Success => return Outcome::Delivered,
                    Class::Permanent => return failed(Reason::Rejected, attempts, Some(ended)),
                    // What the server asks for is not counted: it says itself when it has had enough.
                    Class::Retry => match answer.retry_after {
                        Some(asked) => Some(self.backoff.asked(asked)),
                        None => self.backoff.wait(spent).inspect(|_| spent += 1),
                    },
                },
                Err(Fault { kind: FaultKind::Request, .. }) => {
                    return failed(Reason::Rejected, attempts, Some(ended));
                }
                Err(_) => self.backoff.wait(spent).inspect(|_| spent += 1),
            };
            let Some(wait) = wait else {
                return failed(Reason::RetriesExhausted, attempts, Some(ended));
            };
            debug!(
                "{}: {}; waiting {wait:?} before attempt {}",
                self.label(),
                ended_as(&ended),
                attempts + 1
            );
            if !patience.wait(wait).await {
                return failed(Reason::DeadlineExceeded, attempts, Some(ended));
            }
            counters.retry();
        }
    }

    fn class(&self, answer: &Answer) -> Class {
        self.classifier.status(answer.status.as_u16())
    }

    fn keep(&self, status: StatusCode) -> usize {
        let wanted = self.verbose || self.classifier.status(status.as_u16()) != Class::Success;
        if wanted { self.max_response_bytes } else { 0 }
    }
}

fn failed(reason: Reason, attempts: u32, ended: Option<Result<Answer, Fault>>) -> Outcome {
    let (status, detail) = match ended {
        Some(Ok(answer)) => (Some(answer.status.as_u16()), answer.excerpt),
        Some(Err(fault)) => (None, fault.to_string()),
        None => (None, String::new()),
    };
    Outcome::Failed(Failure { reason, status, detail, attempts })
}

/// How an attempt ended, for the log.
fn ended_as(ended: &Result<Answer, Fault>) -> String {
    match ended {
        Ok(answer) => format!("answered {} {}", answer.status, excerpt(&answer.excerpt, SHOWN)),
        Err(fault) => format!("no answer, {fault}"),
    }
}
