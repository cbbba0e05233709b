//! The delays after consecutive failures.

use std::time::Duration;

/// The delays after consecutive failures, in seconds. The last one repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff(pub &'static [u64]);

impl Backoff {
    /// Returns the delay after the `attempt`th consecutive failure, counted from
    /// 1; zero if the table is empty.
    #[must_use]
    pub fn delay(self, attempt: u32) -> Duration {
        let index = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let seconds = self.0.get(index).or(self.0.last());
        Duration::from_secs(seconds.copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_delay_repeats() {
        let backoff = Backoff(&[5, 15, 60]);
        for (attempt, seconds) in [(0, 5), (1, 5), (2, 15), (3, 60), (4, 60), (u32::MAX, 60)] {
            let expected = Duration::from_secs(seconds);
            assert_eq!(backoff.delay(attempt), expected, "{attempt}");
        }
        assert_eq!(Backoff(&[]).delay(1), Duration::ZERO);
    }
}
