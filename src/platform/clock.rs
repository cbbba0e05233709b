//! The clock, injected into the engine so that a simulation can replace it.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::core::time;

/// The largest step back that counts as a correction, as NTP makes them.
const MAX_SLEW: Duration = Duration::from_secs(2);

/// The largest step forward that is no jump. After a larger one the clock was
/// set, or the host was suspended, and scheduled runs were missed.
const MAX_FORWARD_GAP: Duration = Duration::from_secs(30);

/// A source of wall-clock and monotonic time.
pub trait Clock: Send + Sync {
    /// Returns the time of the wall clock, which may jump in either direction.
    fn now(&self) -> Timestamp;

    /// Returns the time since a fixed moment. It never jumps and stops while
    /// the host is suspended, so that a comparison with it reveals jumps of the
    /// wall clock.
    fn monotonic(&self) -> Duration;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only caller of the host's clock"
    )]
    fn now(&self) -> Timestamp {
        time::from_system(SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    /// The time of the wall clock.
    pub wall: Timestamp,
    monotonic: Duration,
}

/// A difference between the wall clock and monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockJump {
    /// The wall clock was set back by this time.
    Backward(Duration),
    /// The wall clock was set forward by this time, or the host was suspended
    /// for it.
    Forward(Duration),
}

impl ClockReading {
    /// Reads both clocks.
    pub fn read(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        }
    }

    /// Returns the jump of the wall clock between this reading and a `later`
    /// one, if it jumped.
    #[must_use]
    pub fn jump_until(self, later: Self) -> Option<ClockJump> {
        let elapsed = later.monotonic.saturating_sub(self.monotonic);
        let expected = time::after(self.wall, elapsed);
        let lost = time::until(later.wall, expected);
        if lost > MAX_SLEW {
            return Some(ClockJump::Backward(lost));
        }
        let gap = time::until(expected, later.wall);
        (gap > MAX_FORWARD_GAP).then_some(ClockJump::Forward(gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slewing_is_not_reported_as_a_clock_jump() {
        let reading = |wall: i64, monotonic: u64| ClockReading {
            wall: Timestamp::from_second(wall).unwrap(),
            monotonic: Duration::from_secs(monotonic),
        };
        let forward = |seconds| Some(ClockJump::Forward(Duration::from_secs(seconds)));
        let backward = |seconds| Some(ClockJump::Backward(Duration::from_secs(seconds)));
        for (wall, monotonic, expected) in [
            (1_000, 100, None),
            (1_100, 200, None),
            (1_098, 200, None),
            (1_097, 200, backward(3)),
            (0, 100, backward(1_000)),
            (1_130, 200, None),
            (1_131, 200, forward(31)),
            (1_031, 100, forward(31)),
        ] {
            let later = reading(wall, monotonic);
            let found = reading(1_000, 100).jump_until(later);
            assert_eq!(found, expected, "{wall} {monotonic}");
        }
    }
}
