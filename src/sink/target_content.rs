//! What the target of a sink holds, regardless of who wrote it.

use std::fmt;

use rustix::io::Errno;

use crate::core::os_error;
use crate::core::secret::Secret;

/// What a target holds, as far as this host can read it.
#[derive(Debug, Clone)]
pub enum TargetContent {
    /// This host cannot read targets of this type, or its content has changed.
    Unknown,
    /// This host can read targets of this type, but not now.
    Unseen(UnseenCause),
    /// The target does not exist, or holds nothing that looks like a key.
    NoKey,
    /// The target is there and may hold a key, and this process does not read it.
    Unreadable(UnseenCause),
    /// Every text that looks like a key, at least one.
    Keys(Vec<Secret>),
}

impl TargetContent {
    /// Returns the content of a target that holds `text`.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let keys = crate::core::key_shape::find_keys(text);
        let keys: Vec<_> = keys.into_iter().map(Secret::new).collect();
        if keys.is_empty() {
            Self::NoKey
        } else {
            Self::Keys(keys)
        }
    }

    /// Returns the keys that it holds, as far as they are known.
    #[must_use]
    pub fn keys(&self) -> &[Secret] {
        match self {
            Self::Keys(keys) => keys,
            Self::Unknown | Self::Unseen(_) | Self::NoKey | Self::Unreadable(_) => &[],
        }
    }

    /// Returns why a target of a type that this host can read was not read.
    #[must_use]
    pub const fn unseen_cause(&self) -> Option<UnseenCause> {
        match self {
            Self::Unseen(cause) | Self::Unreadable(cause) => Some(*cause),
            Self::Unknown | Self::NoKey | Self::Keys(_) => None,
        }
    }
}

/// Why this host cannot see what a target holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnseenCause {
    /// The permissions of the file, or of a folder on its way.
    PermissionDenied,
    /// It is longer than what is read.
    TooLong,
    /// Its folder is not there: perhaps it is not mounted.
    FolderMissing,
    /// It is a symbolic link, or no regular file.
    NotRegular,
    /// Another process has a lease on it.
    Leased,
    /// Its file system does not answer.
    Hanging,
    /// The system cannot read it.
    Failed(Errno),
}

impl fmt::Display for UnseenCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::PermissionDenied => "rekeyd's user cannot read it",
            Self::TooLong => "it is too long to search",
            Self::FolderMissing => "its folder does not exist",
            Self::NotRegular => "it is a symbolic link or not a regular file",
            Self::Leased => "another process holds a lease on it",
            Self::Hanging => "its file system does not respond",
            Self::Failed(error) => {
                return formatter.write_str(&os_error::describe(&(*error).into()));
            }
        })
    }
}
