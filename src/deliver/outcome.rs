//! How a message can end.

use super::Parked;
use crate::failure::Failure;

/// The end of an attempt to deliver a message. One that is kept nowhere else ends delivered or failed.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The endpoint took it.
    Delivered,
    /// It did not arrive, and this is why.
    Failed(Failure),
    /// Not known yet: it stays where it is kept, and is sent again from there.
    Parked(Parked),
}
