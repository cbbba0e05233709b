//! When a key is due by its schedule.

use std::time::Duration;

use jiff::Timestamp;

/// A cron expression with its time zone.
#[derive(Debug, Clone)]
pub struct Schedule {}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

impl Schedule {
    /// Reads a cron expression in `zone`.
    ///
    /// # Errors
    /// A text that is no cron expression, in words that say what would be one.
    pub fn parse(_expression: &str, _zone: jiff::tz::TimeZone) -> Result<Self, ScheduleError> {
        Err(ScheduleError(String::new()))
    }
    /// The expression as it was written.
    #[must_use]
    pub fn expression(&self) -> &str {
        ""
    }
    /// The first firing after `at`; none if it never fires again.
    #[must_use]
    pub fn next_after(&self, _at: Timestamp) -> Option<Timestamp> {
        None
    }
    /// The last firing at or before `at` and after `since`.
    #[must_use]
    pub fn last_between(&self, _since: Timestamp, _at: Timestamp) -> Option<Timestamp> {
        None
    }
    /// The shortest time between two firings in the 400 days after `from`.
    #[must_use]
    pub fn shortest_gap(&self, _from: Timestamp) -> Option<Duration> {
        None
    }
}
