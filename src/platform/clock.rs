//! The clock, handed to the engine so that a simulation can hand in another.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::core::time;

/// A clock that goes back by less was corrected, not set: NTP slews.
const MAX_SLEW: Duration = Duration::from_secs(2);

/// A clock that goes ahead by more than this was set, or the host slept: what
/// fired meanwhile was missed.
const MAX_FORWARD_GAP: Duration = Duration::from_secs(30);

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump in either direction.
    fn now(&self) -> Timestamp;

    /// The time since some moment before. It never jumps, and it stands still
    /// while the host sleeps: what the wall clock did besides is seen by it.
    fn monotonic(&self) -> Duration;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the host"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        BEGIN.get_or_init(Instant::now).elapsed()
    }
}

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    /// By the wall clock.
    pub wall: Timestamp,
    monotonic: Duration,
}

/// How the wall clock went otherwise than time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockJump {
    /// It was set back.
    Backward,
    /// It was set forward by so much, or the host slept so long.
    Forward(Duration),
}

impl ClockReading {
    /// The present one.
    pub fn read(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        }
    }

    /// How the clocks have parted between this moment and a `later` one, if they
    /// have.
    #[must_use]
    pub fn jump_until(self, later: Self) -> Option<ClockJump> {
        let passed = later.monotonic.saturating_sub(self.monotonic);
        let expected = time::after(self.wall, passed);
        if time::until(later.wall, expected) > MAX_SLEW {
            return Some(ClockJump::Backward);
        }
        let ahead = time::until(expected, later.wall);
        (ahead > MAX_FORWARD_GAP).then_some(ClockJump::Forward(ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slewing_is_not_reported_as_a_clock_jump() {
        let moment = |wall: i64, monotonic: u64| ClockReading {
            wall: Timestamp::from_second(wall).unwrap(),
            monotonic: Duration::from_secs(monotonic),
        };
        let ahead = |seconds| Some(ClockJump::Forward(Duration::from_secs(seconds)));
        for (wall, monotonic, parted) in [
            (1_000, 100, None),
            (1_100, 200, None),
            (1_098, 200, None),
            (1_097, 200, Some(ClockJump::Backward)),
            (0, 100, Some(ClockJump::Backward)),
            (1_130, 200, None),
            (1_131, 200, ahead(31)),
            (1_031, 100, ahead(31)),
        ] {
            let later = moment(wall, monotonic);
            let found = moment(1_000, 100).jump_until(later);
            assert_eq!(found, parted, "{wall} {monotonic}");
        }
    }
}
