//! What a process that ended by a panic leaves for the next one.

use std::fmt;

use jiff::Timestamp;

/// The end of a process by a panic: an error in rekeyd itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// When it ended.
    pub at: Timestamp,
    /// Its version.
    pub version: String,
    /// The place in the program: file, line and column.
    pub location: String,
    /// The message, without secrets.
    pub reason: String,
}

impl fmt::Display for Crash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            location,
            reason,
            ..
        } = self;
        write!(
            formatter,
            "rekeyd {version} crashed at {location}: {reason}"
        )
    }
}
