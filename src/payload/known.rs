//! What is known about a payload.

/// What is known about a payload before it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Known {
    /// Nothing yet.
    #[default]
    Nothing,
    /// It is JSON: a placeholder referred to a field of it.
    Json {
        /// Whether it is known to have no line breaks.
        one_line: bool,
    },
}
