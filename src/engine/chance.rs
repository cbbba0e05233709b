//! Randomness, handed to the engine so that a simulation can repeat it.

use ring::rand::{SecureRandom as _, SystemRandom};

/// Gives random bytes.
pub trait Chance: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance>;
}

/// The system has no randomness to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoChance;

/// The host's randomness.
#[derive(Debug, Clone)]
pub struct HostChance(SystemRandom);

impl HostChance {
    /// The host's randomness.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the host"
    )]
    #[must_use]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for HostChance {
    fn default() -> Self {
        Self::new()
    }
}

impl Chance for HostChance {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        self.0.fill(bytes).map_err(|_| NoChance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike() {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        HostChance::new().fill(&mut first).unwrap();
        HostChance::new().fill(&mut second).unwrap();
        assert!(first != second && first != [0; 8]);
    }
}
