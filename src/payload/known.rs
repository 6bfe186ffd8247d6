//! What is known of a payload.

/// What is known of a payload before it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Known {
    /// Nothing yet.
    #[default]
    Nothing,
    /// It is JSON: a placeholder asked for a field of it.
    Json {
        /// Whether it surely has no line breaks.
        one_line: bool,
    },
}
