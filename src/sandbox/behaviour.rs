//! Behaviours of the API that differ from time to time, or from organization to organization.

use std::fmt;
use std::time::Duration;

/// The delays until a change affects the acceptance of secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PropagationDelays {
    /// The time for which a new secret is refused.
    pub new_key: Duration,
    /// The time for which a deleted key's secret is accepted.
    pub deleted_key: Duration,
}

/// Whether the API has an operation. It got some of them late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Support {
    /// It does what is asked.
    #[default]
    Works,
    /// It refuses every request.
    Refused,
}

impl Support {
    /// Returns its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Support {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
