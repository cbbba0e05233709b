//! The simulated clocks: the provider's, which is right, and this host's, which steps.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rekeyd::core::time;
use rekeyd::platform::clock::Clock;

use super::SimWorld;

/// The delay after which a step of this host's clock is corrected.
const CLOCK_ERROR_DURATION: Duration = Duration::from_secs(2 * 3_600);

/// The error of this host's clock after a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockError {
    /// The time from the start to the correction.
    until: Duration,
    offset: SignedDuration,
}

impl ClockError {
    /// Returns the error of a clock that steps now by `days`.
    pub(super) fn from_step(elapsed: Duration, days: i64) -> Self {
        Self {
            until: elapsed + CLOCK_ERROR_DURATION,
            offset: SignedDuration::from_hours(24 * days),
        }
    }
}

/// This host's clock.
impl Clock for SimWorld {
    fn now(&self) -> Timestamp {
        let elapsed = self.elapsed();
        let mut state = self.state();
        if !state.count_clock_read() {
            drop(state);
            panic!("the engine is in a livelock");
        }
        let error = state.clock_error.filter(|error| elapsed < error.until);
        let now = time::after(self.start_time, elapsed);
        error.map_or(now, |error| now.checked_add(error.offset).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.elapsed()
    }
}

impl SimWorld {
    /// Returns the true time, which is the provider's.
    pub(crate) fn true_now(&self) -> Timestamp {
        time::after(self.start_time, self.elapsed())
    }

    /// Returns the time from the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns whether this host's clock may step.
    pub(crate) fn clock_may_step(&self) -> bool {
        self.state().plan.may_step_clock()
    }
}
