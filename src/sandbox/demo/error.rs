//! The errors of a demo.

use crate::daemon::error::ServiceError;

/// The error of a demo that cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The demo's daemon failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The demo's folder cannot be used.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Any other error.
    #[error("{0}")]
    Other(String),
}
