//! Which messages wait for which.

use super::Template;

/// What is kept in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordering {
    /// The messages of each partition.
    Partition,
    /// The messages with the same key.
    Key(Template),
    /// Nothing.
    None,
}
