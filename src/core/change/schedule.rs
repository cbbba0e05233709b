//! Changes to when a key is rotated.

use jiff::Timestamp;

/// A change to the scheduling of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleChange {
    /// A rotation failed or could not start.
    BackedOff(KeyBackoff),
    /// The key has no problem any more.
    Recovered,
    /// Runs are counted by another timetable.
    TimetableChanged(TimetableChange),
    /// A scheduled run fell due while this process runs, and no rotation can start yet.
    RunDue(DueRun),
    /// A scheduled run was missed.
    RunMissed(MissedRun),
}

/// The next attempt to rotate a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBackoff {
    /// The number of consecutive failures.
    pub attempt: u32,
    /// The earliest time of the next scheduled rotation.
    pub retry_at: Timestamp,
    /// Why the rotation failed or could not start.
    pub problem: String,
    /// Whether it failed before its create was sent: a repaired host or configuration may
    /// have ended the problem.
    pub is_before_create: bool,
    /// Whether the attempt was made in addition to those of the back-off, which stay as
    /// they are.
    pub is_extra: bool,
}

/// The timetable that a key's runs are counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimetableChange {
    /// The timetable as text.
    pub timetable: String,
    /// Runs up to this time do not count.
    pub counts_from: Option<Timestamp>,
    /// A missed run of the previous timetable for which a rotation has yet to run.
    pub pending_run: Option<Timestamp>,
}

/// A scheduled run that fell due while a process runs, and waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    /// The scheduled time.
    pub firing: Timestamp,
}

/// A scheduled run at which no process was able to rotate the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissedRun {
    /// The scheduled time.
    pub firing: Timestamp,
    /// Why it was missed.
    pub reason: DowntimeReason,
    /// Whether it is older than `catch-up-window`, so that no rotation follows.
    pub is_skipped: bool,
}

/// Why a scheduled run was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DowntimeReason {
    /// The daemon was not running.
    NotRunning,
    /// The host slept, or its clock was set forward.
    Suspended,
    /// An operator had paused the key.
    Paused,
}

impl DowntimeReason {
    /// Returns the reason as text, for the ledger's events and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "rekeyd was not running",
            Self::Suspended => "the host slept, or its clock was set forward",
            Self::Paused => "the key was paused",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_downtime_reason_has_its_text() {
        for (reason, text) in [
            (DowntimeReason::NotRunning, "rekeyd was not running"),
            (
                DowntimeReason::Suspended,
                "the host slept, or its clock was set forward",
            ),
            (DowntimeReason::Paused, "the key was paused"),
        ] {
            assert_eq!(reason.as_str(), text);
        }
    }
}
