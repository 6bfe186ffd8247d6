//! The outcome of a message.

use super::Parked;
use crate::failure::Failure;

/// The outcome of delivering a message. One that is not kept elsewhere ends as delivered or failed.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The endpoint accepted it.
    Delivered,
    /// It was not delivered, for this reason.
    Failed(Failure),
    /// Not known yet: it stays where it is kept, and is sent again from there.
    Parked(Parked),
}
