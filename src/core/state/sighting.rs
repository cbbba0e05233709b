//! A retired credential that the target of a sink holds again.

use jiff::Timestamp;

/// The time in which the target of a sink held a retired credential again: somebody
/// restored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// When it was first seen there.
    pub since: Timestamp,
    /// When the target no longer held it: the sink accepted a newer one, or other content
    /// was seen. None while the target holds it.
    pub until: Option<Timestamp>,
}

impl Sighting {
    /// Returns whether the target holds the credential, as far as is known.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.until.is_none()
    }
}
