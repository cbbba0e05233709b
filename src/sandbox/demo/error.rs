//! The errors of a demo.

use crate::core::os_error;
use crate::daemon::error::ServiceError;
use crate::sandbox::SandboxError;
use crate::sandbox::receiver::ReceiverError;

/// The error of a demo that cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The demo's daemon failed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The sandbox does not start.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The receiver does not start.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// The demo's folder cannot be used.
    #[error("{}", os_error::describe(.0))]
    Io(#[from] std::io::Error),
    /// Any other error.
    #[error("{0}")]
    Other(String),
}
