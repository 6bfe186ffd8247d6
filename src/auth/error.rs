//! Why a request has no credentials.

use std::sync::Arc;

/// Why a request has no credentials, so that it was not sent.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AuthError {
    /// The token endpoint cannot be reached.
    #[error("no token from {endpoint}")]
    Unreachable {
        /// Scheme, host and port.
        endpoint: String,
        #[source]
        why: Arc<reqwest_middleware::Error>,
    },
    /// The token endpoint grants no token at present.
    #[error("no token from {endpoint}: {why}")]
    NoToken {
        /// Scheme, host and port.
        endpoint: String,
        why: String,
    },
    /// The token endpoint refuses the client, until somebody fixes that.
    #[error("{endpoint} refuses to give a token: {why}")]
    Refused {
        /// Scheme, host and port.
        endpoint: String,
        why: String,
    },
    /// A secret cannot be read.
    #[error("{0}")]
    Secret(String),
}

impl AuthError {
    /// The token endpoint that it is about.
    pub(super) fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Unreachable { endpoint, .. }
            | Self::NoToken { endpoint, .. }
            | Self::Refused { endpoint, .. } => Some(endpoint),
            Self::Secret(_) => None,
        }
    }

    /// Whether it may resolve itself.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoToken { .. } => true,
            Self::Refused { .. } | Self::Secret(_) => false,
        }
    }
}
