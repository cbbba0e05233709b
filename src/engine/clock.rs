//! The clock, handed to the engine so that a simulation can hand in another.

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump in either direction.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostClock;

impl Clock for HostClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the host"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
