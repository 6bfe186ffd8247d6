//! From a body to an outcome for each of its messages.

mod attempt;
mod backoff;
mod classify;
mod client;
mod patience;
mod request;
mod retry;
mod retry_after;

pub(crate) use patience::Patience;
pub(crate) use retry::Delivery;
