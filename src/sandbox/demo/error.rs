//! Why a demo cannot start, or cannot go on.

use crate::daemon::error::ServiceError;

/// Why a demo cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The daemon in it cannot.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Its folder cannot be found.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}
