//! The errors of a channel.

use std::time::Duration;

use crate::platform::BlockingError;
use crate::platform::process::{ExitKind, ProcessExit};

/// A problem of a channel, or the reason why it could not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChannelError {
    /// The kind of problem.
    pub kind: ChannelErrorKind,
    /// The failure, its reason and its remedy; masked, as it may quote a program
    /// or a receiver.
    pub message: String,
    /// The pause that the receiver asks for before the next attempt.
    pub retry_after: Option<Duration>,
    /// Whether the receiver refused this notification for itself, and may accept others.
    pub is_refusal: bool,
}

/// The kinds of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelErrorKind {
    /// Files or programs of this host do not satisfy the channel.
    Host,
    /// The receiver does not accept a connection, or did not answer.
    Unreachable,
    /// The receiver or the program reported a failure.
    Rejected,
    /// A file system or a program did not respond in time.
    TimedOut,
    /// A bug in rekeyd.
    Internal,
}

impl ChannelError {
    /// Returns an error of this kind.
    #[must_use]
    pub const fn new(kind: ChannelErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            retry_after: None,
            is_refusal: false,
        }
    }

    /// Returns a problem of this host.
    #[must_use]
    pub const fn host(message: String) -> Self {
        Self::new(ChannelErrorKind::Host, message)
    }

    /// Returns the error of a failed run of a program, described by `message`.
    #[must_use]
    pub const fn from_exit(exit: &ProcessExit, message: String) -> Self {
        let kind = match exit.kind {
            ExitKind::NotStarted(_) => ChannelErrorKind::Host,
            ExitKind::Code(_) | ExitKind::Signal(_) | ExitKind::Failed(_) => {
                ChannelErrorKind::Rejected
            }
            ExitKind::TimedOut => ChannelErrorKind::TimedOut,
        };
        Self::new(kind, message)
    }
}

impl From<BlockingError> for ChannelError {
    fn from(error: BlockingError) -> Self {
        let kind = match error {
            BlockingError::TimedOut { .. } | BlockingError::Exhausted { .. } => {
                ChannelErrorKind::TimedOut
            }
            BlockingError::Panicked { .. } => ChannelErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}
