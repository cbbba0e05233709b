//! A time that the provider reports of a credential.

use jiff::Timestamp;

/// The field with the time at which a credential was made.
pub const CREATION_FIELD: &str = "created_at";

/// The field with the end of a credential.
pub const EXPIRY_FIELD: &str = "expires_at";

/// A time in an answer of the provider. One that cannot be read is something else than
/// none: "never used" and "never expires" have consequences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReportedTime {
    /// The answer has no such time.
    #[default]
    None,
    /// The time.
    At(Timestamp),
    /// The answer has a value that is no time that rekeyd can read.
    Unreadable,
}

impl ReportedTime {
    /// Returns the time, if there is one that can be read.
    #[must_use]
    pub const fn readable(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::None | Self::Unreadable => None,
        }
    }
}

/// The end of a credential, as one answer of the provider shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShownEnd {
    /// The answer has no such field, or one that cannot be read.
    #[default]
    Unknown,
    /// The answer says that the credential has no end.
    Never,
    /// The end.
    At(Timestamp),
}

impl From<Option<Timestamp>> for ReportedTime {
    fn from(at: Option<Timestamp>) -> Self {
        at.map_or(Self::None, Self::At)
    }
}
