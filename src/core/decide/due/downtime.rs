//! The times in which no process could start a scheduled run.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::DowntimeReason;
use crate::core::state::KeyState;
use crate::core::time;

/// A time in which no process could start a scheduled run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downtime {
    /// Its start.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Its cause.
    pub reason: DowntimeReason,
}

impl Downtime {
    /// Returns the downtime before a process that started at `at`.
    #[must_use]
    pub const fn before_start(at: Timestamp) -> Self {
        Self {
            from: Timestamp::MIN,
            to: at,
            reason: DowntimeReason::NotRunning,
        }
    }

    /// Returns an empty downtime, for a command that only reads and knows of none.
    #[must_use]
    pub const fn none(now: Timestamp) -> Self {
        Self {
            from: now,
            to: now,
            reason: DowntimeReason::NotRunning,
        }
    }
}

/// Returns why a run was missed, and when the downtime ended.
pub(super) fn find_downtime(
    firing: Timestamp,
    state: &KeyState,
    downtime: Downtime,
    now: Timestamp,
) -> Option<(DowntimeReason, Timestamp)> {
    let pause = state.pause.and_then(|pause| {
        Some(Downtime {
            from: time::before(pause.from, Duration::from_secs(1)),
            to: pause.until.filter(|until| *until <= now)?,
            reason: DowntimeReason::Paused,
        })
    });
    [Some(downtime), pause]
        .into_iter()
        .flatten()
        .filter(|downtime| downtime.from < firing && firing < downtime.to)
        .map(|downtime| (downtime.reason, downtime.to))
        .max_by_key(|(_, until)| *until)
}
