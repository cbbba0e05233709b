//! Why a channel cannot send.

use crate::platform::BlockingError;
use crate::platform::process::{ExitKind, ProcessExit};

/// One problem of a channel, or the reason why it did not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ChannelError {
    /// What kind of problem it is.
    pub kind: ChannelErrorKind,
    /// What failed, why, and what to do; masked, as it may quote a program or a
    /// receiver.
    pub message: String,
}

/// The kinds of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelErrorKind {
    /// Files or programs of this host are not as the channel needs them.
    Host,
    /// The receiver does not accept a connection, or gave no answer.
    Unreachable,
    /// The receiver or the program answered that it failed.
    Rejected,
    /// A file system or a program gave no answer in time.
    TimedOut,
    /// A mistake in rekeyd.
    Internal,
}

impl ChannelError {
    /// An error of this kind.
    #[must_use]
    pub const fn new(kind: ChannelErrorKind, message: String) -> Self {
        Self { kind, message }
    }

    /// A problem of this host.
    #[must_use]
    pub const fn host(message: String) -> Self {
        Self::new(ChannelErrorKind::Host, message)
    }

    /// A failed run of a program, described by `message`.
    #[must_use]
    pub const fn of_exit(exit: &ProcessExit, message: String) -> Self {
        let kind = match exit.kind {
            ExitKind::NotStarted(_) => ChannelErrorKind::Host,
            ExitKind::Code(_) | ExitKind::Signal(_) | ExitKind::Failed(_) => {
                ChannelErrorKind::Rejected
            }
            ExitKind::TimedOut => ChannelErrorKind::TimedOut,
        };
        Self { kind, message }
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
